"""The training window, and which of its rows are held out to judge models on."""

from dataclasses import dataclass
from typing import Final

import pandas as pd

from shared.events import RetrainRequested
from shared.failures import WillNotPass
from shared.frames import from_parquet
from shared.pipeline import Pipeline
from shared.records import Batch, Reference
from shared.store import Store

FEWEST_TRAINING_ROWS: Final = 10


@dataclass(frozen=True)
class Window:
    """The rows that a model is made of, and where they come from."""

    rows: pd.DataFrame
    """In the order of event time."""
    batches: tuple[Batch, ...]
    """The batches since the reference, oldest first."""
    reference: Reference | None


@dataclass(frozen=True)
class Split:
    """The rows of a window that have a target, divided."""

    training: pd.DataFrame
    held_out: pd.DataFrame


def training_window(event: RetrainRequested, pipeline: Pipeline, store: Store) -> Window:
    """The reference's rows and those of the batches since; the newest `max_window_rows` of them.

    A batch that a person set as the reference stands alone.

    Raises:
        WillNotPass: the reference or the batch that asks for the model is not in the store.
    """
    reference = _reference(event, store)
    batches = _batches(event, reference, store)
    blobs = [reference.data] if reference else []
    blobs += [batch.data for batch in batches if batch.data]
    rows = pd.concat([from_parquet(store.blob(blob)) for blob in blobs], ignore_index=True)
    if time := pipeline.data.event_time:
        rows = rows.sort_values(time, kind="stable", na_position="first", ignore_index=True)
    newest = rows.tail(pipeline.training.max_window_rows).reset_index(drop=True)
    return Window(newest, batches, reference)


def _reference(event: RetrainRequested, store: Store) -> Reference | None:
    version = event.reference_version
    if event.reason == "reference_set" or version is None:
        return None
    query = {"pipeline": event.pipeline, "version": version}
    if reference := store.newest(Reference, query, "version"):
        return reference
    raise WillNotPass(f"reference v{version} of {event.pipeline} is not in the store")


def _batches(
    event: RetrainRequested, reference: Reference | None, store: Store
) -> tuple[Batch, ...]:
    if event.reason == "reference_set":
        after = event.sequence - 1
    else:
        after = reference.up_to_sequence if reference else 0
    batches = tuple(store.batches_between(event.pipeline, after, event.sequence))
    if not batches or batches[-1].sequence != event.sequence:
        raise WillNotPass(
            f"batch {event.sequence} of {event.pipeline} is not in the store; if it was past "
            "RETENTION_DAYS, the next batch that drifts asks for a model anew"
        )
    return batches


def split(rows: pd.DataFrame, pipeline: Pipeline, newest_batch_rows: int) -> Split:
    """Hold out the newest rows: `test_share` of those that have a target, or a little more.

    Of the newest batch, which asked for the model, about half is held out at most: if it were held
    out whole, neither model would have learnt from it. So a champion is not judged on what it
    learnt from either, as long as batches bring newer rows.

    Rows of one group at one time stay together. Where the line falls inside one time, groups are
    taken in the order of a hash of their values, so the choice depends on nothing but the rows.

    Raises:
        WillNotPass: too few rows to train on, or none to judge by.
    """
    known = rows[rows[pipeline.training.target].notna()]
    blocks = _blocks(known, pipeline)
    sizes = blocks.value_counts().sort_index(ascending=False)
    newer_rows = sizes.cumsum() - sizes
    wanted = min(pipeline.training.test_share * len(known), newest_batch_rows / 2)
    chosen = blocks.isin(sizes.index[newer_rows < wanted])
    parts = Split(training=known[~chosen], held_out=known[chosen])
    if parts.held_out.empty or len(parts.training) < FEWEST_TRAINING_ROWS:
        raise WillNotPass(
            f"{len(known):,} of {len(rows):,} rows have a value of {pipeline.training.target}: "
            f"with {len(parts.held_out):,} held out to judge by, {len(parts.training):,} are left "
            f"to train on, and it takes {FEWEST_TRAINING_ROWS}"
        )
    return parts


def _blocks(rows: pd.DataFrame, pipeline: Pipeline) -> pd.Series:
    """For each row the rank of its block, in the order of time and, within a time, of a hash."""
    by = list(pipeline.training.group or pipeline.data.columns)
    # pandas' hash of rows is keyed by a constant: the same in every process.
    keys = pd.DataFrame({"hash": pd.util.hash_pandas_object(rows[by], index=False)})
    if time := pipeline.data.event_time:
        keys.insert(0, "time", rows[time].rank(method="dense", na_option="top"))
    return keys.groupby(list(keys), sort=True).ngroup()
