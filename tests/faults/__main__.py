"""`python -m tests.faults`: a history under faults, and what it broke. `make faults` calls it."""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.run import Figures, disturbed, undisturbed
from tests.faults.world import History


def main() -> int:
    """Run it; 0 if every invariant holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--home", type=Path, help="an empty folder that is kept")
    options = parser.parse_args()
    history = History(options.seed, options.batches)
    with tempfile.TemporaryDirectory(prefix="trimtab-faults-") as folder:
        home = options.home or Path(folder)
        said("without faults")
        expected = undisturbed(home / "undisturbed", history, said)
        said(f"{len(expected.batches)} batches, {len(expected.models)} models")
        figures = disturbed(home / "disturbed", history, options.faults, expected, said)
    show(figures)
    return 1 if figures.violations else 0


def said(text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)  # noqa: T201


def show(figures: Figures) -> None:
    """Faults by kind with their recovery times, and what was broken."""
    print(f"{'fault':30} {'times':>5} {'recovery, median':>17} {'worst':>7}")  # noqa: T201
    for kind, times in sorted(figures.injected.items()):
        seconds = figures.recoveries.get(kind) or [float("nan")]
        middle, worst = statistics.median(seconds), max(seconds)
        print(f"{kind:30} {times:5} {middle:15.1f} s {worst:5.1f} s")  # noqa: T201
    print(  # noqa: T201
        f"{sum(figures.injected.values())} faults; {figures.duplicates} messages whose answer was "
        f"lost; {figures.replayed} dead letters replayed; {len(figures.violations)} violations"
    )
    for violation in figures.violations:
        print(f"  broken: {violation}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
