"""Logging: one JSON object a line in containers, readable lines in a terminal."""

import logging
import sys
import threading
from typing import Any, Final, NoReturn

import structlog
from celery.utils.log import LoggingProxy

from shared.settings import LogSettings, SettingsError, read_log_settings

log = structlog.get_logger(__name__)

_TALKATIVE: Final = ("httpx", "httpcore", "pymongo", "git", "apprise", "urllib3")


def start_logging() -> None:
    """Log from here on as LOG_FORMAT and LOG_LEVEL say; a wrong one ends the process."""
    try:
        configure_logging(read_log_settings())
    except SettingsError as error:
        configure_logging(LogSettings.model_construct())
        refuse_to_start(error)


def refuse_to_start(reason: object, status: int = 2) -> NoReturn:
    """Say in one line why the process cannot do its work, and end it."""
    log.critical(str(reason))
    sys.exit(status)


def configure_logging(settings: LogSettings) -> None:
    """Send every line of the process, the libraries' too, to standard error by structlog.

    Those are log lines, warnings, and exceptions that nobody caught. With LOG_FORMAT=json they are
    also what is printed, so that every line is one JSON object.
    """
    as_json = settings.log_format == "json"
    steps: list[structlog.typing.Processor] = [
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
    root.setLevel(settings.log_level)
    for talkative in _TALKATIVE:
        logging.getLogger(talkative).setLevel(logging.WARNING)
    _log_what_nobody_caught()
    if as_json:
        _log_what_is_printed()


def _as_json() -> list[structlog.typing.Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _as_text() -> list[structlog.typing.Processor]:
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
    threading.excepthook = lambda caught: _uncaught(
        (caught.exc_type, caught.exc_value, caught.exc_traceback)
    )
    sys.unraisablehook = lambda caught: _uncaught(
        (caught.exc_type, caught.exc_value, caught.exc_traceback)
    )


def _uncaught(exception: Any) -> None:
    log.critical("uncaught exception", exc_info=exception)


def _log_what_is_printed() -> None:
    """Celery writes its banner and its farewell past `sys.stdout`, to the stream of the start."""
    printed = LoggingProxy(logging.getLogger("stdout"), logging.INFO)
    sys.stdout = sys.__stdout__ = printed  # type: ignore[assignment, misc]
    sys.stderr = LoggingProxy(logging.getLogger("stderr"), logging.WARNING)
