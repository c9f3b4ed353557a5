"""What a batch costs does not grow with the history: no query of a stage walks through it."""

import pytest

from shared.stage import Resources
from tests.integration.workers import Workers, workers_of

HOURS = 40
MOST_DOCUMENTS = 8
"""What one query may look at. The last hour is not one at whose end a longer window is due."""


@pytest.fixture
def workers(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Workers:
    return workers_of(resources, HOURS + 9, monkeypatch)


def test_no_query_looks_at_more_than_a_few_documents(workers: Workers) -> None:
    for _ in range(HOURS):
        workers.tick()
        workers.work()
    database = workers.store.database
    database.command("profile", 2)
    workers.tick()
    workers.work()
    database.command("profile", 0)
    looked_at = {
        (entry["ns"].partition(".")[2], str(entry["command"].get("filter"))): entry["docsExamined"]
        for entry in database["system.profile"].find({"docsExamined": {"$exists": True}})
    }
    assert len(looked_at) > 10
    assert {of: seen for of, seen in looked_at.items() if seen > MOST_DOCUMENTS} == {}
