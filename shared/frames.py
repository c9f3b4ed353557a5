"""Tables as bytes: Parquet, the same bytes for the same rows."""

from io import BytesIO
from typing import TYPE_CHECKING, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pandas as pd

ROW_GROUP_ROWS: Final = 1_000_000


def to_parquet(frame: "pd.DataFrame", row_group_rows: int = ROW_GROUP_ROWS) -> bytes:
    """The frame as Parquet (zstd), without its index."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_rows)
    return sink.getvalue()


def from_parquet(data: bytes, columns: list[str] | None = None) -> "pd.DataFrame":
    """The frame of the bytes, or some of its columns."""
    return cast("pd.DataFrame", arrow_table(data, columns).to_pandas())


def arrow_table(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The Arrow table of the bytes, or some of its columns."""
    return pq.read_table(BytesIO(data), columns=columns)


def storable(text: str) -> str:
    """The text without the lone surrogates that JSON can hold and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
