"""From a source's answer to a batch of rows that no earlier batch holds."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.ingest.rows import Rows, validate_rows
from services.ingest.sources import Answer, read_source
from services.ingest.tables import read_file
from shared.events import (
    BatchIngested,
    ChunkIngested,
    IngestionDue,
    caused_fields,
    deterministic_id,
)
from shared.failures import WillNotPass
from shared.frames import from_parquet, to_parquet
from shared.labels import identity_of
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline, Schema
from shared.records import Batch, SetAside
from shared.settings import Settings
from shared.store import NUMBERED, Store


def ingest(event: IngestionDue, pipeline: Pipeline, store: Store, settings: Settings) -> Outcome:
    """Read the pipeline's source and keep what is new.

    The first ingestion of a pipeline that brings a reference file takes that in instead.
    """
    if (
        pipeline.reference
        and store.newest(Batch, {"pipeline": pipeline.name}, "recorded_at") is None
    ):
        file = pipeline.reference.file
        answer = Answer(read_file(file), f"file {file.name}")
        return ingest_batch(event, answer, pipeline, store, as_reference=True)
    answer = read_source(pipeline, settings, partial(known_files, pipeline.name, store))
    return ingest_batch(event, answer, pipeline, store)


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
    batch may consist of them alone. A reference that a person sets brings none.

    The number of the batch is the next one before the earlier batches are looked at. If another
    ingestion takes it first, the record is refused and the event is handled again, so no row gets
    into two batches.

    Raises:
        WillNotPass: the answer is not the pipeline's table, or too many of its rows are bad.
    """
    sequence = _next_sequence(pipeline, store)
    rows = _validated(answer, pipeline.data)
    news = _news(rows.valid, pipeline, store, with_labels=not as_reference)
    fields: dict[str, Any] = {
        "rows_received": len(answer.table),
        "rows_missing": answer.missing,
        "rows_known": len(rows.valid) - len(news.rows),
        "set_aside": _set_aside(rows, store),
        "source": answer.source,
        "files": answer.files,
        "files_set_aside": answer.files_set_aside,
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
        return Rows(nothing, nothing, {})
    rows = validate_rows(answer.table, schema, datetime.now(UTC))
    share = len(rows.refused) / len(answer.table)
    if share > schema.max_bad_share:
        counts = ", ".join(f"{fault} ({number})" for fault, number in rows.reasons.items())
        raise WillNotPass(
            f"{len(rows.refused):,} of {len(answer.table):,} rows are bad, more than "
            f"schema.max_bad_share = {schema.max_bad_share:g} allows: {counts}"
        )
    return rows


@dataclass(frozen=True)
class _News:
    """What an answer holds that was not there before."""

    rows: pd.DataFrame
    labels: pd.DataFrame
    """Targets of known rows that came without: the columns of the identity, and the target."""


def _news(valid: pd.DataFrame, pipeline: Pipeline, store: Store, *, with_labels: bool) -> _News:
    """The rows that no earlier batch holds, each once, in the order of time and key; and labels.

    Where the target is part of what makes a row the same row there are no labels: a row with its
    target is another row.
    """
    identity, target = identity_of(pipeline.data), pipeline.training.target
    nothing = valid[list(dict.fromkeys([*identity, target]))].head(0)
    if valid.empty:
        return _News(valid, nothing)
    ordered = valid.sort_values(identity, kind="stable", ignore_index=True)
    once = ordered.drop_duplicates(identity, keep="first", ignore_index=True)
    known = _known_rows(once, pipeline, identity, store)
    if known.empty:
        return _News(once, nothing)
    is_known = _among(once, known, identity)
    new = once[~is_known].reset_index(drop=True)
    if not with_labels or target in identity:
        return _News(new, nothing)
    answered = ordered[ordered[target].notna()][[*identity, target]]
    answered = answered.drop_duplicates(identity, keep="first", ignore_index=True)
    waiting = known[known[target].isna()]
    return _News(new, _unsaid(answered[_among(answered, waiting, identity)], pipeline, store))


def _among(rows: pd.DataFrame, others: pd.DataFrame, identity: list[str]) -> NDArray[np.bool_]:
    """Whether each row is one of the others."""
    if others.empty:
        return np.zeros(len(rows), bool)
    index = pd.MultiIndex.from_frame(rows[identity])
    return np.asarray(index.isin(pd.MultiIndex.from_frame(others[identity])))


def _unsaid(labels: pd.DataFrame, pipeline: Pipeline, store: Store) -> pd.DataFrame:
    """The labels that no earlier batch has brought."""
    if labels.empty:
        return labels
    identity = identity_of(pipeline.data)
    query: dict[str, Any] = {"pipeline": pipeline.name, "labels": {"$ne": None}}
    if time := pipeline.data.event_time:
        first, last = _span(labels[time])
        query |= {"labels_last_event_at": {"$gte": first}, "labels_first_event_at": {"$lte": last}}
    blobs = (store.blob(batch.labels) for batch in store.find(Batch, query) if batch.labels)
    tables = [_columns_of(blob, identity) for blob in blobs]
    said = pd.concat([labels[identity].head(0), *tables], ignore_index=True)
    return labels[~_among(labels, said, identity)].reset_index(drop=True)


def _known_rows(
    rows: pd.DataFrame, pipeline: Pipeline, identity: list[str], store: Store
) -> pd.DataFrame:
    """Identity and target in all batches that may hold one of the rows: of overlapping times."""
    query: dict[str, Any] = {"pipeline": pipeline.name, "sequence": NUMBERED}
    if time := pipeline.data.event_time:
        first, last = _span(rows[time])
        query |= {"last_event_at": {"$gte": first}, "first_event_at": {"$lte": last}}
    target = pipeline.training.target
    blobs = (store.blob(batch.data) for batch in store.find(Batch, query) if batch.data)
    tables = [_columns_of(blob, identity, (target,)) for blob in blobs]
    names = list(dict.fromkeys([*identity, target]))
    return pd.concat([rows[names].head(0), *tables], ignore_index=True)


def _columns_of(
    blob: bytes, names: list[str], if_there: tuple[str, ...] = ()
) -> pd.DataFrame | None:
    """Some columns of a batch, and others if it has them.

    None if it was made under a schema that lacks one of the first.
    """
    stored = set(pq.read_schema(BytesIO(blob)).names)
    if not stored.issuperset(names):
        return None
    others = [name for name in if_there if name in stored and name not in names]
    return from_parquet(blob, [*names, *others])


def _span(times: pd.Series) -> tuple[datetime, datetime]:
    """The first and the last time, rounded outwards to the store's milliseconds."""
    utc = times.dt.tz_convert("UTC")
    return utc.min().floor("ms").to_pydatetime(), utc.max().ceil("ms").to_pydatetime()


def _set_aside(rows: Rows, store: Store) -> SetAside:
    if rows.refused.empty:
        return SetAside()
    data = store.put_blob(to_parquet(rows.refused.astype("str")))
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
