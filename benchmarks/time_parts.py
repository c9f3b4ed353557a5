"""What a forest makes of the parts of the event time: `python -m benchmarks.time_parts FOLDER`.

Each recorded batch of the folder is predicted by the default pipeline's estimator, trained on all
rows of some batches before it, with and without hour, day and month among the features.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from services.ingest.rows import validate_rows
from services.ingest.tables import read_file
from services.trainer.challenger import Recipe, fit_model
from shared.pipeline import Pipeline, load_pipeline
from shared.scoring import predict, row_losses
from shared.settings import read_settings
from shared.training import Window

_HERE: Final = Path(__file__).parents[1]
_LEARNT: Final[dict[str, Callable[[int], slice]]] = {
    "all batches so far": lambda batch: slice(0, batch),
    "the two newest": lambda batch: slice(max(0, batch - 2), batch),
    "the newest alone": lambda batch: slice(batch - 1, batch),
    "the first, for ever": lambda _: slice(0, 1),
}


def main(folder: Path) -> None:
    """Print the mean absolute error on each batch as a Markdown table."""
    pipeline = load_pipeline(_HERE / "pipelines" / "air_quality.yaml")
    files = sorted(folder.glob("*.csv"))
    batches = [_rows(file, pipeline) for file in files]
    names = [file.stem[:10] for file in files[1:]]
    _line(f"| learnt from | parts of the time | {' | '.join(names)} | mean |")
    _line(f"| --- | --- |{' ---: |' * (len(names) + 1)}")
    for learnt, chosen in _LEARNT.items():
        for parts in (pipeline.training.time_parts, ()):
            errors = _errors(batches, chosen, parts, pipeline)
            figures = [f"{error:.2f}" for error in (*errors, float(np.mean(errors)))]
            said = ", ".join(parts) or "none"
            _line(f"| {learnt} | {said} | {' | '.join(figures)} |")


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _rows(file: Path, pipeline: Pipeline) -> pd.DataFrame:
    rows = validate_rows(read_file(file), pipeline.data, datetime.now(UTC)).valid
    return rows[rows[pipeline.training.target].notna()]


def _errors(
    batches: Sequence[pd.DataFrame],
    chosen: Callable[[int], slice],
    time_parts: Sequence[str],
    pipeline: Pipeline,
) -> list[float]:
    settings = read_settings(redis_url="redis://unused", mongodb_uri="mongodb://unused")
    training = pipeline.training
    recipe = Recipe(
        window=Window(policy="all"), time_parts=tuple(time_parts), parameters=training.parameters
    )
    errors = []
    for number in range(1, len(batches)):
        rows = pd.concat(batches[chosen(number)], ignore_index=True)
        model = fit_model(rows, recipe, pipeline, settings).model
        asked = batches[number]
        losses = row_losses(predict(model, asked, training), asked[training.target], "mae")
        errors.append(float(losses.mean()))
    return errors


if __name__ == "__main__":
    if len(sys.argv) != 2 or not any(Path(sys.argv[1]).glob("*.csv")):
        sys.exit("usage: python -m benchmarks.time_parts FOLDER (of recorded answers, *.csv)")
    main(Path(sys.argv[1]))
