"""`trimtab ingest` and `trimtab reference set`: a file taken in by hand."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
from services.ingest.tables import read_file
from shared.events import IngestionDue, first_event_fields
from shared.failures import WillNotPass
from shared.outcome import Handling
from shared.records import Batch
from shared.stage import BROKER_ERRORS, Resources
from shared.store import Conflict

_TRIES: Final = 5


def take_in_file(
    file: Path, resources: Resources, pipeline: str, *, as_reference: bool = False
) -> Batch:
    """Take in the rows of a file that are not known yet, as the ingest stage would.

    If the broker is out of reach the batch is kept all the same; the sweep sends it on.

    Raises:
        WillNotPass: the file cannot be read as the pipeline's table; the text says why.
    """
    definition = resources.pipelines[pipeline]
    table = read_file(file, definition.data.spellings)
    answer = Answer(table=table, source=f"file {file.name}")
    event = IngestionDue(
        **first_event_fields(pipeline, "by hand", uuid4().hex), slot=datetime.now(UTC)
    )
    for attempt in range(1, _TRIES + 1):
        handling = Handling(event=event, attempt=attempt, begun_at=datetime.now(UTC))
        outcome = ingest_batch(
            event, answer, definition, resources.store, as_reference=as_reference
        )
        try:
            resources.store.record(outcome.record, outcome.events, handling)
        except Conflict:
            continue
        break
    else:
        raise WillNotPass(f"{pipeline}: other ingestions were faster {_TRIES} times; try again")
    try:
        for follower in outcome.events:
            resources.broker.send(follower)
        resources.store.mark_sent(outcome.record)
    except BROKER_ERRORS:
        pass
    return cast("Batch", outcome.record)
