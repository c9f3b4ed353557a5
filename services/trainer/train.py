"""The handler: a challenger is trained, held against the champion, and recorded."""

import platform
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import SecretStr

from services.trainer.artifact import dump_model
from services.trainer.challenger import Plan, fit_model, make_plan
from services.trainer.evaluation import Judged, judge
from services.trainer.fresh_process import why_not_usable
from services.trainer.gate import Evidence, decide
from services.trainer.metrics_file import metrics_content
from services.trainer.plots import render_plots
from services.trainer.trial import Trial, hold_trial
from services.trainer.window import (
    Split,
    batches_of_window,
    hold_out,
    learnt_from,
    packed,
    training_pool,
)
from shared.artifacts import TamperedArtifact, sealed
from shared.audit import digest, require_asked_for
from shared.events import (
    Event,
    ModelPromoted,
    ModelRejected,
    RetrainRequested,
    ReviewNeeded,
    Sha256,
    caused_fields,
)
from shared.failures import WillNotPass
from shared.frames import to_parquet
from shared.outcome import Outcome, record_fields
from shared.pipeline import Pipeline
from shared.records import AuditEntry, DriftReport, ModelVersion
from shared.scoring import CANNOT_PREDICT, error_of, load_model
from shared.settings import Settings
from shared.store import Store

_LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pandas", "joblib", "trimtab")
_LONGEST_REASON: Final = 500


def train_model(
    event: RetrainRequested, pipeline: Pipeline, store: Store, settings: Settings
) -> Outcome:
    """Train a challenger on the rows at hand, and promote it if it passes the gate.

    The version's number is taken before the champion is read. If a rollback takes it meanwhile, the
    record is refused and the challenger is judged anew.

    Raises:
        WillNotPass: the rows are not there or too few, no record and no signed request say that a
            person set the reference though the event does, the estimator or a parameter is wrong,
            MODEL_SIGNING_KEY is not set, or the champion cannot be trusted or cannot predict.
    """
    key = _signing_key(settings)
    report = _report_of(event, store)
    request = _require_recorded(event, report, pipeline, store, settings)
    number = _next_version(event, store)
    champion = store.champion(event.pipeline)
    pool = training_pool(event, pipeline, store)
    # A person's reference is the way on where the champion cannot be loaded any more.
    rival = None if event.reason == "reference_set" else champion
    parts = hold_out(pool, pipeline, learnt_from(rival, pool, pipeline, store))
    plan = make_plan(pool, parts.training, pipeline, settings)
    learnt, held_out = pool.rows.iloc[plan.training], pool.rows.iloc[parts.held_out]
    fitted = fit_model(learnt, plan.recipe, pipeline, settings)
    against = _compared_champion(rival, held_out, pipeline, store, key)
    trial = hold_trial(fitted.model, against, learnt, held_out, pipeline)
    data = dump_model(fitted.model)
    verdict = decide(
        event,
        _evidence(trial, data, held_out, champion, parts, fitted.note, pipeline),
        pipeline.gate,
    )
    promoted = verdict.decision == "promoted"
    made_of = _made_of(plan, parts)
    rows = pool.rows.iloc[made_of].reset_index(drop=True)
    window = store.put_blob(to_parquet(rows))
    model = store.put_blob(data)
    metrics = metrics_content(
        fitted, plan, trial, verdict, learnt, held_out, pipeline, _version_of(champion)
    )
    metrics |= {"versions": library_versions(), "model_sha256": model, "window_sha256": window}
    record = ModelVersion(
        **record_fields(event, "trainer"),
        version=number,
        decision=verdict.decision,
        reason=verdict.reason,
        model=model,
        seal="",
        model_bytes=len(data),
        metrics=metrics,
        champion_version=_version_of(champion),
        window=window,
        sequence=event.sequence,
        drift_report=report.id if report else "",
        lineage=_lineage(event, pool.batch[made_of], plan, pipeline),
        held_out=store.put_blob(packed(np.isin(made_of, parts.held_out))),
        held_out_losses=store.put_blob(trial.losses.to_bytes()),
        request=request.number if request else None,
        request_digest=digest(request) if request else None,
        plots=_plots(trial, held_out, metrics, pipeline, store) if promoted else {},
    )
    record = sealed(record, key)
    return Outcome(record, _events(event, record, len(rows), pipeline, store))


def _signing_key(settings: Settings) -> SecretStr:
    if settings.model_signing_key is None:
        raise WillNotPass("MODEL_SIGNING_KEY is not set: without it no model can be sealed")
    return settings.model_signing_key


def _require_recorded(
    event: RetrainRequested,
    report: DriftReport | None,
    pipeline: Pipeline,
    store: Store,
    settings: Settings,
) -> AuditEntry | None:
    """A model on a reference that an operator set is not compared with the champion, so records
    must prove the request.

    Returns: the entry of the audit log with which an operator asked for the reference, if any did.
    """
    if event.reason != "reference_set":
        return None
    if report is None or report.verdict != "reference set":
        raise WillNotPass(
            f"the check of batch {event.sequence} of {event.pipeline} does not say that a person "
            "set it as the reference"
        )
    batch, *others = batches_of_window(event, pipeline, store)
    if others:
        raise WillNotPass(
            f"the training window of reference batch {event.sequence} of {event.pipeline} holds "
            "other batches too; run `trimtab reference set` again"
        )
    return require_asked_for(batch, pipeline, store, settings)


def _next_version(event: RetrainRequested, store: Store) -> int:
    newest = store.newest(ModelVersion, {"pipeline": event.pipeline}, "version")
    if newest is None:
        return 1
    if newest.restores is None and newest.sequence > event.sequence:
        raise WillNotPass(
            f"v{newest.version} was trained for batch {newest.sequence}, which is newer than batch "
            f"{event.sequence}: there is nothing left to do"
        )
    return newest.version + 1


def _version_of(champion: ModelVersion | None) -> int | None:
    return champion.version if champion else None


def _compared_champion(
    champion: ModelVersion | None,
    held_out: pd.DataFrame,
    pipeline: Pipeline,
    store: Store,
    key: SecretStr,
) -> Judged | None:
    """The champion on the held-out rows; None where there is none to compare with."""
    if champion is None:
        return None
    begin_anew = "to begin anew, set a reference: trimtab reference set FILE"
    data = store.cached_blob(champion.model)
    try:
        return judge(load_model(data, champion, key), held_out, pipeline.training)
    except TamperedArtifact as error:
        raise WillNotPass(
            f"the champion, v{champion.version}, is not to be trusted: {error}; {begin_anew}"
        ) from None
    except CANNOT_PREDICT as error:
        raise WillNotPass(
            f"the champion, v{champion.version}, cannot predict the held-out rows "
            f"({type(error).__name__}: {error}); {begin_anew}"
        ) from error


def _evidence(
    trial: Trial,
    data: bytes,
    held_out: pd.DataFrame,
    champion: ModelVersion | None,
    parts: Split,
    note: str,
    pipeline: Pipeline,
) -> Evidence:
    metric = pipeline.training.deciding_metric
    return Evidence(
        metric=metric,
        challenger=error_of(trial.losses.mean, metric),
        baseline=error_of(float(trial.baseline.losses.mean()), metric),
        negligible=trial.negligible,
        rows=len(held_out),
        groups=len(trial.losses.rows),
        new_to_both=parts.new_to_both,
        comparison=trial.comparison,
        champion_version=_version_of(champion),
        segments=trial.segments,
        model_bytes=len(data),
        max_file_bytes=pipeline.publish.max_file_bytes,
        loads=why_not_usable(data, held_out, trial.challenger.predicted, pipeline.training),
        note=note,
    )


def _made_of(plan: Plan, parts: Split) -> NDArray[np.intp]:
    """Positions of the rows that the model was made and judged on: the reference once promoted.

    Rows without a target are among them: that some have none is a fact about the data.
    """
    return np.union1d(plan.window, parts.held_out)


def _plots(
    trial: Trial,
    held_out: pd.DataFrame,
    metrics: dict[str, Any],
    pipeline: Pipeline,
    store: Store,
) -> dict[str, Sha256]:
    target = pipeline.training.target
    pictures = render_plots(
        target,
        held_out[target],
        trial.challenger.predicted,
        trial.champion.predicted if trial.champion else None,
        metrics,
    )
    return {name: store.put_blob(picture) for name, picture in pictures.items()}


def _report_of(event: RetrainRequested, store: Store) -> DriftReport | None:
    """The report of the check that asked for the model."""
    query = {"pipeline": event.pipeline, "sequence": event.sequence}
    return store.newest(DriftReport, query, "recorded_at")


@cache
def library_versions() -> dict[str, str]:
    """Of what a loaded model depends on, and of this code."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def _lineage(
    event: RetrainRequested,
    batch: NDArray[np.int64],
    plan: Plan,
    pipeline: Pipeline,
) -> dict[str, Any]:
    """Where the window's rows are from, and what it takes to train the same model of them again."""
    return {
        "reason": event.reason,
        "reference_version": event.reference_version,
        "sequences": [int(number) for number in np.unique(batch) if number],
        "schema": pipeline.data.model_dump(mode="json"),
        "training": pipeline.training.model_dump(mode="json"),
        "recipe": plan.recipe.model_dump(mode="json"),
        "versions": library_versions(),
    }


def _events(
    event: RetrainRequested,
    record: ModelVersion,
    window_rows: int,
    pipeline: Pipeline,
    store: Store,
) -> tuple[Event, ...]:
    if record.decision == "promoted":
        return (_promoted(event, record, window_rows),)
    rejected = ModelRejected(
        **caused_fields(event, "trainer", ModelRejected),
        model_version=record.version,
        champion_version=record.champion_version,
        sequence=event.sequence,
        window_rows=window_rows,
        reason=record.reason[:_LONGEST_REASON],
    )
    rejections = 1 + _rejections_in_a_row(event.pipeline, store)
    no_model_yet = record.champion_version is None and rejections == 1
    if rejections != pipeline.gate.review_after and not no_model_yet:
        return (rejected,)
    review = ReviewNeeded(
        **caused_fields(event, "trainer", ReviewNeeded),
        model_version=record.version,
        champion_version=record.champion_version,
        sequence=event.sequence,
        rejections=rejections,
        reason=record.reason[:_LONGEST_REASON],
    )
    return rejected, review


def _promoted(event: RetrainRequested, record: ModelVersion, window_rows: int) -> ModelPromoted:
    return ModelPromoted(
        **caused_fields(event, "trainer", ModelPromoted),
        model_version=record.version,
        replaced_version=record.champion_version,
        sequence=event.sequence,
        window=record.window,
        window_rows=window_rows,
    )


def _rejections_in_a_row(pipeline: str, store: Store) -> int:
    champion = store.champion(pipeline)
    since = champion.version if champion else 0
    query = {"pipeline": pipeline, "decision": "rejected", "version": {"$gt": since}}
    return sum(1 for _ in store.find(ModelVersion, query))
