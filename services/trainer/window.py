"""The training window, and which of its rows are held out to judge models on."""

from dataclasses import dataclass

import pandas as pd

from shared.events import RetrainRequested
from shared.failures import WillNotPass
from shared.frames import from_parquet
from shared.pipeline import Pipeline
from shared.records import Batch, Reference
from shared.store import Store

_FEWEST_TRAINING_ROWS = 10


@dataclass(frozen=True)
class Window:
    """The rows that a model is made of, and where they come from."""

    rows: pd.DataFrame
    batches: tuple[Batch, ...]
    """The batches since the reference, oldest first."""
    reference: Reference | None


@dataclass(frozen=True)
class Split:
    """Rows with a target, divided: the newest are held out."""

    training: pd.DataFrame
    held_out: pd.DataFrame


def training_window(event: RetrainRequested, pipeline: Pipeline, store: Store) -> Window:
    """The reference's rows and those of the batches since; the newest `max_window_rows` of them.

    A batch that a person set as the reference stands alone.
    """
    reference = _reference(event, store)
    if event.reason == "reference_set":
        after = event.sequence - 1
    else:
        after = reference.up_to_sequence if reference else 0
    batches = tuple(store.batches_between(event.pipeline, after, event.sequence))
    blobs = [reference.data] if reference else []
    blobs += [batch.data for batch in batches if batch.data]
    if not blobs:
        raise WillNotPass("there are no rows to train on: the batches' retention is over")
    rows = pd.concat([from_parquet(store.blob(blob)) for blob in blobs], ignore_index=True)
    if time := pipeline.data.event_time:
        rows = rows.sort_values(time, kind="stable", ignore_index=True)
    return Window(rows.tail(pipeline.training.max_window_rows), batches, reference)


def _reference(event: RetrainRequested, store: Store) -> Reference | None:
    if event.reason == "reference_set" or event.reference_version is None:
        return None
    query = {"pipeline": event.pipeline, "version": event.reference_version}
    return store.newest(Reference, query, "version")


def split(rows: pd.DataFrame, pipeline: Pipeline) -> Split:
    """Hold out the newest rows: about `test_share` of those that have a target.

    Rows of one group at one time stay together. Within the time at which the line falls, groups are
    taken in the order of a hash of their values, so the choice depends on nothing but the rows.

    Raises:
        WillNotPass: too few rows to train on and to judge by.
    """
    known = rows[rows[pipeline.training.target].notna()]
    blocks = _blocks(known, pipeline)
    sizes = blocks.value_counts(sort=False).sort_index(ascending=False)
    wanted = pipeline.training.test_share * len(known)
    held_out = sizes.index[(sizes.cumsum() - sizes) < wanted]
    chosen = blocks.isin(held_out)
    parts = Split(known[~chosen], known[chosen])
    if parts.held_out.empty or len(parts.training) < _FEWEST_TRAINING_ROWS:
        raise WillNotPass(
            f"of {len(rows):,} rows {len(known):,} have a value of {pipeline.training.target!r}: "
            f"too few to train on at least {_FEWEST_TRAINING_ROWS} and to judge by others"
        )
    return parts


def _blocks(rows: pd.DataFrame, pipeline: Pipeline) -> pd.Series:
    """For each row the rank of its block, in the order of time and, within a time, of a hash."""
    by = list(pipeline.training.group) or list(pipeline.data.columns)
    # pandas' row hash is keyed by a constant: the same in every process.
    keys = pd.DataFrame({"hash": pd.util.hash_pandas_object(rows[by], index=False)})
    if time := pipeline.data.event_time:
        keys.insert(0, "time", rows[time])
    return keys.groupby(list(keys.columns), sort=True).ngroup()
