"""The exporter's HTTP: `/metrics` for Prometheus, `/healthz` for whatever keeps it running."""

from collections.abc import Iterable
from contextlib import closing, suppress
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from pymongo.errors import PyMongoError

from services.exporter.collector import SystemCollector
from shared.celery_app import celery_app
from shared.installation import require_not_foreign
from shared.settings import Settings, SettingsError
from shared.stage import Resources

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)


class _Server(ThreadingMixIn, WSGIServer):
    """A scrape that waits for the store holds up neither another nor the health check."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 30
    """Seconds that a client may take to send its request."""

    def log_message(self, *_: object) -> None:
        """Say nothing: a line a scrape would be all that the log holds."""


def serve(settings: Settings) -> None:
    """Serve until the process is told to end.

    Raises:
        SettingsError: EXPORTER_ADDRESS or EXPORTER_PORT is not to be had, the broker is a cluster,
            or another installation works on it.
        PipelineError: a pipeline file is not usable.
    """
    with (
        closing(Resources.attach(settings, celery_app(lambda: settings))) as resources,
        listening(resources) as server,
    ):
        with suppress(PyMongoError):  # a store that is away is a figure, and no reason to be away
            require_not_foreign(resources.store, resources.broker, settings)
        log.info("listens", address=settings.exporter_address, port=server.server_port)
        server.serve_forever()


def listening(resources: Resources) -> WSGIServer:
    """The server, which has its port and does not serve yet.

    Raises:
        SettingsError: the address or the port is not to be had.
    """
    settings = resources.settings
    address, port = settings.exporter_address, settings.exporter_port
    try:
        return make_server(address, port, application(resources), _Server, _Handler)
    except OSError as error:
        raise SettingsError(
            f"the exporter cannot listen on {address}:{port}: {error.strerror}; set "
            "EXPORTER_ADDRESS and EXPORTER_PORT to what this machine has free"
        ) from None


def application(resources: Resources) -> "WSGIApplication":
    """The two addresses as a WSGI application."""
    registry = CollectorRegistry()
    system = SystemCollector(resources)
    registry.register(system)
    ProcessCollector(registry=registry)
    figures: WSGIApplication = make_wsgi_app(registry, disable_compression=True)

    def answer(environment: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        match environment["PATH_INFO"]:
            case "/metrics":
                return figures(environment, start)
            case "/healthz":
                return _health(system, start)
        return _text(start, HTTPStatus.NOT_FOUND, "there are /metrics and /healthz")

    return answer


def _health(system: SystemCollector, start: "StartResponse") -> Iterable[bytes]:
    """Healthy: the store and the broker answer. It asks them as a scrape does."""
    failures = {name: reading.failure for name, reading in system.read().items() if reading.failure}
    if not failures:
        return _text(start, HTTPStatus.OK, "healthy")
    said = "; ".join(f"the {name} does not answer: {why}" for name, why in failures.items())
    return _text(start, HTTPStatus.SERVICE_UNAVAILABLE, said)


def _text(start: "StartResponse", status: HTTPStatus, text: str) -> Iterable[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]
