"""The event that has waited longest, beside messages that are none: what `trimtab status` asks."""

import pytest
from redis import Redis

from shared.events import IngestionDue, dump_event
from shared.stage import Resources
from tests.security.foreign_messages import foreign
from tests.security.test_foreign_messages import UNKNOWN_PIPELINE

EVENT = UNKNOWN_PIPELINE["ingest"]
FOREIGN = foreign("ingest", EVENT.type, dump_event(EVENT))


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_message_before_it_is_passed_over(resources: Resources, case: str) -> None:
    assert isinstance(EVENT, IngestionDue)
    queue = f"{resources.settings.key_prefix}ingest"
    Redis.from_url(resources.settings.redis_url.get_secret_value()).rpush(queue, FOREIGN[case])
    found = resources.broker.oldest_event("ingest")
    assert found in (None, EVENT)
    later = EVENT.model_copy(update={"event_id": "e" * 32})
    resources.broker.send(later)
    assert resources.broker.oldest_event("ingest") == (found or later)
