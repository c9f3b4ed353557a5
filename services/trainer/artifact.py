"""A fitted model as bytes, and back."""

import io
import pickle
from typing import Final

import joblib
from pydantic import SecretStr
from sklearn.pipeline import Pipeline as Steps

from shared.artifacts import verify

_COMPRESSION: Final = ("zlib", 3)


def dump_model(model: Steps) -> bytes:
    """The model as a compressed joblib file: the same bytes for the same fit in every process.

    A pickle also records which equal parts were one object in memory, which differs from process to
    process. A copy made by pickle keeps only what the pickle said, so it is dumped instead.
    """
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own object, a line ago
    sink = io.BytesIO()
    joblib.dump(copy, sink, compress=_COMPRESSION)
    return sink.getvalue()


def load_model(data: bytes, *, digest: str, sealed: str, key: SecretStr) -> Steps:
    """The model of the bytes, once they are known to be those that were sealed.

    Raises:
        TamperedArtifact: they are not; nothing was loaded.
    """
    verify(data, digest=digest, sealed=sealed, key=key)
    model: Steps = joblib.load(io.BytesIO(data))
    return model
