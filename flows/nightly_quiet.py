"""Keeps stack traces out of the log for what has a sentence for the user. Those of bugs stay."""

import logging

from liveness_etl.errors import LivenessError


def leave_out_expected() -> None:
    """Drop what Prefect logs on top of 'Finished in state Failed(sentence)': the same once more, with a stack trace."""
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    if not isinstance(record.exc_info, tuple):
        return True
    # Without an exception at all: a task that returned the state Failed.
    return record.exc_info[1] is not None and not isinstance(record.exc_info[1], LivenessError)
