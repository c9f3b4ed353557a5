"""What a batch costs does not grow with the history: no query of a stage walks through it."""

import pytest

from shared.stage import Resources
from tests.integration.profiler import looked_at, profiled
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
    with profiled(workers.store.database) as entries:
        workers.tick()
        workers.work()
    queries = {(of, asked): seen for of, asked, seen in looked_at(entries)}
    assert len(queries) > 10
    assert {of: seen for of, seen in queries.items() if seen > MOST_DOCUMENTS} == {}
