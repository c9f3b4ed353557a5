"""The drift stage on a real store."""

import pytest

from shared.pipeline import Pipeline
from shared.store import Store
from tests.integration.drift.loop import Loop


@pytest.fixture
def loop(store: Store, air_quality: Pipeline) -> Loop:
    return Loop(store, air_quality)
