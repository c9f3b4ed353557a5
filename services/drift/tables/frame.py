"""A table as the drift check sees it: columns of numbers and columns of categories."""

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Union

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.drift.tables.numbers import Writing, is_number, number, writing_of
from shared.tables.arrow_types import in_plain_type
from shared.tables.spelling import FALSE, TRUE, spelt

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]
Codes = NDArray[np.int32]
Tabular = Union["pd.DataFrame", pa.Table, "Frame"]

MISSING: Final = -1
"""The code of a missing category."""
MISSING_TEXTS: Final = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
"""Texts that stand for a missing value where no pipeline says which do."""
_A_SECOND: Final = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""In the unit of a duration."""


class Frame:
    """The columns of a table, converted when asked for."""

    def __init__(self, table: pa.Table, whole: "Frame | None" = None) -> None:
        """A frame over an Arrow table.

        Args:
            whole: of which the table is a part: how a column spells its numbers is read off it.
        """
        self.table = _of_plain_types(table)
        self._whole = whole
        self._writings: dict[str, Writing | None] = {}

    @classmethod
    def of(cls, data: Tabular) -> "Frame":
        """A frame over a pandas DataFrame, an Arrow table or a frame.

        Raises:
            TypeError: it is none of them.
            ValueError: two of its columns have the same name.
        """
        if isinstance(data, Frame):
            return data
        if isinstance(data, pa.Table):
            _refuse_repeated(data.column_names)
            return cls(data)
        if hasattr(data, "columns") and hasattr(data, "dtypes"):
            return cls(_from_pandas(data))
        raise TypeError(f"a table is a pandas DataFrame or an Arrow table, not {type(data)}")

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def names(self) -> list[str]:
        return list(self.table.column_names)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)

    def slice(self, start: int, rows: int) -> "Frame":
        """Some of the rows, without a copy."""
        # Arrow believes the length asked for if there are no columns.
        part = self.table.slice(start, min(rows, self.rows - start))
        return Frame(part, self._whole or self)

    def numbers(self, name: str) -> Numbers:
        """A column as floats, of shape (rows,); what is not finite is missing.

        A column that the table does not have is missing in every row. Text counts as the number
        that it spells, and a flag as 1 or 0.
        """
        if name not in self._known:
            return np.full(self.rows, np.nan)
        column = self.table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not is_number(column.type):
            codes, labels = self.categories(name)
            writing = self.writing(name)
            return np.array([*(number(text, writing) for text in labels), np.nan])[codes]
        column = column.cast(pa.float64(), safe=False)
        return _array(pc.coalesce(column, _NAN) if column.null_count else column)

    def writing(self, name: str) -> Writing | None:
        """How a column of texts writes its numbers; None if most of its values are none."""
        if self._whole is not None:
            return self._whole.writing(name)
        if name not in self._writings:
            self._writings[name] = writing_of(self.rows_by_text(name))
        return self._writings[name]

    def rows_by_text(self, name: str) -> dict[str, int]:
        """A column's texts that are values, in their order, and how many rows have each."""
        codes, texts = self.categories(name)
        rows = np.bincount(codes[codes != MISSING], minlength=len(texts)).tolist()
        return {
            text: count
            for text, count in zip(texts, rows, strict=True)
            if count and text.strip() not in MISSING_TEXTS
        }

    def categories(self, name: str) -> tuple[Codes, tuple[str, ...]]:
        """A column as codes into its distinct values as text; a missing value has the code -1.

        Whole numbers are spelt without a fraction, so that 1 and 1.0 are one category, and flags
        as 'true' and 'false'.
        """
        if name not in self._known:
            return np.full(self.rows, MISSING, np.int32), ()
        encoded = _encoded(self.table.column(name))
        if encoded.num_chunks != 1:
            encoded = encoded.unify_dictionaries().combine_chunks()
        chunk = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
        codes = _array(pa.chunked_array([pc.coalesce(chunk.indices.cast(pa.int32()), _NO_CODE)]))
        return _merged(codes, chunk.dictionary)


def _encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_null(column.type):
        return column.cast(pa.string()).dictionary_encode()
    try:
        return column.dictionary_encode()
    except pa.ArrowNotImplementedError:  # lists and structures: compare their texts
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())]).dictionary_encode()


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """The column, which has no missing value; `to_numpy` would import pandas."""
    chunks = [np.from_dlpack(chunk) for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0), *chunks])


def _scalar(value: np.generic) -> pa.Scalar:
    """The value in Arrow; `pa.scalar` would import pandas."""
    kind = pa.from_numpy_dtype(value.dtype)
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(value.tobytes())])[0]


_NAN: Final = _scalar(np.float64("nan"))
_NO_CODE: Final = _scalar(np.int32(MISSING))


def _of_plain_types(table: pa.Table) -> pa.Table:
    """The table with durations as seconds, and without types that only wrap others."""
    for index, field in enumerate(table.schema):
        column = in_plain_type(table.column(index))
        if pa.types.is_duration(column.type):
            units = column.cast(pa.int64()).cast(pa.float64(), safe=False)
            column = pc.divide(units, _scalar(np.float64(_A_SECOND[field.type.unit])))
        if column.type != field.type:
            table = table.set_column(index, field.name, column)
    return table


def _refuse_repeated(names: list[str]) -> None:
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        raise ValueError(
            f"two columns are named {', '.join(map(repr, repeated))}; give each its own name"
        )


def _from_pandas(data: "pd.DataFrame") -> pa.Table:
    names = [str(name) for name in data.columns]
    _refuse_repeated(names)
    arrays = {name: _of_series(data.iloc[:, at]) for at, name in enumerate(names)}
    return pa.table(arrays) if arrays else pa.table({"": pa.nulls(len(data))})


def _of_series(column: "pd.Series") -> pa.Array:
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        # values of several types, or of one that Arrow does not have: compare their texts
        texts = [None if value is None else str(value) for value in column]
        return pa.array(texts, pa.string())


def _merged(codes: Codes, dictionary: pa.Array) -> tuple[Codes, tuple[str, ...]]:
    """Codes of distinct texts, from codes of distinct values."""
    if pa.types.is_temporal(dictionary.type):  # Python has no nanoseconds, nor years after 9999
        dictionary = dictionary.cast(pa.string())
    labels: dict[str, int] = {}
    lookup = np.full(len(dictionary) + 1, MISSING, np.int32)  # the last one serves the code -1
    for code, value in enumerate(dictionary.to_pylist()):
        text = _spelt(value)
        if text is not None:
            lookup[code] = labels.setdefault(text, len(labels))
    return lookup[codes], tuple(labels)


def _spelt(value: object) -> str | None:
    if isinstance(value, float):
        if np.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bool):
        return TRUE if value else FALSE
    return None if value is None else spelt(str(value))
