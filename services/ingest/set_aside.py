"""The rows that a batch's schema refused, as they are kept beside the batch, and read again."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from services.ingest.rows import Rows
from shared.frames import arrow_table

_FAULT: Final = ("column", "value", "reason", "accepted")
_ROW: Final = "row"
"""The whole row is one column of this name, so that no column of a schema can be in the way."""


@dataclass(frozen=True)
class RefusedRow:
    """A row that was set aside, and why."""

    column: str
    """Empty: the fault is of the row as a whole."""
    value: str | None
    reason: str
    accepted: str
    """What would have been kept; empty where the reason says it, and in batches of before."""
    row: dict[str, str | None]
    """All of the row's values as texts."""


def dump_refused(rows: Rows) -> bytes:
    """The refused rows as Parquet: their faults, and each row whole."""
    faults = [pa.array(rows.faults[name], pa.string(), from_pandas=True) for name in _FAULT]
    texts = [
        pa.array(rows.refused[name], pa.string(), from_pandas=True) for name in rows.refused.columns
    ]
    whole = pa.StructArray.from_arrays(texts, names=list(map(str, rows.refused.columns)))
    sink = BytesIO()
    table = pa.table([*faults, whole], names=[*_FAULT, _ROW])
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def load_refused(data: bytes, limit: int) -> Iterator[RefusedRow]:
    """The first rows that were kept, in their order; also those of batches of before."""
    table = arrow_table(data)
    described = table.column_names == [*_FAULT, _ROW] and pa.types.is_struct(
        table.schema.field(_ROW).type
    )
    for values in table.slice(0, limit).to_pylist():
        yield RefusedRow(**values) if described else _of_before(values)


def _of_before(values: dict[str, str | None]) -> RefusedRow:
    """A row as it was kept before: its values, and the fault in words in the column `reason`."""
    fault = values.pop("reason", None) or ""
    column = next((name for name in values if fault.startswith((f"{name}: ", f"{name} "))), "")
    row = {name: None if pd.isna(value) else value for name, value in values.items()}
    reason = fault.removeprefix(column or "row").removeprefix(":").strip()
    return RefusedRow(column, row.get(column), reason, "", row)
