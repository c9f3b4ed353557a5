"""A fitted model as bytes."""

import io
import pickle
import sys
from typing import Final

import joblib
from sklearn.pipeline import Pipeline as Steps

_COMPRESSION: Final = ("zlib", 3)
"""On forests, level 6 takes twice the time for 4 % less; level 1 saves none and gives 8 % more."""


def dump_model(model: Steps) -> bytes:
    """The model as a compressed joblib file: the same bytes for the same fit in every process."""
    sink = io.BytesIO()
    joblib.dump(_with_equal_texts_shared(model), sink, compress=_COMPRESSION)
    return sink.getvalue()


class _TextsApart(pickle.Pickler):
    def persistent_id(self, part: object) -> str | None:
        return part if type(part) is str else None


class _TextsInterned(pickle.Unpickler):
    def persistent_load(self, text: str) -> str:
        return sys.intern(text)


def _with_equal_texts_shared(model: Steps) -> Steps:
    """A copy in which equal texts are one object.

    A pickle also says which texts are one object. That depends on where they were read from, and
    would make different bytes of equal models.
    """
    sink = io.BytesIO()
    _TextsApart(sink).dump(model)
    sink.seek(0)
    copy: Steps = _TextsInterned(sink).load()
    return copy
