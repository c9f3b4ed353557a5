"""Targets that arrive later than their rows, and how they find them: by the rows' identity."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.pipeline import Schema

if TYPE_CHECKING:
    import pandas as pd


def identity_of(schema: Schema) -> list[str]:
    """The columns that make a row the same row, the time first."""
    time = [schema.event_time] if schema.event_time else []
    return list(dict.fromkeys([*time, *(schema.key or schema.columns)]))


def join_labels(
    rows: "pd.DataFrame", labels: "Sequence[pd.DataFrame]", identity: list[str], target: str
) -> "pd.DataFrame":
    """The rows, in their order, with the targets that they came without.

    Args:
        rows: with the columns of `identity`, and the target or not.
        labels: of each batch that brought some, the columns of `identity` and the target, oldest
            first. Of two for one row the first counts. Those of an older schema that lacks a
            column are left out.
    """
    import pandas as pd

    usable = [each for each in labels if {*identity, target} <= set(each.columns)]
    if not usable or rows.empty:
        return rows
    known = pd.concat([in_zones_of(rows, each, identity) for each in usable], ignore_index=True)
    known = known.drop_duplicates(identity, keep="first")
    late = rows[identity].merge(known[[*identity, target]], on=identity, how="left")[target]
    late.index = rows.index
    own = rows.get(target, late)
    return rows.assign(**{target: own.where(own.notna(), late)})


def in_zones_of(
    rows: "pd.DataFrame", labels: "pd.DataFrame", identity: list[str]
) -> "pd.DataFrame":
    """The labels with times in the zones of the rows' own: a pipeline's zone may have changed.

    Args:
        identity: columns of both tables, of which those of a time with a zone are changed.
    """
    import pandas as pd

    zones = {
        name: rows[name].dtype
        for name in identity
        if isinstance(rows[name].dtype, pd.DatetimeTZDtype)
    }
    return labels.astype(zones)
