"""Columns of Arrow in the types that are read here, the same for `check`, `ingest` and `replay`."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

_DECIMALS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""By the unit of a duration: how many decimals its seconds have."""


def in_plain_type(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without types that only wrap another one: UUIDs and bytes as texts, the other
    extensions as what they are stored as.

    Bytes are the text that they spell in UTF-8. If they spell none, they are their hexadecimal
    digits behind '0x'.
    """
    kind = column.type
    if isinstance(kind, pa.UuidType):
        return _as_texts(column, str)
    if isinstance(kind, pa.Bool8Type):
        return column.cast(pa.bool_())
    if isinstance(kind, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
    if pa.types.is_dictionary(kind) and _is_bytes(kind.value_type):
        return _as_texts(column.cast(kind.value_type), _spelt)
    return _as_texts(column, _spelt) if _is_bytes(kind) else column


def seconds_as_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Durations as their seconds, to the last digit: '1.5'."""
    decimals = _DECIMALS[column.type.unit]

    def seconds(units: int) -> str:
        text = f"{Decimal(units).scaleb(-decimals):f}"
        return text.rstrip("0").rstrip(".") if decimals else text

    return _as_texts(column.cast(pa.int64()), seconds)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _spelt(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _as_texts(column: pa.ChunkedArray, text_of: Callable[[Any], str]) -> pa.ChunkedArray:
    texts = [None if value is None else text_of(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])
