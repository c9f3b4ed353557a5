"""`python -m tests.fuzz`: hostile input for every reader, and what became of it."""

import argparse
import sys
import time
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS, Target, peak_mib, throw

MOST_MEMORY_MIB = 700
"""With everything that is loaded; no case may bring the process above it."""


def main() -> int:
    """Run it; 0 if every input had its outcome."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="over all readers together")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{'reader':16} {'cases':>7} {'seconds':>8}  what became of them")
    failed = 0
    weights = sum(target.weight for target in TARGETS)
    for target in TARGETS:
        cases = -(-options.cases * target.weight // weights)
        began, outcomes = time.perf_counter(), Counter[str]()
        fault = _fault(target, cases, options.seed, outcomes)
        told = ", ".join(f"{word} {times:,}" for word, times in outcomes.most_common())
        seconds = time.perf_counter() - began
        print(f"{target.name:16} {outcomes.total():7,} {seconds:8.0f}  {told}", flush=True)
        if fault:
            failed += 1
            print(f"  failed: {fault}", flush=True)
    print(f"largest memory {peak_mib():,.0f} MiB")
    return 1 if failed else 0


def _fault(target: Target, cases: int, number: int, outcomes: Counter[str]) -> str | None:
    """Throw so many cases; returns the smallest that failed, with how."""

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def case(given_: Any) -> None:
        try:
            throw(target, given_, outcomes)
            assert peak_mib() < MOST_MEMORY_MIB
        except Exception as error:
            error.add_note(f"the input was {given_!r}"[:2_000])
            raise

    try:
        case()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
        return f"{type(error).__name__}: {error} {getattr(error, '__notes__', [])}"
    return None


if __name__ == "__main__":
    sys.exit(main())
