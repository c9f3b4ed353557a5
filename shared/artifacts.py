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
    """The record with its seal: the hexadecimal HMAC-SHA-256 of what it says under the key."""
    return model.model_copy(update={"seal": _seal(model, key)})


def verify(data: bytes, model: ModelVersion, key: SecretStr) -> None:
    """Check a model's bytes against its record, and the record against its seal.

    Raises:
        TamperedArtifact: either does not match; the bytes must not be loaded.
    """
    if not hmac.compare_digest(sha256(data), model.model):
        raise TamperedArtifact(f"the bytes do not have the recorded SHA-256 {model.model}")
    if not hmac.compare_digest(_seal(model, key).encode(), model.seal.encode()):
        raise TamperedArtifact(
            "the seal of its record does not match: the record was altered, or was not sealed with "
            "this MODEL_SIGNING_KEY"
        )


def _seal(model: ModelVersion, key: SecretStr) -> str:
    # Without defaults: a field that a later version adds leaves the seals of older records whole.
    said = model.model_dump(mode="json", exclude=_NOT_SEALED, exclude_defaults=True)
    text = json.dumps(said, sort_keys=True)
    return hmac.new(key.get_secret_value().encode(), text.encode(), hashlib.sha256).hexdigest()
