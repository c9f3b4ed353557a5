"""A fitted model as bytes."""

import io
import pickle
import sys
from typing import Any, Final

import joblib
import numpy as np
from sklearn.pipeline import Pipeline as Steps

_COMPRESSION: Final = ("zlib", 3)
"""On forests, level 6 takes twice the time for 4 % less; level 1 saves none and gives 8 % more."""


def dump_model(model: Steps) -> bytes:
    """The model as a compressed joblib file: the same bytes for the same fit in every process."""
    sink = io.BytesIO()
    joblib.dump(_with_equal_texts_shared(model), sink, compress=_COMPRESSION)
    return sink.getvalue()


class _TextsApart(pickle.Pickler):
    def persistent_id(self, part: object) -> str | np.dtype[Any] | None:
        return part if type(part) is str or isinstance(part, np.dtype) else None


class _TextsShared(pickle.Unpickler):
    def __init__(self, source: io.BytesIO) -> None:
        super().__init__(source)
        self._dtypes: dict[np.dtype[Any], np.dtype[Any]] = {}

    def persistent_load(self, part: str | np.dtype[Any]) -> str | np.dtype[Any]:
        if isinstance(part, str):
            return sys.intern(part)
        return self._dtypes.setdefault(part, part)


def _with_equal_texts_shared(model: Steps) -> Steps:
    """A copy in which equal texts are one object, and equal types of arrays.

    A pickle also says which of them are one object. That depends on where they were read from, and
    on whether trees were grown in this process. It would make different bytes of equal models.
    """
    sink = io.BytesIO()
    _TextsApart(sink).dump(model)
    sink.seek(0)
    copy: Steps = _TextsShared(sink).load()
    return copy
