"""`trimtab ingest` and `trimtab reference set`: a file taken in by hand."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

from services.cli.asking import Asking
from services.ingest.batch import ingest_batch
from services.ingest.sources import Answer
from services.ingest.tables import read_file
from shared.audit import subject_of_batch
from shared.events import IngestionDue, first_event_fields
from shared.failures import WillNotPass
from shared.outcome import Handling
from shared.records import Action, Batch
from shared.stage import BROKER_ERRORS
from shared.store import Conflict

_TRIES: Final = 5


def take_in_file(
    file: Path,
    asking: Asking,
    pipeline: str,
    because: str,
    *,
    as_reference: bool = False,
) -> Batch:
    """Take in the rows of a file that are not known yet, as the ingest stage would.

    If the broker is out of reach the batch is kept all the same; the sweep sends it on. A file that
    brings nothing asks for nothing.

    Raises:
        WillNotPass: the file cannot be read as the pipeline's table; the text says why.
    """
    resources = asking.resources
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
        batch = cast("Batch", outcome.record)
        if batch.sequence:
            action: Action = "reference set" if as_reference else "ingest"
            subject = subject_of_batch(batch)
            entry = asking.ask(action, pipeline, batch.trace_id, subject, because)
            batch = batch.model_copy(update={"request": entry.number})
        try:
            resources.store.record(batch, outcome.events, handling)
        except Conflict:
            continue
        break
    else:
        raise WillNotPass(f"{pipeline}: other ingestions were faster {_TRIES} times; try again")
    try:
        for follower in outcome.events:
            resources.broker.send(follower)
        resources.store.mark_sent(batch)
    except BROKER_ERRORS:
        pass
    return batch
