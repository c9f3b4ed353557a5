"""`python -m tests.faults`: a history under faults, and what it broke. `make faults` calls it."""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.invariants import differences
from tests.faults.run import Figures, Plan, disturbed, drawn, undisturbed
from tests.faults.switched_off import REMEDIES, check_remedy
from tests.faults.world import History


def main() -> int:
    """Run it; 0 if every invariant holds, or if none is left unbroken without its remedy."""
    options = _options()
    history = History(options.seed, options.batches)
    with tempfile.TemporaryDirectory(prefix="trimtab-faults-") as folder:
        home = options.home or Path(folder)
        if options.without:
            return _without(options.without, home)
        plan = Plan(drawn(history, options.faults), options.minutes * 60)
        figures = disturbed(home / "disturbed", history, plan, said)
        said(f"the same {figures.batches} batches without faults")
        expected = undisturbed(home / "undisturbed", history, figures.batches, said)
        figures.violations += differences(figures.decisions, expected)
    show(figures)
    return 1 if figures.violations else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="feed for so long")
    parser.add_argument("--home", type=Path, help="an empty folder that is kept")
    parser.add_argument(
        "--without",
        nargs="+",
        choices=sorted(REMEDIES),
        help="switch remedies off, one at a time, and show what breaks",
    )
    return parser.parse_args()


def _without(remedies: list[str], home: Path) -> int:
    unbroken = 0
    for name in remedies:
        broken = check_remedy(name, home / name, said)
        unbroken += not broken
        print(f"without {name}: {len(broken)} violations", flush=True)
        for violation in broken[:5]:
            print(f"  broken: {violation[:300]}")
    return 1 if unbroken else 0


def said(text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def show(figures: Figures) -> None:
    """Faults by kind with their recovery times, and what was broken."""
    print(f"{'fault':42} {'times':>5} {'recovery, median':>17} {'worst':>7}")
    for kind, times in sorted(figures.injected.items()):
        seconds = figures.recoveries.get(kind) or [float("nan")]
        middle, worst = statistics.median(seconds), max(seconds)
        print(f"{kind:42} {times:5} {middle:15.1f} s {worst:5.1f} s")
    decisions = figures.decisions
    print(
        f"{sum(figures.injected.values())} faults ({figures.not_met} never met) over "
        f"{figures.batches} batches in {figures.seconds:.0f} s on {os.cpu_count()} cores; "
        f"{len(decisions.reports)} reports, {len(decisions.models)} models\n"
        f"{figures.messages} messages, {figures.messages_again} of them again after an answer was "
        f"lost ({figures.answers_lost} may have been); {figures.replayed} dead letters replayed, "
        f"{figures.overtaken} of them too late to be published\n"
        f"{len(figures.violations)} violations"
    )
    for violation in figures.violations:
        print(f"  broken: {violation}")


if __name__ == "__main__":
    sys.exit(main())
