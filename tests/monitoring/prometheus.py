"""A real Prometheus with the committed configuration, on loopback."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from services.cli.embedded.process import Process, free_port, wait_until_listening
from tests.e2e.conftest import wait_for
from tests.monitoring.queries import DEPLOY

FETCHED = DEPLOY.parent / ".venv" / "prometheus" / "usr" / "bin" / "prometheus"
"""Where `make lint` and `make test` put Debian's package."""


def prometheus_binary() -> str | None:
    """The server on PATH, else the fetched one, if there is one."""
    return shutil.which("prometheus") or (str(FETCHED) if FETCHED.exists() else None)


@contextmanager
def watching(binary: str, exporter: str, folder: Path) -> Iterator[str]:
    """Prometheus' address while it scrapes an exporter (`HOST:PORT`) every second."""
    port = free_port()
    configuration = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    for written, here in (
        ("exporter:9464", exporter),
        ("localhost:9090", f"127.0.0.1:{port}"),
        ("_interval: 15s", "_interval: 1s"),
    ):
        assert written in configuration
        configuration = configuration.replace(written, here)
    (folder / "prometheus.yml").write_text(configuration, encoding="utf-8")
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
    process = Process(
        "prometheus",
        [
            *(binary, f"--config.file={folder / 'prometheus.yml'}"),
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        folder / "prometheus.log",
    )
    process.start()
    try:
        wait_until_listening(process, port)
        address = f"http://127.0.0.1:{port}"
        ready = wait_for(lambda: httpx.get(f"{address}/-/ready").status_code == 200, 20)
        assert ready, process.last_words()
        yield address
    finally:
        process.stop()
