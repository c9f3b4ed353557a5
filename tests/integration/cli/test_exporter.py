"""`trimtab exporter` beside a system in a folder."""

import os
import sys
from pathlib import Path

import httpx

from services.cli.embedded.process import Process, free_port, wait_until_listening
from shared.store import Store


def test_it_serves_the_system_in_a_folder(home: Path, store: Store, tmp_path: Path) -> None:
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    process = Process(
        "exporter",
        [sys.executable, "-m", "services.cli.main", "exporter", "--home", str(home)],
        tmp_path / "log",
        kept | {"EXPORTER_PORT": str(port)},
    )
    process.start()
    try:
        wait_until_listening(process, port)
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{address}/healthz", timeout=20).text == "healthy\n"
        assert (
            'trimtab_batches_total{pipeline="parcels"} 0.0' in httpx.get(f"{address}/metrics").text
        )
        assert httpx.get(f"{address}/").status_code == 404
    finally:
        process.stop()
