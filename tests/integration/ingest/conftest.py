"""Short pauses between the tries of a request, and between the reads of a table."""

import pytest
import tenacity

from services.ingest import data_gov_in, fetch


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_BACKOFF", tenacity.wait_random(0, 0.02))
    monkeypatch.setattr(data_gov_in, "_REST_SECONDS", 0.01)
