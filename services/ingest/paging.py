"""Whether the pages of a table hold all of its rows.

A host that cuts pages from rows in no fixed order answers some rows twice and others never, and the
number of rows that came is still its `total`. So what counts is how many *distinct* rows have come.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass
class Read:
    """One read of a table from its first page on; it grows page by page."""

    pages: list[pd.DataFrame] = field(default_factory=list)
    total: int | None = None
    """How many rows the host says there are."""
    total_is_wrong: bool = False
    """Whether more rows came than `total` says."""
    ended: bool = False
    """Whether the host had no further page. A read that was broken off has not ended."""

    @property
    def expected(self) -> int:
        """How many rows the table seems to have."""
        if self.total is not None and not self.total_is_wrong:
            return self.total
        return self.received if self.ended else 0

    @property
    def received(self) -> int:
        """Rows that came, repeated ones included."""
        return sum(map(len, self.pages))

    @property
    def rows(self) -> pd.DataFrame:
        """The rows as they came."""
        return pd.concat(self.pages, ignore_index=True) if self.pages else pd.DataFrame()

    def brings_nothing_new(self, page: pd.DataFrame) -> bool:
        """Whether every row of a page has come before."""
        rows = pd.concat([*self.pages, page], ignore_index=True)
        return bool(rows.duplicated().to_numpy()[-len(page) :].all())

    def says_the_same(self, other: "Read") -> bool:
        """Whether two whole reads with pages of different lengths brought the same rows.

        Then the host's order of rows is fixed: a row that came twice stands twice in the table, and
        no further read brings another.
        """
        if not (self.ended and other.ended):
            return False
        of_one_page = len(self.pages) == len(other.pages) == 1
        if not of_one_page and self._largest_page == other._largest_page:
            return False
        return np.array_equal(_sorted_hashes(self.rows), _sorted_hashes(other.rows))

    @property
    def _largest_page(self) -> int:
        return max(map(len, self.pages), default=0)


class Collection:
    """The distinct rows of all reads of one state of a table.

    Equal rows on one page are as many rows of the table: a page is one answer, cut in one go. Equal
    rows on different pages may be one row that has moved, and count as one.
    """

    def __init__(self) -> None:
        self.pages = 0
        """Pages of all reads."""
        self._rows = pd.DataFrame()
        self._nth: NDArray[np.intp] = np.zeros(0, np.intp)
        self._last: Read | None = None
        self._expected = 0
        self._fixed: Read | None = None

    def add(self, read: Read) -> None:
        """Take in what a read brought."""
        if not read.pages:
            return
        self.pages += len(read.pages)
        self._expected = max(self._expected, read.expected)
        rows = pd.concat([self._rows, read.rows], ignore_index=True)
        nth = np.concatenate([self._nth, _nth_on_page(read)])
        new = ~pd.DataFrame({"row": _row_numbers(rows), "nth": nth}).duplicated().to_numpy()
        self._rows, self._nth = rows[new].reset_index(drop=True), nth[new]
        if self._last and read.says_the_same(self._last):
            self._fixed = read
        self._last = read

    @property
    def is_begun(self) -> bool:
        """Whether rows have come."""
        return self._last is not None

    @property
    def rows(self) -> pd.DataFrame:
        """All rows that came; those that the table itself holds twice stand twice."""
        return self._fixed.rows if self._fixed else self._rows

    @property
    def missing(self) -> int:
        """How many rows of the table did not come."""
        return max(self._expected - len(self.rows), 0)

    @property
    def is_final(self) -> bool:
        """Whether a further read would bring nothing."""
        return self._fixed is not None or (self.is_begun and not self.missing)


def _nth_on_page(read: Read) -> NDArray[np.intp]:
    """For each row of a read, how many equal ones stand before it on its page."""
    page = np.repeat(np.arange(len(read.pages)), [len(page) for page in read.pages])
    places = pd.DataFrame({"row": _row_numbers(read.rows), "page": page})
    return np.asarray(places.groupby(["row", "page"]).cumcount(), dtype=np.intp)


def _row_numbers(rows: pd.DataFrame) -> NDArray[np.intp]:
    """A number for each row; equal rows have the same one."""
    if rows.columns.empty:
        return np.arange(len(rows))
    groups = rows.groupby(list(rows.columns), dropna=False, sort=False)
    return np.asarray(groups.ngroup(), dtype=np.intp)


def _sorted_hashes(rows: pd.DataFrame) -> NDArray[np.uint64]:
    ordered = rows.reindex(columns=sorted(rows.columns))
    return np.sort(pd.util.hash_pandas_object(ordered, index=False).to_numpy())
