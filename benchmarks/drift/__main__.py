"""How long a drift check takes, beside other tools: `python -m benchmarks.drift [WHAT]`."""

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.drift.comparison import Comparison, comparison_markdown
from benchmarks.drift.contestants import CONTESTANTS, THREADS, YARDSTICK
from benchmarks.drift.profiles import file_checks, file_checks_markdown, fits, fits_markdown

SIZES: Final = (3_000, 100_000, 1_000_000)
ENVIRONMENTS: Final = Path(__file__).parents[2] / ".trimtab" / "benchmarks"

_progress: Final = Console(stderr=True)


def main() -> None:
    options = _parser().parse_args()
    measure = {"compare": _compare, "fit": _fit, "huge": _huge}[options.what]
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as name:
        text, found = measure(options, Path(name))
    sys.stdout.write(f"{text}\n")
    if options.json:
        document = {"machine": _machine(), "what": options.what, "found": found}
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=("compare", "fit", "huge"),
        default="compare",
        help="one check beside other tools; fits and sizes of profiles; the memory of a check of "
        "a large Parquet file",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    compare = parser.add_argument_group("compare")
    compare.add_argument("--rows", type=int, nargs="+", default=SIZES, help="of the batches")
    compare.add_argument("--reference-rows", type=int, default=10_000)
    compare.add_argument("--rounds", type=int, default=5)
    compare.add_argument("--peers", nargs="+", choices=CONTESTANTS, default=[*CONTESTANTS])
    compare.add_argument(
        "--environments", type=Path, default=ENVIRONMENTS, help="folder that keeps them"
    )
    huge = parser.add_argument_group("huge")
    huge.add_argument("--file-rows", type=int, default=50_000_000)
    return parser


def _compare(options: argparse.Namespace, folder: Path) -> tuple[str, Any]:
    environments = options.environments.resolve()
    comparison = Comparison(options.reference_rows, folder, environments, _say)
    names = [YARDSTICK, *(name for name in options.peers if name != YARDSTICK)]
    outcomes = comparison.run(names, options.rows, options.rounds)
    return comparison_markdown(outcomes, options.rows), {
        "reference_rows": options.reference_rows,
        "contestants": {name: asdict(outcome) for name, outcome in outcomes.items()},
    }


def _fit(options: argparse.Namespace, folder: Path) -> tuple[str, Any]:  # noqa: ARG001
    found = fits()
    return fits_markdown(found), [asdict(one) for one in found]


def _huge(options: argparse.Namespace, folder: Path) -> tuple[str, Any]:
    found = file_checks(options.file_rows, folder)
    return file_checks_markdown(found), [asdict(one) for one in found]


def _say(text: str) -> None:
    _progress.print(f"… {text}", style="dim")


def _machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "load": os.getloadavg(),
    }


if __name__ == "__main__":
    main()
