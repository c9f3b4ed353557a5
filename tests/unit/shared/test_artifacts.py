"""Sealed artifacts and frames as bytes."""

import hashlib
import hmac

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.artifacts import TamperedArtifact, seal, sha256, verify
from shared.frames import from_parquet, to_parquet

KEY = SecretStr("a signing key for tests only")


def test_seal_is_hmac_sha256() -> None:
    expected = hmac.new(KEY.get_secret_value().encode(), b"model", hashlib.sha256).hexdigest()
    assert seal(b"model", KEY) == expected


@given(st.binary(min_size=1), st.integers(0), st.integers(1, 255))
def test_any_altered_byte_is_noticed(data: bytes, place: int, change: int) -> None:
    altered = bytearray(data)
    altered[place % len(data)] ^= change
    verify(data, digest=sha256(data), sealed=seal(data, KEY), key=KEY)
    with pytest.raises(TamperedArtifact, match="SHA-256"):
        verify(bytes(altered), digest=sha256(data), sealed=seal(data, KEY), key=KEY)
    with pytest.raises(TamperedArtifact, match="seal"):
        verify(bytes(altered), digest=sha256(bytes(altered)), sealed=seal(data, KEY), key=KEY)


def test_frame_comes_back_with_its_types_and_the_same_bytes() -> None:
    frame = pd.DataFrame(
        {
            "number": [1.5, np.nan],
            "text": pd.Series(["a", None], dtype="str"),
            "time": pd.to_datetime(["2026-01-01", "2026-01-02"]).tz_localize("Asia/Kolkata"),
        }
    )
    data = to_parquet(frame)
    pd.testing.assert_frame_equal(from_parquet(data), frame)
    assert to_parquet(from_parquet(data)) == data
    assert list(from_parquet(data, ["text"])) == ["text"]
