"""The journal on the records of a real store."""

from datetime import UTC, datetime

from services.cli.journal import Journal
from shared.records import Reference
from shared.store import Store


def test_a_record_of_the_first_millisecond_is_told_once(store: Store) -> None:
    """MongoDB cuts times to milliseconds."""
    since = datetime.now(UTC).replace(microsecond=400)
    store.record(
        Reference(
            _id="drift:1",
            pipeline="air_quality",
            trace_id="0" * 32,
            recorded_at=since.replace(microsecond=600),
            version=1,
            model_version=1,
            data="0" * 64,
            rows=840,
            up_to_sequence=1,
        )
    )
    journal = Journal(store, since)
    assert [record.id for record in journal.new_records()] == ["drift:1"]
    assert journal.new_records() == []
