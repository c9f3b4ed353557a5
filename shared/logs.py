"""Logging: one JSON object a line in containers, readable lines in a terminal."""

import logging
import os
import sys
import threading
from typing import Any, Final, NoReturn

import structlog
from celery.utils.log import LoggingProxy
from structlog.typing import EventDict, Processor

from shared.settings import SettingsError, read_log_settings

log = structlog.get_logger(__name__)

_TALKATIVE: Final = ("httpx", "httpcore", "pymongo", "git", "apprise", "urllib3")


def start_logging() -> None:
    """Log from here on as LOG_FORMAT and LOG_LEVEL say; a wrong one ends the process."""
    try:
        settings = read_log_settings()
    except SettingsError as error:
        _configure(as_json=os.environ.get("LOG_FORMAT") == "json", level="INFO")
        refuse_to_start(error)
    _configure(as_json=settings.log_format == "json", level=settings.log_level)


def refuse_to_start(reason: object) -> NoReturn:
    """Say in one line why the process cannot do its work, and end it."""
    log.critical(str(reason))
    sys.exit(2)


def _configure(*, as_json: bool, level: str) -> None:
    """Send every line of the process, the libraries' too, to standard error by structlog.

    Those are log lines, warnings, and exceptions that nobody caught. As JSON they are also what is
    printed, so that every line is one object.
    """
    steps: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_as_json() if as_json else _as_text()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for talkative in _TALKATIVE:
        logging.getLogger(talkative).setLevel(logging.WARNING)
    _log_what_nobody_caught()
    if as_json:
        _log_what_is_printed()


def _as_json() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        _time_first,
        structlog.processors.JSONRenderer(),
    ]


def _time_first(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """So that lines of several processes can be put in order by `sort`."""
    return {name: line[name] for name in ("timestamp", "level", "logger", "event")} | dict(line)


def _as_text() -> list[Processor]:
    in_terminal = sys.__stderr__ is not None and sys.__stderr__.isatty()
    return [
        structlog.dev.ConsoleRenderer(
            colors=in_terminal,
            sort_keys=False,  # what a line says stands before the ids, which all lines have
            # Any other formatter shows local variables, and so secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _log_what_nobody_caught() -> None:
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, trace: _uncaught((kind, error, trace))
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = lambda caught: _uncaught(
        (caught.exc_type, caught.exc_value, caught.exc_traceback)
    )


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_type is not SystemExit:  # by which a thread may end itself
        _uncaught((caught.exc_type, caught.exc_value, caught.exc_traceback))


def _uncaught(exception: Any) -> None:
    log.critical("uncaught exception", exc_info=exception)


def _log_what_is_printed() -> None:
    """Celery writes its banner and its farewell past `sys.stdout`, to the stream of the start."""
    printed = LoggingProxy(logging.getLogger("stdout"), logging.INFO)
    sys.stdout = sys.__stdout__ = printed  # type: ignore[assignment, misc]
    sys.stderr = LoggingProxy(logging.getLogger("stderr"), logging.WARNING)
