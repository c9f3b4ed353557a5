"""The check of one batch against the reference: the drift report, and whether to retrain."""

import gzip
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import numpy as np

from services.drift.cooldown import why_held_back
from services.drift.counting import count_batch
from services.drift.labelled_rows import groups_to_tell_apart, rows_with_target
from services.drift.ordering import require_earlier_settled
from services.drift.performance import assumptions, performance
from services.drift.policies.finding import SMALLEST_REFERENCE, too_small
from services.drift.report.assembly import report
from services.drift.report.model import DriftReport as FullReport
from services.drift.report.picture import render_png
from services.drift.stored_profile import profile_of
from services.drift.windows import windows_due
from shared.audit import require_asked_for
from shared.drift import CellFinding, Drift, FeatureStats, PerformanceFinding, Verdict
from shared.events import (
    BatchIngested,
    DriftFound,
    Event,
    RetrainRequested,
    Sha256,
    caused_fields,
)
from shared.failures import WillNotPass
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import Batch, DriftReport, Reference, TargetsAwaited
from shared.settings import Settings
from shared.store import NUMBERED, Store
from shared.training import rows_for_a_model

_WHY_RETRAIN: Final[dict[Verdict, Literal["first_model", "reference_set", "drift"]]] = {
    "no reference": "first_model",
    "reference set": "reference_set",
    "drift": "drift",
}
_CELLS_KEPT: Final = 10
_COMPRESSION: Final = 1
"""Of a report, which is mostly digits, level 9 saves 4 % more and takes seven times as long."""
_LONGEST_REASON: Final = 500


@dataclass(frozen=True)
class _Checked:
    """What the record of a check says beyond the batch and the reference."""

    verdict: Verdict
    needs_retraining: bool
    reason: str
    p: float | None = None
    threshold: float = 0.0
    drift_score: float | None = None
    feature_drifts: dict[str, float] = field(default_factory=dict)
    feature_stats: dict[str, FeatureStats] = field(default_factory=dict)
    cells: list[CellFinding] = field(default_factory=list)
    window_batches: int = 1
    performance: PerformanceFinding | None = None
    incident: int | None = None
    awaited: TargetsAwaited | None = None
    profile: Sha256 | None = None
    counts: Sha256 | None = None
    details: Sha256 | None = None
    chart: Sha256 | None = None


def check_batch(
    event: BatchIngested, pipeline: Pipeline, store: Store, settings: Settings
) -> Outcome:
    """Compare a batch with the reference, and the champion's error with that at its promotion.

    A new model is asked for when `drift.trigger` says so, unless the gate's cooldown holds it back.

    Raises:
        WillNotPass: the batch is to be the reference, and no operator has signed for that; or it is
            no longer in the store.
        NotYet: an earlier batch of the pipeline is not checked, or the retraining that it asked for
            is not decided. Checks in order against a settled reference give the same decisions
            however messages arrive, and a drift that is being answered is not reported again.
            Or other workers still count the batch's chunks.
    """
    require_earlier_settled(event, store)
    reference = store.reference(event.pipeline)
    batch = _batch(event, store)
    checked = _check(event, batch, pipeline, reference, store, settings)
    record = DriftReport(
        **record_fields(event, "drift"),
        **vars(checked),
        policy=pipeline.drift.policy,
        timestamp=datetime.now(UTC),
        sequence=event.sequence,
        batch_id=batch.id,
        batch_rows=batch.rows,
        reference_version=reference.version if reference else None,
        reference_rows=reference.rows if reference else None,
    )
    return Outcome(record, _events(event, record))


def _batch(event: BatchIngested, store: Store) -> Batch:
    query = {"pipeline": event.pipeline, "sequence": event.sequence}
    batch = store.newest(Batch, query, "sequence")
    if batch is None:
        raise WillNotPass(
            f"the store no longer holds batch {event.sequence}: RETENTION_DAYS passed before it "
            "was checked"
        )
    return batch


def _check(
    event: BatchIngested,
    batch: Batch,
    pipeline: Pipeline,
    reference: Reference | None,
    store: Store,
    settings: Settings,
) -> _Checked:
    if batch.as_reference:
        require_asked_for(batch, pipeline, store, settings)
        return _set_reference(event, batch, pipeline, reference, store)
    if reference is None:
        return _first_reference(event, pipeline, store)
    return _compare(batch, event.sequence, pipeline, reference, store, settings)


def _set_reference(
    event: BatchIngested,
    batch: Batch,
    pipeline: Pipeline,
    reference: Reference | None,
    store: Store,
) -> _Checked:
    incident = _open_incident(event.sequence, reference, store) if reference else None
    target, needed = pipeline.training.target, rows_for_a_model(pipeline.gate)
    if batch.rows < SMALLEST_REFERENCE:
        reason = too_small(batch.rows, SMALLEST_REFERENCE, "file")
        return _Checked("insufficient data", False, reason, incident=incident)
    known = rows_with_target([batch], target, needed, store)
    if known < needed:
        reason = (
            f"A reference needs at least {needed:,} rows with a value of {target}; this file has "
            f"{known:,} among its {batch.rows:,} rows."
        )
        return _Checked("insufficient data", False, reason, incident=incident)
    if not groups_to_tell_apart([batch], pipeline, store):
        reason = _one_group("A reference", pipeline)
        return _Checked("insufficient data", False, reason, incident=incident)
    reason = "a person set this batch as the reference"
    return _Checked("reference set", True, reason, incident=incident)


def _first_reference(event: BatchIngested, pipeline: Pipeline, store: Store) -> _Checked:
    """Without a reference, the first batches make one as soon as they are enough to learn from."""
    most_rows = pipeline.training.max_window_rows
    batches = store.window_batches(event.pipeline, event.sequence, most_rows)
    so_far = np.cumsum([batch.rows for batch in batches])
    rows, needed = int(so_far[-1]), rows_for_a_model(pipeline.gate)
    if rows < SMALLEST_REFERENCE:
        reason = f"A first reference needs at least {SMALLEST_REFERENCE} rows; there are {rows}."
        return _Checked("insufficient data", False, reason)
    known = rows_with_target(batches, pipeline.training.target, needed, store)
    if known < needed:
        awaited = TargetsAwaited(
            since=batches[int(np.argmax(so_far >= SMALLEST_REFERENCE))].recorded_at,
            rows=rows,
            rows_with_target=known,
            needed=needed,
        )
        return _Checked("insufficient data", False, str(awaited), awaited=awaited)
    if not groups_to_tell_apart(batches, pipeline, store):
        reason = _one_group("A first model", pipeline)
        return _Checked("insufficient data", False, reason)
    return _Checked("no reference", True, f"the first {rows:,} rows make the first reference")


def _one_group(what: str, pipeline: Pipeline) -> str:
    same = "and all rows so far have the same"
    group = ", ".join(pipeline.training.group)
    time = f" and {pipeline.data.event_time}" if pipeline.data.event_time else ""
    return f"{what} needs at least two groups (training.group: {group}), {same} {group}{time}."


def _compare(
    batch: Batch,
    sequence: int,
    pipeline: Pipeline,
    reference: Reference,
    store: Store,
    settings: Settings,
) -> _Checked:
    stored = profile_of(reference, pipeline, store)
    own = count_batch(batch, stored, store)
    due = windows_due(sequence, own, pipeline.drift.windows, reference, stored, store)
    data = report(
        stored.profile,
        due.windows,
        pipeline.drift,
        name=pipeline.name,
        rows_set_aside=batch.set_aside.rows,
        is_promoted=True,
    )
    champion = performance(batch, pipeline, store, settings.model_signing_key)
    fires = _fires(pipeline.drift, data, champion)
    held_back = why_held_back(sequence, champion, pipeline, store) if fires else ""
    full = data.model_copy(
        update={
            "assumptions": [*data.assumptions, *assumptions(champion), *due.left_out],
            "performance": champion,
            "needs_retraining": fires and not held_back,
            "reason": _reason(pipeline.drift, data, champion, fires=fires, held_back=held_back),
        }
    )
    incident = _open_incident(sequence, reference, store)
    if incident is None and fires:
        incident = sequence
    return _Checked(
        **_short(full),
        incident=incident,
        profile=stored.digest,
        counts=store.put_blob(stored.profile.dump_counts(own)),
        details=store.put_blob(
            gzip.compress(full.model_dump_json().encode(), _COMPRESSION, mtime=0)
        ),
        chart=store.put_picture(render_png(full)) if incident == sequence else None,
    )


def _fires(settings: Drift, data: FullReport, champion: PerformanceFinding | None) -> bool:
    """Whether what was found is what the pipeline retrains on."""
    drifted, worse = data.verdict == "drift", champion is not None and champion.drift
    return {
        "data": drifted,
        "performance": worse,
        "either": drifted or worse,
        "both": drifted and worse,
    }[settings.trigger]


def _reason(
    settings: Drift,
    data: FullReport,
    champion: PerformanceFinding | None,
    *,
    fires: bool,
    held_back: str,
) -> str:
    """What speaks, and why no model is asked for if none is."""
    said = [data.reason] if data.verdict == "drift" else []
    if champion and champion.drift:
        said.append(champion.reason)
    if not said:
        return data.reason
    if not fires:
        said.append(f"that alone asks for no model (drift.trigger: {settings.trigger})")
    return "; ".join([*said, held_back] if held_back else said)


def _short(full: FullReport) -> dict[str, Any]:
    """What the record repeats of the whole report."""
    return {
        "verdict": full.verdict,
        "needs_retraining": full.needs_retraining,
        "reason": full.reason,
        "p": full.p,
        "threshold": full.threshold,
        "drift_score": full.drift_score,
        "feature_drifts": full.feature_drifts,
        "feature_stats": full.feature_stats,
        "cells": [cell for cell in full.cells if cell.speaks][:_CELLS_KEPT],
        "window_batches": full.window.batches if full.window else 1,
        "performance": full.performance,
    }


def _open_incident(sequence: int, reference: Reference, store: Store) -> int | None:
    """The earlier batch whose drift is open: the first against the reference in force, if any."""
    query = {
        "pipeline": reference.pipeline,
        "reference_version": reference.version,
        "incident": NUMBERED,
        "sequence": {"$lt": sequence},
    }
    newest = store.newest(DriftReport, query, "sequence")
    return newest.incident if newest else None


def _events(event: BatchIngested, record: DriftReport) -> tuple[Event, ...]:
    events: list[Event] = []
    if record.incident == event.sequence:
        events.append(_drift_found(event, record))
    if record.needs_retraining:
        events.append(_retrain_requested(event, record))
    return tuple(events)


def _drift_found(event: BatchIngested, record: DriftReport) -> DriftFound:
    return DriftFound(
        **caused_fields(event, "drift", DriftFound),
        sequence=event.sequence,
        rows=record.batch_rows,
        report=record.id,
        reason=record.reason[:_LONGEST_REASON],
    )


def _retrain_requested(event: BatchIngested, record: DriftReport) -> RetrainRequested:
    return RetrainRequested(
        **caused_fields(event, "drift", RetrainRequested),
        reason=_WHY_RETRAIN.get(record.verdict, "performance"),
        reference_version=record.reference_version,
        sequence=event.sequence,
        rows=record.batch_rows,
        drift_score=record.drift_score,
    )
