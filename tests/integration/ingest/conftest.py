"""Short pauses between the tries of a request."""

import pytest
import tenacity

from services.ingest import fetch


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_BACKOFF", tenacity.wait_random(0, 0.02))
