"""Sealed models, and frames as bytes."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.artifacts import TamperedArtifact, sealed, sha256, verify
from shared.frames import from_parquet, to_parquet
from tests.integration.publisher.promotions import model_bytes, model_version

KEY = SecretStr("a signing key for tests only")


@given(st.binary(min_size=1), st.integers(0), st.integers(1, 255))
def test_any_altered_byte_is_noticed(data: bytes, place: int, change: int) -> None:
    altered = bytearray(data)
    altered[place % len(data)] ^= change
    model = sealed(model_version(1, model=sha256(data)), KEY)
    verify(data, model, KEY)
    with pytest.raises(TamperedArtifact, match="SHA-256"):
        verify(bytes(altered), model, KEY)
    passed_off = model.model_copy(update={"model": sha256(bytes(altered))})
    with pytest.raises(TamperedArtifact, match="record was altered"):
        verify(bytes(altered), passed_off, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"pipeline": "parcels"},
        {"decision": "rejected"},
        {"reason": "better than all before"},
        {"metrics": {"mae": 0.1}},
        {"lineage": {}},
        {"window": sha256(b"other rows")},
        {"held_out_losses": sha256(b"smaller ones")},
        {"plots": {"plots/predictions-light.png": sha256(b"a prettier one")}},
        {"restores": 1},
        {"seal": "0" * 64},
        {"seal": "ä"},
        {"seal": ""},
    ],
    ids=str,
)
def test_any_altered_field_is_noticed(change: dict[str, Any]) -> None:
    model = sealed(model_version(2), KEY)
    with pytest.raises(TamperedArtifact, match="record was altered"):
        verify(model_bytes(2), model.model_copy(update=change), KEY)


def test_a_replaced_key_still_verifies_and_the_new_one_seals() -> None:
    new = SecretStr("the key that replaces it")
    both = SecretStr(f"{new.get_secret_value()}\n{KEY.get_secret_value()}")
    verify(model_bytes(2), sealed(model_version(2), KEY), both)
    verify(model_bytes(2), sealed(model_version(2), both), new)
    with pytest.raises(TamperedArtifact):
        verify(model_bytes(2), sealed(model_version(2), both), KEY)


def test_the_seal_of_another_version_does_not_fit() -> None:
    """An older model, sealed by us and worse, is not passed off as the champion."""
    older, champion = sealed(model_version(1), KEY), sealed(model_version(2), KEY)
    passed_off = champion.model_copy(update={"model": older.model, "seal": older.seal})
    with pytest.raises(TamperedArtifact):
        verify(model_bytes(1), passed_off, KEY)


def test_another_key_does_not_fit() -> None:
    with pytest.raises(TamperedArtifact, match="MODEL_SIGNING_KEY"):
        verify(model_bytes(1), sealed(model_version(1), KEY), SecretStr("another key of letters"))


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
