"""Sealed artifacts: bytes that may be unpickled because this system wrote them.

joblib files are pickle, and loading them runs code. A model's record holds the SHA-256 of its bytes
and an HMAC under a key that only the trainer's side knows; both are checked before a load.
"""

import hashlib
import hmac

from pydantic import SecretStr


class TamperedArtifact(Exception):
    """The bytes are not those that were sealed."""


def sha256(data: bytes) -> str:
    """The hexadecimal SHA-256 of the bytes."""
    return hashlib.sha256(data).hexdigest()


def seal(data: bytes, key: SecretStr) -> str:
    """The hexadecimal HMAC-SHA-256 of the bytes under the key."""
    return hmac.new(key.get_secret_value().encode(), data, hashlib.sha256).hexdigest()


def verify(data: bytes, *, digest: str, sealed: str, key: SecretStr) -> None:
    """Check the bytes against the digest and the seal of their record.

    Raises:
        TamperedArtifact: either does not match; the bytes must not be loaded.
    """
    if not hmac.compare_digest(sha256(data), digest):
        raise TamperedArtifact(f"the bytes do not have the recorded SHA-256 {digest}")
    if not hmac.compare_digest(seal(data, key), sealed):
        raise TamperedArtifact(
            f"the seal of {digest} does not match: it was not made with this MODEL_SIGNING_KEY"
        )
