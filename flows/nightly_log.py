"""With `log.format = "json"` what a flow run logs on standard error is JSON too: one object a line, as the commands'.

Prefect's API gets the lines as they are. What Prefect logs before the flow begins has the form of its own settings.
"""

import logging

from liveness_etl import logs
from liveness_etl.job import Job


def start_log(job: Job) -> None:
    """In the form and from the level of `[log]`; "text" leaves all to Prefect's own configuration."""
    if job.settings.log.format != "json":
        return
    logs.start(job.settings.log.level, "json")
    logs.about(run_id=job.run_id)
    for logger in (logging.getLogger(), logging.getLogger("prefect")):
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler):  # Prefect's own for terminals is one
                handler.setFormatter(logs.JsonLines())
