"""Prints the tables of docs/statistics.md: `python -m benchmarks.statistics NAME`."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.statistics import (
    categories,
    monitoring,
    performance,
    recorded,
    single,
    small_samples,
)
from benchmarks.statistics.tables import DRIFTS

SIZES = [10, 50, 100, 300, 1000, 3000]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("false-alarms", "power", "monitoring", "segments", "recorded", "small-samples")
    parser.add_argument("name", choices=(*names, "performance", "categories", "cell"))
    parser.add_argument("--kind", choices=categories.kinds(), help="of column, for `cell`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--references", type=int, default=10)
    parser.add_argument("--rows", type=int, default=10_000, help="of the reference")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the batches")
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--snapshots", type=Path, default=Path("../shared/data/aqi"))
    options = parser.parse_args()
    {
        "false-alarms": _false_alarms,
        "power": _power,
        "monitoring": _monitoring,
        "segments": _segments,
        "recorded": _recorded,
        "small-samples": _small_samples,
        "performance": _performance,
        "categories": _categories,
        "cell": _cell,
    }[options.name](options)


def _false_alarms(options: argparse.Namespace) -> None:
    rates = single.false_alarms(
        options.rows, options.sizes, options.references, options.batches, options.seed
    )
    _print(
        ["rows", *(f"@{level}" for level in single.LEVELS), *single.OTHERS],
        ([size, *map(_rate, found)] for size, found in rates.items()),
    )


def _power(options: argparse.Namespace) -> None:
    found = single.power(
        options.rows, options.sizes, options.references, options.batches, options.seed
    )
    for size, rows in found.items():
        _say(f"\n{size} rows\n")
        _print(["rule", *DRIFTS], ([rule, *map(_rate, rates)] for rule, rates in rows.items()))


def _monitoring(options: argparse.Namespace) -> None:
    rows = []
    for size in options.sizes:
        alarms = np.array(monitoring.alarms(options.rows, size, options.references, options.seed))
        total = alarms.sum(1)
        error = total.std() / np.sqrt(len(total))
        by_window = (f"{mean:.2f}" for mean in alarms.mean(0))
        rows.append([size, f"{total.mean():.2f} ± {error:.2f}", *by_window])
    _print(["rows", "alarms per 1,000", *map(str, monitoring.SETTINGS.windows)], rows)


def _segments(options: argparse.Namespace) -> None:
    rates = single.segmented_false_alarms(
        options.rows, options.sizes, options.references, options.batches, options.seed
    )
    _print(
        ["segments", "rows", *(f"@{level}" for level in single.LEVELS)],
        ([number, size, *map(_rate, found)] for (number, size), found in rates.items()),
    )


def _recorded(options: argparse.Namespace) -> None:
    rows = []
    for clustered in (True, False):
        rates = recorded.false_alarms(
            options.snapshots,
            options.sizes,
            options.references,
            options.batches,
            options.seed,
            clustered,
        )
        rows += [
            ["station" if clustered else "none", size, *map(_rate, found)]
            for size, found in rates.items()
        ]
    _print(["cluster", "rows", *(f"@{level}" for level in recorded.LEVELS)], rows)
    rows = []
    for segmented in (True, False):
        found = recorded.detections(
            options.snapshots, 0, 1, 1000, options.batches, options.seed, segmented
        )
        rows.append(["pollutant_id" if segmented else "none", _rate(found)])
    _print(["segment", "first against second snapshot, 1,000 rows, p ≤ 0.001"], rows)


def _small_samples(options: argparse.Namespace) -> None:
    found = small_samples.excesses(1_000_000, options.seed)
    _print(list(found[0]), (list(row.values()) for row in found))


def _performance(options: argparse.Namespace) -> None:
    draws = options.references * options.batches
    levels = [f"@{level}" for level in performance.LEVELS]
    for spread in performance.SPREADS:
        _say(f"\nfalse alarms, the groups' spread in the batch {spread:g}\n")
        found = performance.false_alarms(draws, options.seed, spread)
        _print(
            ["test", "held-out groups", "batch groups", *levels],
            ([*key, *(f"{rate:.4f}" for rate in rates)] for *key, rates in found),
        )
    _say("\npower @0.001\n")
    rises = [f"{rise - 1:+.0%}" for rise in performance.RISES]
    _print(
        ["test", "held-out groups", "batch groups", *rises],
        (
            [*key, *map(_rate, rates)]
            for *key, rates in performance.power(draws // 20, options.seed)
        ),
    )


def _cell(options: argparse.Namespace) -> None:
    for size in options.sizes:
        p = categories.cell(
            options.kind, options.rows, size, options.references, options.batches, options.seed
        )
        found = [(p <= level).mean(1) for level in categories.LEVELS]
        errors = [rate.std() / np.sqrt(len(rate)) for rate in found]
        rates = (f"{r.mean():.4f} ± {e:.4f}" for r, e in zip(found, errors, strict=True))
        _say(f"{options.kind}, reference {options.rows:,}, {size:,} rows: {' / '.join(rates)}")


def _categories(options: argparse.Namespace) -> None:
    _print(
        ["what is drawn", "reference", *(f"{size:,} rows" for size in categories.BATCHES)],
        (
            [kind, f"{rows:,}", *map(_rates, found.values())]
            for kind, rows, found in categories.false_alarms(options.references, options.seed)
        ),
    )
    _say("")
    if options.snapshots.is_dir():
        found = categories.recorded_false_alarms(
            options.snapshots, options.references, options.seed
        )
        _print(
            ["all columns of recorded answers", *(f"{size:,} rows" for size in found)],
            [["half of the stations", *map(_rates, found.values())]],
        )
        _say("")
    for rows in (1_000, 10_000):
        _print(
            [f"found in 300 rows, reference of {rows:,}", *(f"@{x}" for x in categories.LEVELS)],
            (
                [change, *map(_rate, rates)]
                for change, rates in categories.power(rows, 300, options.references, options.seed)
            ),
        )
        _say("")
    _print(
        ["each value tested by itself", *(f"@{x}" for x in categories.LEVELS)],
        ([change, *map(_rate, rates)] for change, rates in categories.best_of_single_values(300)),
    )


def _rates(rates: list[float]) -> str:
    return " / ".join(f"{rate:.4f}" for rate in rates)


def _rate(rate: float) -> str:
    return f"{rate:.3f}"


def _print(head: list[str], rows: Iterable[list[object]]) -> None:
    """A Markdown table."""
    _say(f"| {' | '.join(head)} |")
    _say(f"| {' | '.join('---' for _ in head)} |")
    for row in rows:
        _say(f"| {' | '.join(map(str, row))} |")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
