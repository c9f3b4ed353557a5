"""Categories of a batch that the reference does not have, and may have in another spelling."""

from collections.abc import Iterable
from typing import Final

from services.drift.calibration.binning import Counts
from services.drift.calibration.profile import Profile
from services.drift.report.model import QuestionableColumn
from shared.tables.spelling import alike, difference

_SHOWN: Final = 2
_LONGEST: Final = 40


def unmatched(profile: Profile, batch: Counts) -> list[QuestionableColumn]:
    """Category columns that have no value in common with the reference, or values of the batch that
    differ from one of the reference only in case, in spaces, or in their Unicode form."""
    binning = profile.binning
    levels = binning.layout.categories_of(batch.stacked.flat)[0]
    found = []
    for column, name in enumerate(binning.categories):
        new = batch.new_categories.get(name)
        shown = len(binning.labels[column])
        if not new or not shown:
            continue
        known = [*binning.labels[column], *sorted(binning.others[column])]
        said = []
        if not levels[column, : shown + 1].any():
            said.append(
                f"no value in common: the reference has {_some(known)}, the batch {_some(new)}"
            )
        if spelt := _spelt_alike(new, known):
            value, other = spelt
            said.append(
                f"the two sides spell values differently: {_quoted(other)} in the reference, "
                f"{_quoted(value)} in the batch, which differ in {difference(value, other)}"
            )
        if said:
            why = "; ".join(said)
            found.append(QuestionableColumn(name=name, done="read as categories", why=why))
    return found


def _spelt_alike(new: Iterable[str], known: Iterable[str]) -> tuple[str, str] | None:
    """The first new value that is a known one in another spelling, and that one."""
    by_form = {alike(value): value for value in known}
    return next(
        ((value, by_form[form]) for value in new if (form := alike(value)) in by_form), None
    )


def _some(values: Iterable[str]) -> str:
    values = list(values)
    further = len(values) - _SHOWN
    more = f" and {further:,} more" if further > 0 else ""
    return ", ".join(map(_quoted, values[:_SHOWN])) + more


def _quoted(value: str) -> str:
    return repr(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")
