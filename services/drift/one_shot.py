"""A check of one table against another, without a server."""

from collections.abc import Iterable
from typing import cast

from services.drift.calibration.binning import Counts
from services.drift.calibration.profile import Profile
from services.drift.policies.finding import Window
from services.drift.report.assembly import report
from services.drift.report.model import DriftReport
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
    alone = {"windows": (1,), "trigger": "data"}
    single = (settings or Drift()).model_copy(update=alone)
    if not isinstance(reference, Profile):
        reference = Profile.fit(
            reference, roles=roles, segment=segment, cluster=cluster, columns=columns, target=target
        )
    counts = _counted(reference, current)
    return report(reference, [Window(counts)], single, name=name)


def _counted(profile: Profile, current: Tabular | Iterable[Tabular]) -> Counts:
    if isinstance(current, Frame) or hasattr(current, "columns"):
        return profile.count(cast("Tabular", current))
    counts: Counts | None = None
    for chunk in cast("Iterable[Tabular]", current):
        counted = profile.count(chunk)
        counts = counts + counted if counts else counted
    if counts is None:
        raise ValueError("there is no table to check")
    return counts
