"""`trimtab report`: the drift report of a stored check, as a page or as JSON."""

from pathlib import Path
from typing import Final

from services.drift.report.model import DriftReport, PastCheck
from services.drift.report.page import render_html
from shared import drift_report, records
from shared.failures import WillNotPass
from shared.store import Store

MOST_PAST_CHECKS: Final = 200


def find_check(store: Store, pipeline: str, sequence: int | None) -> records.DriftReport:
    """The check of a batch; without a number the newest that has a report.

    Raises:
        WillNotPass: there is none; the text says why.
    """
    if sequence is None:
        compared = {"pipeline": pipeline, "details": {"$ne": None}}
        if newest := store.newest(records.DriftReport, compared, "sequence"):
            return newest
        raise WillNotPass(f"{pipeline}: no batch has been compared with a reference yet")
    query = {"pipeline": pipeline, "sequence": sequence}
    if found := store.newest(records.DriftReport, query, "sequence"):
        return found
    if store.newest(records.Batch, query, "sequence"):
        raise WillNotPass(f"{pipeline}: batch {sequence} waits to be checked")
    raise WillNotPass(
        f"{pipeline}: the store holds no batch {sequence}; `trimtab history` lists those it holds"
    )


def read_report(store: Store, check: records.DriftReport) -> DriftReport:
    """All that a check found.

    Raises:
        WillNotPass: nothing was compared, or the report is no longer kept or readable.
    """
    batch = f"{check.pipeline}: batch {check.sequence}"
    if check.details is None:
        raise WillNotPass(f"{batch} has no report ({check.verdict}: {check.reason})")
    try:
        packed = store.blob(check.details)
    except WillNotPass as error:
        raise WillNotPass(
            f"{batch}: {error}, so its report is no longer there; in short: {check.verdict}, "
            f"{check.reason}"
        ) from None
    try:
        return DriftReport.model_construct(**dict(drift_report.read_report(packed)))
    except WillNotPass as error:
        raise WillNotPass(
            f"{batch}: its report cannot be read ({error}); another version of Trimtab may have "
            "written it"
        ) from None


def past_checks(store: Store, check: records.DriftReport) -> list[PastCheck]:
    """The checks of the pipeline up to this one, the newest of them."""
    query = {"pipeline": check.pipeline, "sequence": {"$lte": check.sequence}}
    newest = store.find(records.DriftReport, query, newest_by="sequence", limit=MOST_PAST_CHECKS)
    return [
        PastCheck(
            sequence=past.sequence,
            timestamp=past.timestamp,
            verdict=past.verdict,
            p=past.p,
            threshold=past.threshold,
            effect=past.drift_score,
        )
        for past in newest
    ]


def page(store: Store, check: records.DriftReport) -> str:
    """The report as a page, with the history up to it.

    Raises:
        WillNotPass: as in `read_report`.
    """
    return render_html(read_report(store, check), past_checks(store, check))


def json_text(store: Store, check: records.DriftReport) -> str:
    """The text of `drift_report.json`.

    Raises:
        WillNotPass: as in `read_report`.
    """
    return read_report(store, check).model_dump_json(indent=2) + "\n"


def write(text: str, file: Path) -> None:
    """Write a report.

    Raises:
        WillNotPass: the file cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WillNotPass(f"cannot write {file}: {error.strerror}") from None
