"""Tables as bytes: Parquet, the same bytes for the same rows."""

from io import BytesIO
from typing import cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def to_parquet(frame: pd.DataFrame) -> bytes:
    """The frame as Parquet (zstd), without its index."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_parquet(data: bytes, columns: list[str] | None = None) -> pd.DataFrame:
    """The frame of the bytes, or some of its columns."""
    return cast("pd.DataFrame", pq.read_table(BytesIO(data), columns=columns).to_pandas())
