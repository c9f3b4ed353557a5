"""Counts of stored batches, row group by row group: no more than one is in memory.

The row groups of a large batch are counted by whichever workers are free, each as an event of its
own (`ChunkIngested`); the batch's check waits for them and adds. The sum is the same, to the last
digit, whoever counts.
"""

from functools import reduce
from operator import add

import pyarrow as pa
import pyarrow.parquet as pq

from services.drift.calibration.binning import Counts
from services.drift.calibration.profile import Profile
from services.drift.ordering import require_earlier_settled
from services.drift.stored_profile import StoredProfile, profile_of
from services.drift.tables.frame import Frame
from shared.events import ChunkIngested, Sha256, effect_id
from shared.failures import NotYet
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import Batch, ChunkCounts
from shared.store import Store


def count_chunk(event: ChunkIngested, pipeline: Pipeline, store: Store) -> Outcome:
    """Count one row group of a large batch.

    Raises:
        NotYet: an earlier batch may still move the reference, and the bins with it.
    """
    require_earlier_settled(event, store)
    reference = store.reference(event.pipeline)
    record = ChunkCounts(
        **record_fields(event, "drift"), sequence=event.sequence, row_group=event.row_group
    )
    if reference is None:
        return Outcome(record)
    stored = profile_of(reference, pipeline, store)
    parquet = open_parquet(event.data, store)
    counts = store.put_blob(
        stored.profile.dump_counts(_count(parquet, event.row_group, stored.profile))
    )
    return Outcome(record.model_copy(update={"profile": stored.digest, "counts": counts}))


def count_batch(batch: Batch, stored: StoredProfile, store: Store) -> Counts:
    """Count a batch, with the chunks that are counted already. Without rows it is an empty one.

    Raises:
        NotYet: a chunk is still to be counted.
    """
    if batch.data is None:
        return stored.profile.count(pa.table({}))
    parquet = open_parquet(batch.data, store)
    counted = _counted_chunks(batch, stored, store) if parquet.num_row_groups > 1 else {}
    return reduce(
        add,
        (
            counted[group] if group in counted else _count(parquet, group, stored.profile)
            for group in range(parquet.num_row_groups)
        ),
    )


def _counted_chunks(batch: Batch, stored: StoredProfile, store: Store) -> dict[int, Counts]:
    """Row group -> its counts. One that a worker gave up, or in other bins, is left out."""
    counted = {}
    for event in store.events_of(batch):
        if not isinstance(event, ChunkIngested):
            continue
        effect = effect_id("drift", event.event_id)
        if not store.is_settled(effect):
            raise NotYet(effect)
        chunk = store.get(ChunkCounts, effect)
        if chunk and chunk.counts and chunk.profile == stored.digest:
            counted[chunk.row_group] = stored.profile.load_counts(store.blob(chunk.counts))
    return counted


def open_parquet(data: Sha256, store: Store) -> pq.ParquetFile:
    """The rows of a batch, of which no more is read than is asked for."""
    return pq.ParquetFile(store.blob_file(data), pre_buffer=True)


def _count(parquet: pq.ParquetFile, row_group: int, profile: Profile) -> Counts:
    binning = profile.binning
    segment = [binning.segment] if binning.segment else []
    names = dict.fromkeys([*binning.numbers, *binning.categories, *segment])
    return profile.count(Frame(parquet.read_row_group(row_group, columns=list(names))))
