"""What makes a row the same row, and how targets that arrive later find theirs by it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shared.pipeline import Schema

if TYPE_CHECKING:
    import pandas as pd

_SAME_NUMBER: Final = 1e-6


def identity_of(schema: Schema) -> list[str]:
    """The columns that make a row the same row, the time first."""
    time = [schema.event_time] if schema.event_time else []
    return list(dict.fromkeys([*time, *(schema.key or schema.columns)]))


def positions(
    rows: "pd.DataFrame", others: "pd.DataFrame", identity: list[str]
) -> NDArray[np.intp]:
    """For each row its position among others that are all different; -1 if it is none of them."""
    import pandas as pd

    if rows.empty or others.empty:
        return np.full(len(rows), -1, np.intp)
    index = pd.MultiIndex.from_frame(others[identity])
    sought = pd.MultiIndex.from_frame(_comparable(rows[identity], others))
    return np.asarray(index.get_indexer(sought), dtype=np.intp)


def differing(
    rows: "pd.DataFrame", others: "pd.DataFrame", columns: "Iterable[str]"
) -> NDArray[np.bool_]:
    """For each row whether it has another value than the row at its place among the others.

    Two missing values are the same, and so are numbers that agree to six digits: another writer
    rounds differently.
    """
    differ = np.zeros(len(rows), bool)
    for name in columns:
        own, other = rows[name], _comparable(others[[name]], rows)[name]
        if own.dtype == other.dtype == np.float64:
            same = np.isclose(own.to_numpy(), other.to_numpy(), rtol=_SAME_NUMBER, atol=0)
        else:
            same = np.asarray(own.to_numpy(object) == other.to_numpy(object), dtype=bool)
        differ |= ~(same | (own.isna().to_numpy() & other.isna().to_numpy()))
    return differ


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
    known = pd.concat([_comparable(each, rows[identity]) for each in usable], ignore_index=True)
    known = known.drop_duplicates(identity, keep="first", ignore_index=True)
    place = positions(rows, known, identity)
    late = known[target].reindex(place).set_axis(rows.index)
    own = rows.get(target, late)
    return rows.assign(**{target: own.where(own.notna(), late)})


def _comparable(rows: "pd.DataFrame", others: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with times in the zones of the others': a pipeline's zone may have changed."""
    import pandas as pd

    zones = {
        name: others[name].dtype
        for name in rows
        if name in others
        and isinstance(others[name].dtype, pd.DatetimeTZDtype)
        and isinstance(rows[name].dtype, pd.DatetimeTZDtype)
    }
    return rows.astype(zones)
