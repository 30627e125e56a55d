"""What goes to standard error: log lines, and what is said to a person. As JSON, each is one object on one line.

`start` decides the form; until then, and in the form "text", what is said is printed as it is.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

_PACKAGE: Final = "liveness_etl"
_EXTRA: Final = ("run_id", "source", "flow_run_id")

_log = logging.getLogger(_PACKAGE)
_about: dict[str, str] = {}
_form = "text"


class JsonLines(logging.Formatter):
    """time (ISO 8601, UTC), level, logger, message; run_id, source and flow_run_id where known; exception."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: str(found) for name in _EXTRA if (found := getattr(record, name, _about.get(name)))}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _StandardError(logging.Handler):
    """Looks sys.stderr up at each line: a progress bar takes its place for a while. One write a line."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


_handler: Final = _StandardError()


def form_of(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """The form that a command line or the environment wants, before any of it is checked."""
    given = [environ[name] for name in environ if name.upper() == "LIVENESS_ETL__LOG__FORMAT"]
    for at, argument in enumerate(arguments):
        if argument == "--log-format":
            given += arguments[at + 1 : at + 2]
        elif argument.startswith("--log-format="):
            given.append(argument.partition("=")[2])
    return "json" if given and given[-1] == "json" else "text"


def start(level: str, form: str) -> None:
    """Send the program's log lines to standard error. As "json" also those of libraries, Python's warnings, and what
    nobody caught, on whatever thread."""
    global _form
    _form = form
    _about.clear()
    root = logging.getLogger()
    for logger in (root, _log):
        logger.removeHandler(_handler)
    (root if form == "json" else _log).addHandler(_handler)
    _handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("%(levelname)s %(message)s"))
    _log.setLevel(level)
    logging.captureWarnings(form == "json")
    if form == "json":
        sys.excepthook, threading.excepthook = _uncaught, _uncaught_in_thread
    elif sys.excepthook is _uncaught:
        sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__


def about(**fields: str) -> None:
    """What every JSON line carries from now on, such as run_id, until the next `start`."""
    _about.update(fields)


def is_json() -> bool:
    """Whether the lines are for a machine: then there is no progress bar."""
    return _form == "json"


def say(line: str, level: int = logging.INFO, *, source: str | None = None) -> None:
    """A line for a person on standard error, beginning with "warning: " or "error: " where it is one."""
    if is_json():
        _log.log(level, "%s", _bare(line, level), extra={"source": source})
    else:
        print(line, file=sys.stderr)


def say_at_once(line: str) -> None:
    """As `say`, without waiting for anybody's lock."""
    if is_json():
        record = _log.makeRecord(_PACKAGE, logging.WARNING, "", 0, line, (), None)
        os.write(2, (JsonLines().format(record) + "\n").encode())
    else:
        os.write(2, f"\n{line}\n".encode())


def _bare(line: str, level: int) -> str:
    return line.removeprefix(f"{logging.getLevelName(level).lower()}: ")


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    _log.critical("a bug: %s", kind.__name__, exc_info=(kind, error or kind(), traceback))


def _uncaught_in_thread(died: threading.ExceptHookArgs) -> None:
    _uncaught(died.exc_type, died.exc_value, died.exc_traceback)
