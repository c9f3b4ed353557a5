"""From a source's answer to a batch of rows that no earlier batch holds."""

import math
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

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
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline, Schema
from shared.records import Batch, SetAside
from shared.settings import Settings
from shared.store import Store


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
    answer = read_source(pipeline, settings, known_files(pipeline.name, store))
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

    The number of the batch is the next one before the earlier batches are looked at. If another
    ingestion takes it first, the record is refused and the event is handled again, so no row gets
    into two batches.

    Raises:
        WillNotPass: the answer is not the pipeline's table, or too many of its rows are bad.
    """
    sequence = _next_sequence(pipeline, store)
    rows = _validated(answer, pipeline.data)
    new = _new_rows(rows.valid, pipeline, store)
    fields: dict[str, Any] = {
        "rows_received": len(answer.table),
        "rows_known": len(rows.valid) - len(new),
        "set_aside": _set_aside(rows, store),
        "source": answer.source,
        "files": answer.files,
        "files_set_aside": answer.files_set_aside,
        "as_reference": as_reference,
    }
    if new.empty:
        return Outcome(Batch(**record_fields(event, "ingest"), outcome="nothing new", **fields))
    return _batch(event, sequence, new, pipeline, store, fields)


def _next_sequence(pipeline: Pipeline, store: Store) -> int:
    newest = store.newest(Batch, {"pipeline": pipeline.name, "sequence": {"$ne": None}}, "sequence")
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


def _new_rows(valid: pd.DataFrame, pipeline: Pipeline, store: Store) -> pd.DataFrame:
    """The rows that no earlier batch holds, each once, in the order of time and key."""
    identity = _identity(pipeline.data)
    if valid.empty:
        return valid
    ordered = valid.sort_values(identity, kind="stable", ignore_index=True)
    once = ordered.drop_duplicates(identity, keep="first", ignore_index=True)
    known = _known_identities(once, pipeline, identity, store)
    if known.empty:
        return once
    index = pd.MultiIndex.from_frame(once[identity])
    return once[~index.isin(pd.MultiIndex.from_frame(known))].reset_index(drop=True)


def _identity(schema: Schema) -> list[str]:
    """The columns that make a row the same row, the time first."""
    time = [schema.event_time] if schema.event_time else []
    return list(dict.fromkeys([*time, *(schema.key or schema.columns)]))


def _known_identities(
    rows: pd.DataFrame, pipeline: Pipeline, identity: list[str], store: Store
) -> pd.DataFrame:
    """The identities in all batches that may hold one of the rows: those of overlapping times."""
    query: dict[str, Any] = {"pipeline": pipeline.name, "sequence": {"$ne": None}}
    if time := pipeline.data.event_time:
        first, last = _span(rows[time])
        query |= {"last_event_at": {"$gte": first}, "first_event_at": {"$lte": last}}
    blobs = (store.blob(batch.data) for batch in store.find(Batch, query) if batch.data)
    tables = [_columns_of(blob, identity) for blob in blobs]
    return pd.concat([rows[identity].head(0), *tables], ignore_index=True)


def _columns_of(blob: bytes, names: list[str]) -> pd.DataFrame | None:
    """Some columns of a batch; None if it was made under a schema that lacks one of them."""
    try:
        return from_parquet(blob, names)
    except pa.ArrowInvalid:
        return None


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
    rows: pd.DataFrame,
    pipeline: Pipeline,
    store: Store,
    fields: dict[str, Any],
) -> Outcome:
    chunk_rows = pipeline.drift.chunk_rows
    data = store.put_blob(to_parquet(rows, row_group_rows=chunk_rows))
    time = pipeline.data.event_time
    first, last = _span(rows[time]) if time else (None, None)
    batch = Batch(
        **record_fields(event, "ingest"),
        outcome="ingested",
        sequence=sequence,
        data=data,
        rows=len(rows),
        first_event_at=first,
        last_event_at=last,
        **fields,
    )
    ingested = BatchIngested(
        **caused_fields(event, "ingest", BatchIngested),
        sequence=sequence,
        rows=len(rows),
        data=data,
        as_reference=batch.as_reference,
    )
    return Outcome(batch, (*chunk_events(event, ingested, chunk_rows), ingested))


def chunk_events(
    event: IngestionDue, ingested: BatchIngested, chunk_rows: int
) -> tuple[ChunkIngested, ...]:
    """The row groups of a batch that has several."""
    if ingested.as_reference or ingested.rows <= chunk_rows:
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
