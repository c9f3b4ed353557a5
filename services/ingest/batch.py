"""From a source's answer to a batch of rows that no earlier batch holds."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.ingest.rows import Rows, validate_rows
from services.ingest.set_aside import dump_refused
from services.ingest.sources import Answer, SeenFiles, read_source
from services.ingest.tables import read_file
from services.ingest.waiting import waiting_files
from shared.events import (
    BatchIngested,
    ChunkIngested,
    IngestionDue,
    caused_fields,
    deterministic_id,
)
from shared.failures import WillNotPass
from shared.frames import from_parquet, to_parquet
from shared.labels import differing, identity_of, positions
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline, Schema
from shared.records import Batch, KnownRows, SetAside
from shared.settings import Settings
from shared.store import NUMBERED, Store

_REASONS_TOLD: Final = 5


def ingest(event: IngestionDue, pipeline: Pipeline, store: Store, settings: Settings) -> Outcome:
    """Read the pipeline's source and keep what is new.

    The first ingestion of a pipeline that brings a reference file takes that in instead.
    """
    if (
        pipeline.reference
        and store.newest(Batch, {"pipeline": pipeline.name}, "recorded_at") is None
    ):
        file = pipeline.reference.file
        answer = Answer(read_file(file, pipeline.data.spellings), f"file {file.name}")
        return ingest_batch(event, answer, pipeline, store, as_reference=True)
    answer = read_source(pipeline, settings, partial(seen_files, pipeline.name, store))
    return ingest_batch(event, answer, pipeline, store)


def seen_files(pipeline: str, store: Store) -> SeenFiles:
    """What earlier readings know of the files of the pipeline's folder."""
    return SeenFiles(known_files(pipeline, store), waiting_files(pipeline, store))


def known_files(pipeline: str, store: Store) -> frozenset[str]:
    """The marks of all files that earlier readings have read or set aside."""
    query = {
        "pipeline": pipeline,
        "$or": [{"files.0": {"$exists": 1}}, {"files_set_aside": {"$ne": {}}}],
    }
    return frozenset(
        mark
        for batch in store.find(Batch, query)
        for mark in (*batch.files, *batch.files_set_aside)
    )


def ingest_batch(
    event: IngestionDue,
    answer: Answer,
    pipeline: Pipeline,
    store: Store,
    *,
    as_reference: bool = False,
) -> Outcome:
    """Keep the valid rows of an answer that are in no earlier batch, as the next batch.

    With it go the targets that the answer has for rows of earlier batches which came without; a
    batch may consist of them alone. A reference that a person sets is kept whole, with the rows
    that earlier batches hold as well, and its targets are in its rows.

    The number of the batch is the next one before the earlier batches are looked at. If another
    ingestion takes it first, the record is refused and the event is handled again, so no row gets
    into two batches.

    Raises:
        WillNotPass: the answer is not the pipeline's table, or too many of its rows are bad.
    """
    sequence = _next_sequence(pipeline, store)
    rows = _validated(answer, pipeline.data)
    news = _news(rows.valid, pipeline, store, as_reference=as_reference)
    fields: dict[str, Any] = {
        "rows_received": len(answer.table),
        "rows_missing": answer.missing,
        "rows_known": len(rows.valid) - len(news.rows),
        "known": news.known,
        "set_aside": _set_aside(rows, store),
        "source": answer.source,
        "files": answer.files,
        "files_set_aside": answer.files_set_aside,
        "files_waiting": answer.files_waiting,
        "as_reference": as_reference,
    }
    if news.rows.empty and news.labels.empty:
        return Outcome(Batch(**record_fields(event, "ingest"), outcome="nothing new", **fields))
    return _batch(event, sequence, news, pipeline, store, fields)


def _next_sequence(pipeline: Pipeline, store: Store) -> int:
    newest = store.newest(Batch, {"pipeline": pipeline.name, "sequence": NUMBERED}, "sequence")
    return (newest.sequence or 0) + 1 if newest else 1


def _validated(answer: Answer, schema: Schema) -> Rows:
    if not len(answer.table):
        nothing = pd.DataFrame(columns=list(schema.columns))
        return Rows(nothing, nothing, pd.DataFrame())
    rows = validate_rows(answer.table, schema, datetime.now(UTC))
    share = len(rows.refused) / len(answer.table)
    if share > schema.max_bad_share:
        counts = [f"{number:,} rows: {fault}" for fault, number in rows.reasons.items()]
        raise WillNotPass(
            f"{len(rows.refused):,} of {len(answer.table):,} rows are bad, more than "
            f"schema.max_bad_share = {schema.max_bad_share:g} allows. "
            + ". ".join(counts[:_REASONS_TOLD])
        )
    return rows


@dataclass(frozen=True)
class _News:
    """What an answer holds that was not there before, and how much of it was."""

    rows: pd.DataFrame
    labels: pd.DataFrame
    """Targets of known rows that came without: the columns of the identity, and the target."""
    known: KnownRows


@dataclass
class _Held:
    """What earlier batches say of the rows of an answer; arrays of shape (n_rows,).

    A row that several batches hold counts as the newest of them has it.
    """

    known: NDArray[np.bool_]
    """Whether an earlier batch holds the row."""
    changed: NDArray[np.bool_]
    """Whether that batch has other values of it."""
    waiting: NDArray[np.bool_]
    """Whether no target is known of it."""

    @classmethod
    def of_nothing(cls, rows: int) -> "_Held":
        return cls(*(np.zeros(rows, bool) for _ in range(3)))


def _news(valid: pd.DataFrame, pipeline: Pipeline, store: Store, *, as_reference: bool) -> _News:
    """The rows that no earlier batch holds, each once, in the order of time and key; and labels.

    A reference is taken whole: all its rows are new, whatever earlier batches hold.

    Where the target is part of what makes a row the same row there are no labels: a row with its
    target is another row.
    """
    identity, target = identity_of(pipeline.data), pipeline.training.target
    ordered = valid.sort_values(identity, kind="stable", ignore_index=True)
    first = ~ordered.duplicated(identity).to_numpy()
    once, again = ordered[first].reset_index(drop=True), ordered[~first]
    place = (first.cumsum() - 1)[~first]
    again_changed = differing(again, once.iloc[place], again.columns.difference(identity))
    held = _Held.of_nothing(len(once)) if as_reference else _held(once, pipeline, store)
    known = KnownRows(
        taken_in_before=int((held.known & ~held.changed).sum()),
        repeated=int((~again_changed).sum()),
        changed=int((held.known & held.changed).sum() + again_changed.sum()),
    )
    answered = ordered[ordered[target].notna()][list(dict.fromkeys([*identity, target]))]
    answered = answered.drop_duplicates(identity, keep="first", ignore_index=True)
    if target in identity or not held.waiting.any():
        answered = answered.head(0)
    else:
        answered = answered[positions(answered, once[held.waiting], identity) >= 0]
    return _News(once[~held.known].reset_index(drop=True), answered.reset_index(drop=True), known)


def _held(once: pd.DataFrame, pipeline: Pipeline, store: Store) -> _Held:
    """What the batches say that may hold some of the rows: those of overlapping times, in order."""
    held = _Held.of_nothing(len(once))
    if once.empty:
        return held
    identity, target = identity_of(pipeline.data), pipeline.training.target
    said = np.full(len(once), math.nan, dtype=object)
    for batch in _overlapping(once, pipeline, store):
        if batch.data:
            _compare(held, said, once, store.blob(batch.data), identity, target)
        if batch.labels and target not in identity:
            labels = _columns_of(store.blob(batch.labels), [*identity, target])
            if labels is not None:
                place = positions(labels, once, identity)
                said[place[place >= 0]] = labels[target].to_numpy(object)[place >= 0]
    if target not in identity:
        told = pd.DataFrame({target: pd.Series(said, dtype=once[target].dtype)})
        both = (told[target].notna() & once[target].notna()).to_numpy()
        held.changed |= both & differing(once, told, [target])
        held.waiting = held.known & told[target].isna().to_numpy()
    return held


def _overlapping(once: pd.DataFrame, pipeline: Pipeline, store: Store) -> list[Batch]:
    """The batches that may hold one of the rows, or a target of one, oldest first."""
    rows: dict[str, Any] = {"pipeline": pipeline.name, "sequence": NUMBERED}
    labels: dict[str, Any] = {"pipeline": pipeline.name, "labels": {"$ne": None}}
    if time := pipeline.data.event_time:
        first, last = _span(once[time])
        rows |= {"last_event_at": {"$gte": first}, "first_event_at": {"$lte": last}}
        labels |= {"labels_last_event_at": {"$gte": first}, "labels_first_event_at": {"$lte": last}}
    found = {
        batch.sequence or 0: batch for query in (rows, labels) for batch in store.find(Batch, query)
    }
    return [found[sequence] for sequence in sorted(found)]


def _compare(
    held: _Held,
    said: NDArray[np.object_],
    once: pd.DataFrame,
    blob: bytes,
    identity: list[str],
    target: str,
) -> None:
    """Note which rows a batch holds, with which of their targets, and whether it has other values.

    No more than that batch is in memory, and of a batch that holds none of the rows its identity.
    """
    keys = _columns_of(blob, identity)
    if keys is None:
        return
    place = positions(keys, once, identity)
    if not (place >= 0).any():
        return
    rows = from_parquet(blob)[place >= 0]
    place = place[place >= 0]
    others = [str(name) for name in once if name in rows and name not in (*identity, target)]
    held.known[place] = True
    held.changed[place] = differing(once.iloc[place], rows, others)
    said[place] = rows[target].to_numpy(object) if target in rows else math.nan


def _columns_of(blob: bytes, names: list[str]) -> pd.DataFrame | None:
    """Some columns of a batch; None if it was made under a schema that lacks one of them."""
    if not set(pq.read_schema(BytesIO(blob)).names).issuperset(names):
        return None
    return from_parquet(blob, names)


def _span(times: pd.Series) -> tuple[datetime, datetime]:
    """The first and the last time, rounded outwards to the store's milliseconds."""
    utc = times.dt.tz_convert("UTC")
    return utc.min().floor("ms").to_pydatetime(), utc.max().ceil("ms").to_pydatetime()


def _set_aside(rows: Rows, store: Store) -> SetAside:
    if rows.refused.empty:
        return SetAside()
    data = store.put_blob(dump_refused(rows))
    return SetAside(rows=len(rows.refused), reasons=rows.reasons, data=data)


def _batch(
    event: IngestionDue,
    sequence: int,
    news: _News,
    pipeline: Pipeline,
    store: Store,
    fields: dict[str, Any],
) -> Outcome:
    batch = Batch(
        **record_fields(event, "ingest"),
        outcome="ingested",
        sequence=sequence,
        **_kept_rows(news.rows, pipeline, store),
        **_kept_labels(news.labels, pipeline, store),
        **fields,
    )
    ingested = BatchIngested(
        **caused_fields(event, "ingest", BatchIngested),
        sequence=sequence,
        rows=batch.rows,
        data=batch.data,
        labels=batch.labels,
        as_reference=batch.as_reference,
    )
    return Outcome(batch, (*chunk_events(event, ingested, pipeline.drift.chunk_rows), ingested))


def _kept_rows(rows: pd.DataFrame, pipeline: Pipeline, store: Store) -> dict[str, Any]:
    """What a batch says of its rows, once they are in the store."""
    if rows.empty:
        return {}
    first, last = _times_of(rows, pipeline)
    return {
        "data": store.put_blob(to_parquet(rows, row_group_rows=pipeline.drift.chunk_rows)),
        "rows": len(rows),
        "first_event_at": first,
        "last_event_at": last,
    }


def _kept_labels(labels: pd.DataFrame, pipeline: Pipeline, store: Store) -> dict[str, Any]:
    """What a batch says of the targets that came later, once they are in the store."""
    if labels.empty:
        return {}
    first, last = _times_of(labels, pipeline)
    return {
        "labels": store.put_blob(to_parquet(labels)),
        "labelled_rows": len(labels),
        "labels_first_event_at": first,
        "labels_last_event_at": last,
    }


def _times_of(
    rows: pd.DataFrame, pipeline: Pipeline
) -> tuple[datetime, datetime] | tuple[None, None]:
    time = pipeline.data.event_time
    return _span(rows[time]) if time else (None, None)


def chunk_events(
    event: IngestionDue, ingested: BatchIngested, chunk_rows: int
) -> tuple[ChunkIngested, ...]:
    """The row groups of a batch that has several."""
    if ingested.data is None or ingested.as_reference or ingested.rows <= chunk_rows:
        return ()
    fields = caused_fields(event, "ingest", ChunkIngested)
    return tuple(
        ChunkIngested(
            **fields | {"event_id": deterministic_id(fields["event_id"], group)},
            sequence=ingested.sequence,
            data=ingested.data,
            row_group=group,
        )
        for group in range(math.ceil(ingested.rows / chunk_rows))
    )
