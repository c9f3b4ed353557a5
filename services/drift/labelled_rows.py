"""The rows of a batch that have a target: its own, and earlier ones whose target came with it.

No more than one row group is in memory, and of many rows some are chosen.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.drift.counting import open_parquet
from shared.events import Sha256
from shared.frames import from_parquet
from shared.labels import identity_of, join_labels, positions
from shared.pipeline import Pipeline
from shared.records import Batch
from shared.store import NUMBERED, Store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LabelledRows:
    """Rows with a target, in their own columns."""

    rows: "pd.DataFrame"
    chosen: int
    """How many rows were looked at for it."""
    of: int
    """How many there are: more, if some were chosen."""


def labelled_rows(batch: Batch, pipeline: Pipeline, store: Store, at_most: int) -> LabelledRows:
    """Read them; of more than `at_most`, one from each of so many equal stretches, at random."""
    import pandas as pd

    target, seed = pipeline.training.target, pipeline.training.seed
    parts: list[pd.DataFrame] = []
    own = evenly_chosen(batch.rows, at_most, seed)
    if batch.data:
        parts += (rows[rows[target].notna()] for rows in _rows_at(batch.data, own, store))
    late = evenly_chosen(batch.labelled_rows, at_most - len(own), seed)
    if batch.labels and len(late):
        labels = from_parquet(store.blob(batch.labels)).iloc[late]
        parts += _rows_of_labels(labels, batch, pipeline, store)
    return LabelledRows(
        rows=pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({target: []}),
        chosen=len(own) + len(late),
        of=batch.rows + batch.labelled_rows,
    )


def rows_with_target(batches: Sequence[Batch], target: str, enough: int, store: Store) -> int:
    """How many rows of some batches have a target, be it their own or one that came later.

    The newest batches are looked at first, and none any more once there are `enough`.
    """
    found = 0
    for batch in reversed(batches):
        if found >= enough:
            break
        found += batch.labelled_rows
        if batch.data is not None:
            found += sum(_known_targets(batch.data, target, store))
    return found


def groups_to_tell_apart(batches: Sequence[Batch], pipeline: Pipeline, store: Store) -> bool:
    """Whether the rows of some batches are of more than one group at one time.

    Models are trained on some groups and judged on others, so one alone makes no model. Without
    `training.group` every row is a group.
    """
    import pandas as pd

    if not pipeline.training.group:
        return True
    time = pipeline.data.event_time
    columns = list(dict.fromkeys([*pipeline.training.group, *([time] if time else [])]))
    found = pd.DataFrame(columns=columns)
    for batch in batches:
        if batch.data is None:
            continue
        parquet = open_parquet(batch.data, store)
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=columns).to_pandas()
            found = rows if found.empty else pd.concat([found, rows])
            found = found.drop_duplicates().head(2)
            if len(found) > 1:
                return True
    return False


def _known_targets(data: Sha256, target: str, store: Store) -> Iterator[int]:
    """How many rows of each row group have a target."""
    parquet = open_parquet(data, store)
    if target in parquet.schema_arrow.names:
        for group in range(parquet.num_row_groups):
            column = parquet.read_row_group(group, columns=[target])[target]
            yield len(column) - (pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0)


def evenly_chosen(rows: int, at_most: int, seed: int) -> NDArray[np.intp]:
    """The positions of all rows, or of one from each of `at_most` stretches of equal length.

    Every n-th row would follow the rows' own period: with six rows a station, in order, always the
    same one of the six.
    """
    if rows <= at_most:
        return np.arange(rows)
    drawn = np.random.default_rng(seed).random(at_most)
    positions = (np.arange(at_most) + drawn) * (rows / at_most)
    return np.unique(np.minimum(positions.astype(np.intp), rows - 1))


def _rows_at(data: Sha256, positions: NDArray[np.intp], store: Store) -> "Iterator[pd.DataFrame]":
    """The rows at ascending positions of a batch, by row group."""
    parquet = open_parquet(data, store)
    begin = 0
    for group in range(parquet.num_row_groups):
        end = begin + parquet.metadata.row_group(group).num_rows
        here = positions[np.searchsorted(positions, begin) : np.searchsorted(positions, end)]
        if len(here):
            yield parquet.read_row_group(group).take(pa.array(here - begin)).to_pandas()
        begin = end


def _rows_of_labels(
    labels: "pd.DataFrame", batch: Batch, pipeline: Pipeline, store: Store
) -> "Iterable[pd.DataFrame]":
    """The rows of earlier batches that the labels are of, with their targets.

    A row that several batches hold, as one set as the reference may, counts once: the newest.
    """
    import pandas as pd

    identity, target = identity_of(pipeline.data), pipeline.training.target
    query: dict[str, Any] = {
        "pipeline": pipeline.name,
        "sequence": NUMBERED | {"$lt": batch.sequence},
    }
    if pipeline.data.event_time:
        query["last_event_at"] = {"$gte": batch.labels_first_event_at}
        query["first_event_at"] = {"$lte": batch.labels_last_event_at}
    found: list[pd.DataFrame] = []
    for earlier in store.find(Batch, query, newest_by="sequence"):
        for rows in _without_target(earlier, target, store):
            if set(identity) <= set(rows.columns):  # else it is of an older schema
                joined = join_labels(rows, [labels], identity, target)
                found.append(joined[joined[target].notna()])
                labels = labels[positions(labels, found[-1], identity) < 0]
    return reversed(found)


def _without_target(batch: Batch, target: str, store: Store) -> "Iterator[pd.DataFrame]":
    """The rows of a batch that came without a target, by row group."""
    if batch.data is None:
        return
    parquet = open_parquet(batch.data, store)
    for group in range(parquet.num_row_groups):
        rows = parquet.read_row_group(group)
        if target in rows.column_names:
            rows = rows.filter(pc.is_null(rows[target], nan_is_null=True))
        if rows.num_rows:
            yield rows.to_pandas()
