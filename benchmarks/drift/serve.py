"""Runs one peer in its environment: `python -m benchmarks.drift.serve MODULE:CLASS REFERENCE`.

It fits the reference, says so, and then answers every line on standard input with one line of
JSON: `load PATH` with what a check of that batch says, `check` with the seconds of one.
"""

import importlib
import json
import os
import statistics
import sys
import time
from importlib.metadata import version
from typing import Any, Final, TextIO

from pyarrow import parquet

REPEATED_SECONDS: Final = 0.3
"""Checks that are shorter are repeated for so long; the median counts."""


def main() -> None:
    output = _own_output()
    module, _, name = sys.argv[1].partition(":")
    started = time.perf_counter()
    peer = getattr(importlib.import_module(module), name)()
    imported = time.perf_counter() - started
    reference = parquet.read_table(sys.argv[2])
    started = time.perf_counter()
    peer.fit(reference)
    fitted = time.perf_counter() - started
    about = {"import_seconds": imported, "fit_seconds": fitted, "version": _version(peer.package)}
    _say(output, about)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        _say(output, _loaded(peer, argument) if command == "load" else _timed(peer))


def _own_output() -> TextIO:
    """Standard output for the protocol alone: what a library prints goes to standard error."""
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return protocol


def _version(package: str | None) -> str | None:
    return version(package) if package else None


def _say(output: TextIO, answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=output, flush=True)


def _loaded(peer: Any, path: str) -> dict[str, Any]:
    """Load a batch; the first check of it warms up."""
    peer.load(parquet.read_table(path))
    return {"drift": peer.sees_drift(peer.check())}


def _timed(peer: Any) -> dict[str, Any]:
    seconds: list[float] = []
    while sum(seconds) < REPEATED_SECONDS:
        started = time.perf_counter()
        peer.check()
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds)}


if __name__ == "__main__":
    main()
