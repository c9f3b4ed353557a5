"""Sealed models: bytes that may be unpickled because this system wrote them.

joblib files are pickle, and loading them runs code. A model's record holds the SHA-256 of its
bytes, and an HMAC of the record under a key that only the trainer's side knows; both are checked
before a load.
"""

import hashlib
import hmac
import json
from typing import Final

from pydantic import SecretStr

from shared.records import ModelVersion

_NOT_SEALED: Final = {"seal", "recorded_at", "handled_seconds"}
"""What is not known yet when a record is sealed, or less exact once it is stored."""


class TamperedArtifact(Exception):
    """The bytes, or what the record says of them, are not what was sealed."""


def sha256(data: bytes) -> str:
    """The hexadecimal SHA-256 of the bytes."""
    return hashlib.sha256(data).hexdigest()


def sealed(model: ModelVersion, key: SecretStr) -> ModelVersion:
    """The record with its seal: the hexadecimal HMAC-SHA-256 of what it says, by the first key."""
    return model.model_copy(update={"seal": _seal(model, _keys(key)[0])})


def verify(data: bytes, model: ModelVersion, key: SecretStr) -> None:
    """Check a model's bytes against its record, and the record against its seal.

    Raises:
        TamperedArtifact: either does not match; the bytes must not be loaded.
    """
    if not hmac.compare_digest(sha256(data), model.model):
        raise TamperedArtifact(f"the bytes do not have the recorded SHA-256 {model.model}")
    seals = [_seal(model, known) for known in _keys(key)]
    if not any(hmac.compare_digest(seal.encode(), model.seal.encode()) for seal in seals):
        raise TamperedArtifact(
            "the seal of its record does not match: the record was altered, or was not sealed with "
            "this MODEL_SIGNING_KEY"
        )


def _keys(key: SecretStr) -> list[bytes]:
    """One a line: while a key is replaced, the old one stands below the new."""
    return [line.encode() for line in key.get_secret_value().splitlines()]


def _seal(model: ModelVersion, key: bytes) -> str:
    # Without defaults: a field that a later version adds leaves the seals of older records whole.
    said = model.model_dump(mode="json", exclude=_NOT_SEALED, exclude_defaults=True)
    text = json.dumps(said, sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
