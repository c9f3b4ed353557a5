"""Fixtures of the publisher's tests."""

from pathlib import Path

import pytest

from tests.integration.publisher.bare import Bare


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    """An empty model repository."""
    return Bare.make(tmp_path / "models.git")
