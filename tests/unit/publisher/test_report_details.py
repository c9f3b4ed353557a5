"""The whole drift report of a publication: what its own model lets through, and nothing else."""

import gzip
import json
from typing import Any

import pytest

from services.publisher.publish import report_details
from shared.artifacts import sha256
from shared.records import DriftReport
from tests.unit.drift.sample_reports import air_quality

WHOLE = air_quality().model_dump_json().encode()


class Blobs:
    """The part of the store that is asked."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def blob(self, digest: str) -> bytes:
        assert digest == sha256(self._data)
        return self._data


def details_of(content: bytes) -> bytes | None:
    data = gzip.compress(content, mtime=0)
    store: Any = Blobs(data)
    return report_details(DriftReport.model_construct(details=sha256(data)), store)


def test_a_report_is_published_as_it_was_kept() -> None:
    assert details_of(WHOLE) == WHOLE


def test_what_a_report_may_be_written_like_is_not_published() -> None:
    assert details_of(b" " * 9_000 + json.dumps(json.loads(WHOLE), indent=9).encode()) == WHOLE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a pickle, or anything else",
        b"{}",
        WHOLE[:-1],
        WHOLE[:-1] + b', "another": "key"}',
        WHOLE.replace(b"trimtab-drift-report/1", b"trimtab-drift-report/9"),
        gzip.compress(WHOLE),
    ],
)
def test_anything_else_is_not_published(content: bytes) -> None:
    assert details_of(content) is None


def test_without_a_comparison_there_is_none() -> None:
    store: Any = Blobs(b"")
    assert report_details(DriftReport.model_construct(details=None), store) is None
    assert report_details(None, store) is None
