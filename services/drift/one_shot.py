"""A check of one table against another, without a server."""

from collections.abc import Callable, Collection, Iterable
from typing import cast

from services.drift.calibration.binning import Counts
from services.drift.calibration.profile import Profile
from services.drift.clusters import BatchClusters
from services.drift.policies.finding import Window
from services.drift.report.assembly import report
from services.drift.report.model import DriftReport
from services.drift.tables.batch import BatchReader, each_once, guessed, lacking
from services.drift.tables.frame import Frame, Tabular
from services.drift.tables.roles import Roles
from shared.drift import Drift


def check(
    reference: Profile | Tabular,
    current: Tabular | Iterable[Tabular],
    *,
    settings: Drift | None = None,
    roles: Roles | None = None,
    segment: str | None = None,
    cluster: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    target: str | None = None,
    name: str = "current against reference",
) -> DriftReport:
    """Ask whether a table has drifted from a reference.

    Args:
        reference: a table (pandas or Arrow), or the profile of one.
        current: a table, or several that are chunks of one.
        settings: policy, α and the smallest effect that matters; a check stands for one window.
        roles: see `Profile.fit`, as for `segment`, `cluster`, `columns` and `target`; all of them
            are for a reference that is a table.
        name: of the report.

    Raises:
        ValueError: a table cannot be compared; the text says why.
    """
    if not isinstance(reference, Profile):
        reference = Profile.fit(
            reference, roles=roles, segment=segment, cluster=cluster, columns=columns, target=target
        )
    is_one = isinstance(current, Frame) or hasattr(current, "columns")
    chunks = [cast("Tabular", current)] if is_one else cast("Iterable[Tabular]", current)
    return check_chunks(reference, chunks, settings=settings or Drift(), name=name)


def check_chunks(
    reference: Profile,
    chunks: Iterable[Tabular],
    *,
    settings: Drift,
    name: str,
    names: Callable[[], Collection[str]] | None = None,
) -> DriftReport:
    """Ask whether a table has drifted from a reference; see `check`.

    Args:
        chunks: of the table; they may lack columns that are not compared.
        names: gives the table's columns once the chunks are read; None: the chunks have them all.

    Raises:
        ValueError: there is no chunk.
    """
    reader = BatchReader(reference.roles)
    clusters = BatchClusters(reference.roles.cluster)
    counts: Counts | None = None
    for chunk in chunks:
        frame = reader.read(chunk)
        clusters.add(frame)
        counted = reference.count(frame)
        counts = counts + counted if counts else counted
    if counts is None:
        raise ValueError("there is no table to check")
    single = settings.model_copy(update={"windows": (1,), "trigger": "data"})
    found = report(reference, [Window(counts)], single, name=name, clusters=clusters.number)
    questionable = each_once(
        [
            *guessed(reference.roles),
            *found.questionable_columns,
            *reader.questionable(),
            *lacking(reference.roles, names() if names else reader.names),
        ]
    )
    return found.model_copy(update={"questionable_columns": questionable})
