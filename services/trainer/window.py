"""The rows at hand for a model, and which of them are held out to judge models on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.events import RetrainRequested
from shared.failures import WillNotPass
from shared.frames import from_parquet
from shared.labels import identity_of, join_labels
from shared.pipeline import Pipeline
from shared.records import Batch, Reference
from shared.store import NUMBERED, Store

FEWEST_TRAINING_ROWS: Final = 10


@dataclass(frozen=True)
class Pool:
    """The rows at hand, of which a training window is chosen."""

    rows: pd.DataFrame
    """In the order of event time."""
    batch: NDArray[np.int64]
    """For each row the number of its batch; 0 for a row that only the reference still holds."""
    newest_batch_rows: int
    """Rows with a target of the batch that asks for the model; all rows where it has none."""


@dataclass(frozen=True)
class Split:
    """Which rows of a pool are learnt from and which are held out, as positions in its order."""

    training: NDArray[np.intp]
    held_out: NDArray[np.intp]


def training_pool(event: RetrainRequested, pipeline: Pipeline, store: Store) -> Pool:
    """The rows of the batches up to the one that asks, and of the reference; the newest ones.

    A batch that a person set as the reference stands alone, and nothing older comes back after it.
    Targets that came later than their rows are filled in.

    Raises:
        WillNotPass: the batch that asks for the model, or rows that it needs, are not in the store.
    """
    batches = _batches(event, pipeline, store)
    parts = [(0, from_parquet(store.blob(data))) for data in _reference(event, batches, store)]
    parts += [(batch.sequence or 0, _rows(batch, store)) for batch in batches if batch.data]
    labels = [from_parquet(store.blob(batch.labels)) for batch in batches if batch.labels]
    return pool_of(parts, labels, pipeline, event.sequence)


def pool_of(
    parts: Sequence[tuple[int, pd.DataFrame]],
    labels: Sequence[pd.DataFrame],
    pipeline: Pipeline,
    newest: int,
) -> Pool:
    """One pool of batches and their numbers; a row that stands in several counts for the latest.

    Args:
        labels: targets that came later, with the columns that make a row the same row.
        newest: the number of the batch that asks for the model.
    """
    identity = identity_of(pipeline.data)
    rows = pd.concat([part for _, part in parts], ignore_index=True)
    batch = np.repeat([number for number, _ in parts], [len(part) for _, part in parts])
    kept = ~rows.duplicated(identity, keep="last").to_numpy()
    rows, batch = rows[kept].reset_index(drop=True), batch[kept]
    if time := pipeline.data.event_time:
        order = rows[time].sort_values(kind="stable", na_position="first").index.to_numpy()
        rows, batch = rows.iloc[order], batch[order]
    newest_rows = pipeline.training.max_window_rows
    rows = join_labels(rows.tail(newest_rows), labels, identity, pipeline.training.target)
    batch = batch[-newest_rows:]
    asking = int(rows[pipeline.training.target].notna()[batch == newest].sum())
    return Pool(rows.reset_index(drop=True), batch.astype(np.int64), asking or len(rows))


def _batches(event: RetrainRequested, pipeline: Pipeline, store: Store) -> list[Batch]:
    """The newest batches whose rows fill the window, oldest first."""
    query = {"pipeline": event.pipeline, "sequence": NUMBERED | {"$lte": event.sequence}}
    chosen: list[Batch] = []
    rows = 0
    for batch in store.find(Batch, query, newest_by="sequence"):
        chosen.append(batch)
        rows += batch.rows
        if batch.as_reference or rows >= pipeline.training.max_window_rows:
            break
    if not chosen or chosen[0].sequence != event.sequence:
        raise WillNotPass(
            f"batch {event.sequence} of {event.pipeline} is not in the store; if it was past "
            "RETENTION_DAYS, the next batch that drifts asks for a model anew"
        )
    return chosen[::-1]


def _reference(event: RetrainRequested, batches: list[Batch], store: Store) -> list[str]:
    """The reference's rows, which may be older than any batch that is still kept."""
    if batches[0].as_reference or event.reference_version is None:
        return []
    query = {"pipeline": event.pipeline, "version": event.reference_version}
    if reference := store.newest(Reference, query, "version"):
        return [reference.data]
    raise WillNotPass(
        f"reference v{event.reference_version} of {event.pipeline} is not in the store"
    )


def _rows(batch: Batch, store: Store) -> pd.DataFrame:
    assert batch.data  # noqa: S101 - the caller asks for batches with rows
    return from_parquet(store.blob(batch.data))


def wanted_rows(pool: Pool, pipeline: Pipeline) -> float:
    """How many rows are to be held out: `test_share` of those that have a target.

    Of the newest batch, which asked for the model, half is held out at most: if it were held out
    whole, neither model would have learnt from it. So a champion is not judged on what it learnt
    from either, as long as batches bring newer rows.
    """
    known = int(pool.rows[pipeline.training.target].notna().sum())
    return float(min(pipeline.training.test_share * known, pool.newest_batch_rows / 2))


def split(rows: pd.DataFrame, pipeline: Pipeline, wanted: float) -> Split:
    """Hold out the newest rows that have a target: as many as wanted, or a little more.

    Rows of one group at one time stay together. Where the line falls inside one time, groups are
    taken in the order of a hash of their values, so the choice depends on nothing but the rows.

    Raises:
        WillNotPass: too few rows to train on, or none to judge by.
    """
    known = np.flatnonzero(rows[pipeline.training.target].notna())
    blocks = blocks_of(rows.iloc[known], pipeline)
    sizes = blocks.value_counts().sort_index(ascending=False)
    newer_rows = sizes.cumsum() - sizes
    chosen = blocks.isin(sizes.index[newer_rows < wanted]).to_numpy()
    parts = Split(training=known[~chosen], held_out=known[chosen])
    if not len(parts.held_out) or len(parts.training) < FEWEST_TRAINING_ROWS:
        raise WillNotPass(
            f"{len(known):,} of {len(rows):,} rows have a value of "
            f"{pipeline.training.target}: with {len(parts.held_out):,} held out to judge by, "
            f"{len(parts.training):,} are left to train on, and it takes {FEWEST_TRAINING_ROWS}"
        )
    return parts


def blocks_of(rows: pd.DataFrame, pipeline: Pipeline) -> pd.Series:
    """For each row the rank of its block, in the order of time and, within a time, of a hash."""
    by = list(pipeline.training.group or pipeline.data.columns)
    # pandas' hash of rows is keyed by a constant: the same in every process.
    keys = pd.DataFrame({"hash": pd.util.hash_pandas_object(rows[by], index=False)})
    if time := pipeline.data.event_time:
        keys.insert(0, "time", rows[time].rank(method="dense", na_option="top"))
    return keys.groupby(list(keys), sort=True).ngroup()
