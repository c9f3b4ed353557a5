"""The rows at hand for a model, and which of them are held out to judge models on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.events import RetrainRequested
from shared.failures import WillNotPass
from shared.frames import from_parquet
from shared.labels import identity_of, join_labels, positions
from shared.pipeline import Pipeline, Schema
from shared.records import Batch, ModelVersion, Reference
from shared.scoring import groups_of
from shared.store import Store
from shared.training import FEWEST_TRAINING_ROWS, Training, fewest_held_out

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pool:
    """The rows at hand, of which a training window is chosen."""

    rows: pd.DataFrame
    """In the order of event time."""
    batch: NDArray[np.int64]
    """For each row the number of its batch; 0 for a row that only the reference still holds."""


@dataclass(frozen=True)
class Split:
    """Which rows of a pool are learnt from and which are held out, as positions in its order."""

    training: NDArray[np.intp]
    held_out: NDArray[np.intp]
    new_to_both: bool = True
    """The champion has learnt from no held-out row."""


def training_pool(event: RetrainRequested, pipeline: Pipeline, store: Store) -> Pool:
    """The rows of the batches up to the one that asks, and of the reference; the newest ones.

    A batch that a person set as the reference stands alone, and nothing older comes back after it.
    Targets that came later than their rows are filled in.

    Raises:
        WillNotPass: the batch that asks for the model, or rows that it needs, are not in the store.
    """
    batches = batches_of_window(event, pipeline, store)
    parts = [(0, from_parquet(store.blob(data))) for data in _reference(event, batches, store)]
    parts += [(batch.sequence or 0, _rows(batch, store)) for batch in batches if batch.data]
    labels = [from_parquet(store.blob(batch.labels)) for batch in batches if batch.labels]
    return pool_of(parts, labels, pipeline)


def pool_of(
    parts: Sequence[tuple[int, pd.DataFrame]], labels: Sequence[pd.DataFrame], pipeline: Pipeline
) -> Pool:
    """One pool of batches and their numbers; a row that stands in several counts for the latest.

    Args:
        labels: targets that came later, with the columns that make a row the same row.
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
    return Pool(rows.reset_index(drop=True), batch[-newest_rows:].astype(np.int64))


def batches_of_window(event: RetrainRequested, pipeline: Pipeline, store: Store) -> list[Batch]:
    """The newest batches whose rows fill the window, oldest first; the last one asked for a model.

    Raises:
        WillNotPass: the batch that asked is not in the store.
    """
    most_rows = pipeline.training.max_window_rows
    batches = store.window_batches(event.pipeline, event.sequence, most_rows)
    if not batches or batches[-1].sequence != event.sequence:
        raise WillNotPass(
            f"batch {event.sequence} of {event.pipeline} is not in the store; if it was past "
            "RETENTION_DAYS, the next batch that drifts asks for a model anew"
        )
    return batches


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


def learnt_from(
    champion: ModelVersion | None, pool: Pool, pipeline: Pipeline, store: Store
) -> Mask:
    """Which rows of the pool a champion has learnt from, of shape (n_rows,).

    Where the champion's record does not say it, as one of an earlier schema, these are all rows of
    the batches that were there when it was trained.

    Raises:
        WillNotPass: the champion's rows are not in the store.
    """
    if champion is None:
        return np.zeros(len(pool.rows), dtype=bool)
    identity = identity_of(pipeline.data)
    rows = from_parquet(store.blob(champion.window))
    held_out = held_out_of(champion, rows, pipeline, store)
    if held_out is None or not set(identity) <= set(rows.columns):
        return pool.batch <= champion.sequence
    learnt = rows[~held_out & rows[champion.lineage["training"]["target"]].notna()]
    return positions(pool.rows, learnt.drop_duplicates(identity), identity) >= 0


def held_out_of(
    model: ModelVersion, rows: pd.DataFrame, pipeline: Pipeline, store: Store
) -> Mask | None:
    """Which rows of its window a model was judged on, of shape (n_rows,).

    None: its record, of an earlier version of Trimtab, does not say it.

    Args:
        rows: the rows of the model's window, in their order.
    """
    if model.held_out is not None:
        return unpacked(store.blob(model.held_out), len(rows))
    try:
        as_then = as_recorded(model, pipeline)
        held_out = split(rows, as_then, float(model.lineage["held_out_rows"])).held_out
    except (KeyError, ValueError, WillNotPass):
        return None
    mask = np.zeros(len(rows), dtype=bool)
    mask[held_out] = True
    return mask


def as_recorded(model: ModelVersion, pipeline: Pipeline) -> Pipeline:
    """The pipeline with the schema and the training settings that a model was made with.

    Raises:
        KeyError, ValueError: the model's record does not say them.
    """
    then = {
        "data": Schema.model_validate(model.lineage["schema"]),
        "training": Training.model_validate(model.lineage["training"]),
    }
    return pipeline.model_copy(update=then)


def packed(mask: Mask) -> bytes:
    """A mask as bytes, eight rows a byte."""
    return np.packbits(mask).tobytes()


def unpacked(data: bytes, rows: int) -> Mask:
    """The mask of this many rows that `packed` wrote."""
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=rows).astype(bool)


def hold_out(pool: Pool, pipeline: Pipeline, learnt: Mask) -> Split:
    """Hold out the newest rows that have a target and that the champion has not learnt from.

    Rows are taken batch by batch, the newest batch first, and at most half of each batch: a batch
    that is held out whole teaches neither model anything. `test_share` of all rows are held out, or
    half of the newest batch if that is less. Where this is less than the gate asks for, older
    batches give the rest. Rows of one group at one time stay together.

    If the champion has learnt from all rows, the newest ones are held out, and `new_to_both` is
    false.

    Args:
        learnt: which rows the champion has learnt from, of shape (n_rows,).

    Raises:
        WillNotPass: too few rows to train on, or none to judge by.
    """
    known = np.flatnonzero(pool.rows[pipeline.training.target].notna())
    blocks = _blocks(pool, known, learnt, pipeline)
    new = blocks[~blocks["learnt"]]
    chosen = _newest(new if len(new) else blocks, len(known), pipeline)
    held_out = np.isin(blocks_of(pool.rows.iloc[known], pipeline), chosen)
    parts = Split(known[~held_out], known[held_out], new_to_both=len(new) > 0)
    return _require_enough(parts, pool.rows, pipeline)


def _blocks(pool: Pool, known: NDArray[np.intp], learnt: Mask, pipeline: Pipeline) -> pd.DataFrame:
    """A line for each block of rows with a target, the newest batch first.

    Its columns: `rows`, `batch` (the newest that has a row of the block), `learnt` (the champion
    knows a row of it), `group`, and `most`: half of the rows of the block's batch.
    """
    rows = pd.DataFrame(
        {
            "block": blocks_of(pool.rows.iloc[known], pipeline).to_numpy(),
            "batch": pool.batch[known],
            "learnt": learnt[known],
            "group": groups_of(pool.rows.iloc[known], pipeline.training.group),
        }
    )
    blocks = rows.groupby("block").agg(
        rows=("batch", "size"),
        batch=("batch", "max"),
        learnt=("learnt", "any"),
        group=("group", "first"),
    )
    blocks["most"] = blocks.groupby("batch")["rows"].transform("sum") / 2
    return blocks.iloc[::-1].sort_values("batch", ascending=False, kind="stable")


def _newest(blocks: pd.DataFrame, known: int, pipeline: Pipeline) -> NDArray[np.intp]:
    """The numbers of the blocks to hold out, of those that may be."""
    if blocks.empty:
        return np.zeros(0, dtype=np.intp)
    newer = blocks.groupby("batch")["rows"].cumsum() - blocks["rows"]
    blocks = blocks[newer < blocks["most"]]
    gate, training = pipeline.gate, pipeline.training
    share = training.test_share * known
    wanted = max(min(share, blocks["most"].iloc[0]), fewest_held_out(gate))
    newer_rows = blocks["rows"].cumsum() - blocks["rows"]
    newer_groups = (~blocks["group"].duplicated()).cumsum().shift(fill_value=0)
    lacks_groups = (newer_groups < gate.min_groups) & (newer_rows < share)
    leaves_enough = blocks["rows"].cumsum() <= known - FEWEST_TRAINING_ROWS
    chosen = ((newer_rows < wanted) | lacks_groups) & (leaves_enough | (newer_rows == 0))
    return np.asarray(blocks.index[chosen], dtype=np.intp)


def split(rows: pd.DataFrame, pipeline: Pipeline, wanted: float) -> Split:
    """Hold out the newest rows that have a target: as many as wanted, or a little more.

    Versions whose record has no `held_out` were split so. Rows of one group at one time stay
    together. Where the line falls inside one time, groups are taken in the order of a hash of their
    values, so the choice depends on nothing but the rows.

    Raises:
        WillNotPass: too few rows to train on, or none to judge by.
    """
    known = np.flatnonzero(rows[pipeline.training.target].notna())
    blocks = blocks_of(rows.iloc[known], pipeline)
    sizes = blocks.value_counts().sort_index(ascending=False)
    newer_rows = sizes.cumsum() - sizes
    chosen = blocks.isin(sizes.index[newer_rows < wanted]).to_numpy()
    parts = Split(training=known[~chosen], held_out=known[chosen])
    return _require_enough(parts, rows, pipeline)


def _require_enough(parts: Split, rows: pd.DataFrame, pipeline: Pipeline) -> Split:
    training, held_out = len(parts.training), len(parts.held_out)
    if held_out and training >= FEWEST_TRAINING_ROWS:
        return parts
    raise WillNotPass(
        f"{training + held_out:,} of {len(rows):,} rows have a value of "
        f"{pipeline.training.target}. With {held_out:,} of them held out to judge the model, "
        f"{training:,} are left to train on; at least {FEWEST_TRAINING_ROWS} are needed. "
        "Ingest more rows with a target. If all rows are of one group at one time, name smaller "
        "groups in training.group"
    )


def blocks_of(rows: pd.DataFrame, pipeline: Pipeline) -> pd.Series:
    """For each row the rank of its block, in the order of time and, within a time, of a hash."""
    by = list(pipeline.training.group or pipeline.data.columns)
    # pandas' hash of rows is keyed by a constant: the same in every process.
    keys = pd.DataFrame({"hash": pd.util.hash_pandas_object(rows[by], index=False)})
    if time := pipeline.data.event_time:
        keys.insert(0, "time", rows[time].rank(method="dense", na_option="top"))
    return keys.groupby(list(keys), sort=True).ngroup()
