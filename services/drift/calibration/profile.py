"""The profile of a reference: all that a check needs to know of it, without its rows."""

import gzip
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from services.drift.calibration.arrays import Array
from services.drift.calibration.binning import Binning, Counts, Edges
from services.drift.calibration.cells import (
    TAIL_SHARE,
    CategoryTest,
    Cells,
    Floats,
    MissingTest,
    NumberTest,
    PairTest,
)
from services.drift.calibration.dependence import whitened
from services.drift.calibration.fitting import (
    Dependence,
    SampledRows,
    Scores,
    cluster_ids,
    fit_binning,
    fit_dependence,
)
from services.drift.calibration.null import Null, NullPoint, Simulation
from services.drift.calibration.scores import mid_ranks
from services.drift.report.model import ColumnRole
from services.drift.tables.frame import Frame, Tabular
from services.drift.tables.roles import Roles, infer_roles
from shared.failures import first_fault
from shared.gunzip import GzipRefused, gunzip

FORMAT: Final = "trimtab-profile/2"

_SEED: Final = 20_240_507
"""The same reference gives the same profile, wherever and whenever."""

_D = TypeVar("_D", bound=BaseModel)

Progress = Callable[[float], None]


class Profile:
    """A reference as bins, counts, and the distribution of the check when nothing has changed."""

    def __init__(
        self, roles: Roles, binning: Binning, reference: Counts, dependence: Dependence, null: Null
    ) -> None:
        self.roles = roles
        self.binning = binning
        self.reference = reference
        self._dependence = dependence
        self._null = null

    @classmethod
    def fit(
        cls,
        reference: Tabular,
        *,
        roles: Roles | None = None,
        segment: str | None = None,
        cluster: tuple[str, ...] = (),
        columns: tuple[str, ...] = (),
        target: str | None = None,
    ) -> "Profile":
        """Learn a reference.

        The simulation of the null distribution is put off until a check needs it; `complete` or
        `to_bytes` does all of it.

        Args:
            reference: a table, a row an observation.
            roles: which columns are compared and how; None: read off the data with the arguments
                that follow.
            segment: a category column within whose values every column is compared as well.
            cluster: rows equal in these columns are not independent.
            columns: to compare; none: all that can be.
            target: the column that a model predicts; it is compared like any other.

        Raises:
            ValueError: the table has no rows, or a named column does not exist or does not fit.
        """
        frame = Frame.of(reference)
        if not frame.rows:
            raise ValueError("the reference has no rows")
        roles = roles or infer_roles(
            frame, columns=columns, segment=segment, cluster=cluster, target=target
        )
        clusters = cluster_ids(frame, roles.cluster)
        binning = fit_binning(frame, roles, clusters)
        unscored = binning.count(frame, np.zeros(binning.layout.missing_start))
        scores = Scores(binning, binning.layout.numbers_of(unscored.stacked.flat)[0])
        counts = binning.count(frame, scores.normal.ravel())
        rows = SampledRows(frame, binning, clusters, _SEED)
        dependence = fit_dependence(rows, counts, scores)
        tests = _tests(binning, scores, dependence)
        null = Null({}, Simulation(rows.sample(scores), tests.statistic, _SEED))
        return cls(roles, binning, counts, dependence, null)

    @property
    def rows(self) -> int:
        """Of the reference."""
        return self.reference.rows

    @property
    def clusters(self) -> int | None:
        """Of the reference; None: no cluster columns, or a profile of before."""
        return self._dependence.clusters

    @cached_property
    def tests(self) -> Cells:
        """The tests of all cells."""
        return _tests(self.binning, self._scores, self._dependence)

    @cached_property
    def _scores(self) -> Scores:
        layout = self.binning.layout
        return Scores(self.binning, layout.numbers_of(self.reference.stacked.flat)[0])

    def count(self, batch: Tabular) -> Counts:
        """Count a batch, or a chunk of one: counts of chunks add up to the batch's."""
        return self.binning.count(Frame.of(batch), self.normal_scores)

    @property
    def normal_scores(self) -> Floats:
        """The normal score of each bin of the number cells, flat."""
        return self._scores.normal.ravel()

    def p(self, statistic: float, rows: int) -> float:
        """How probable such a statistic is for a batch of so many rows in which nothing changed."""
        return float(self._null.p(np.array(statistic), self._effective_rows(rows)))

    def statistic(self, p: float, rows: int) -> float:
        """The statistic whose probability that is."""
        return self._null.statistic(p, self._effective_rows(rows))

    def _effective_rows(self, rows: int) -> float:
        return rows * self.rows / (rows + self.rows)

    def complete(self, progress: Progress | None = None) -> "Profile":
        """Simulate the null distribution at all sizes; the progress is told from 0 to 1."""
        self._null.complete(progress)
        return self

    def to_bytes(self) -> bytes:
        """The profile as compressed JSON, without the reference's rows."""
        document = ProfileDocument(
            roles=RolesDocument.of(self.roles),
            binning=BinningDocument.of(self.binning),
            reference=CountsDocument.of(self.reference),
            dependence=self._dependence,
            null=self._null.complete(),
        )
        return _compressed(document)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Profile":
        """The profile of the bytes.

        Raises:
            ValueError: they are no profile of this version; the text says why.
        """
        return _parsed(ProfileDocument, data, "a profile").profile()

    def dump_counts(self, counts: Counts) -> bytes:
        """A batch's counts as compressed JSON."""
        return _compressed(CountsDocument.of(counts))

    def load_counts(self, data: bytes) -> Counts:
        """A batch's counts from their bytes.

        Raises:
            ValueError: they are no counts, or not in this profile's bins.
        """
        counts = _parsed(CountsDocument, data, "the counts of a batch").counts()
        for own, other in zip(_shapes(self.reference), _shapes(counts), strict=True):
            if own != other:
                raise ValueError(f"counts of another profile: {other} figures instead of {own}")
        return counts

    def save(self, path: Path) -> None:
        """Write the profile to a file."""
        path.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> "Profile":
        """Read a profile from a file.

        Raises:
            ValueError: the file holds none.
            OSError: it cannot be read.
        """
        return cls.from_bytes(path.read_bytes())


def _tests(binning: Binning, scores: Scores, dependence: Dependence) -> Cells:
    widths = np.array(binning.widths)
    inside = np.arange(binning.layout.bins) < widths[:, None]
    ranks = mid_ranks(scores.shares)
    return Cells(
        layout=binning.layout,
        number=NumberTest(
            scores=whitened(scores.smooth, scores.degrees, dependence.covariances),
            degrees=scores.degrees,
            low=(inside & (ranks <= TAIL_SHARE)).astype(float),
            high=(inside & (ranks >= 1 - TAIL_SHARE)).astype(float),
            bins=widths.astype(float),
            design_effect=dependence.number,
        ),
        missing=MissingTest(dependence.missing),
        category=CategoryTest(dependence.category),
        pair=PairTest(dependence.pair_variance, dependence.pair_tested > 0),
        pairs=binning.pairs,
        normal_scores=scores.normal,
        groups=binning.groups,
    )


def _shapes(counts: Counts) -> list[tuple[int, ...]]:
    arrays = (counts.cells, counts.pair_sums, counts.pair_rows, counts.moments)
    return [array.shape for array in arrays]


def _compressed(document: BaseModel) -> bytes:
    return gzip.compress(document.model_dump_json().encode(), 6, mtime=0)


def _parsed(kind: type[_D], data: bytes, what: str) -> _D:
    try:
        return kind.model_validate_json(gunzip(data))
    except ValidationError as error:
        raise ValueError(f"not {what} ({FORMAT}): {first_fault(error, 'the file')}") from None
    except GzipRefused as error:
        raise ValueError(f"not {what}: not compressed JSON ({error})") from None


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RolesDocument(_Document):
    """Roles as JSON."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    segment: str | None
    cluster: tuple[str, ...]
    target: str | None
    columns: tuple[ColumnRole, ...]

    @classmethod
    def of(cls, roles: Roles) -> "RolesDocument":
        return cls.model_validate(vars(roles))

    def roles(self) -> Roles:
        return Roles(**dict(self))


class BinningDocument(_Document):
    """Bins as JSON."""

    numbers: tuple[str, ...]
    target: str | None
    segment: str | None
    segments: tuple[str, ...]
    edges: tuple[tuple[Edges, ...], ...]
    categories: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    others: tuple[frozenset[str], ...]
    buckets: int
    hashes: tuple[int, ...]
    centre: Array
    scale: Array

    @classmethod
    def of(cls, binning: Binning) -> "BinningDocument":
        return cls.model_construct(**{name: getattr(binning, name) for name in cls.model_fields})

    def binning(self) -> Binning:
        return Binning(**dict(self))


class CountsDocument(_Document):
    """Counts as JSON."""

    rows: int
    cells: Array
    pair_sums: Array
    pair_rows: Array
    moments: Array
    new_categories: dict[str, dict[str, int]] = {}

    @classmethod
    def of(cls, counts: Counts) -> "CountsDocument":
        return cls.model_construct(**vars(counts))

    def counts(self) -> Counts:
        return Counts(**{**dict(self), "cells": self.cells.astype(np.int64)})


class ProfileDocument(_Document):
    """A profile as JSON."""

    format: Literal["trimtab-profile/2"] = FORMAT
    roles: RolesDocument
    binning: BinningDocument
    reference: CountsDocument
    dependence: Dependence
    null: tuple[NullPoint, ...]

    def profile(self) -> Profile:
        """The profile; its null distribution is all there."""
        return Profile(
            self.roles.roles(),
            self.binning.binning(),
            self.reference.counts(),
            self.dependence,
            Null(dict(enumerate(self.null))),
        )
