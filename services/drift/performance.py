"""Whether the champion predicts a batch worse than the rows on which it was promoted.

What loads and asks a model is imported when one is asked, so a worker whose pipelines watch the
data alone needs no scikit-learn.
"""

from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import SecretStr

from services.drift.calibration.rise import (
    LEAST_RISE,
    RESOLUTION,
    mean_interval,
    rise_p_value,
)
from services.drift.labelled_rows import LabelledRows, labelled_rows
from services.drift.report.wording import (
    count,
    error_name,
    false_alarms,
    figure,
    p_equals,
    percent,
    probability,
)
from shared.artifacts import TamperedArtifact
from shared.authentication import Unauthentic
from shared.drift import Drift, PerformanceFinding
from shared.failures import WillNotPass
from shared.pipeline import Pipeline
from shared.records import Batch, ModelVersion
from shared.store import Store
from shared.training import Metric

if TYPE_CHECKING:
    from shared.scoring import GroupLosses

FEWEST_GROUPS: Final = 5
FEWEST_ROWS: Final = 20
"""With fewer of either, then or now, nothing is tested."""
MOST_ROWS: Final = 100_000
"""Of a larger batch so many rows are predicted."""

_LONGEST_REASON: Final = 400


def watches_performance(settings: Drift) -> bool:
    """Whether the champion's error has a say in when to retrain."""
    return settings.trigger != "data"


def threshold_of(settings: Drift) -> float:
    """The p-value at which the champion's error alarms: its share of α, or the least there is."""
    return max(settings.alpha_of_each / 1000, RESOLUTION)


def performance(
    batch: Batch, pipeline: Pipeline, store: Store, key: SecretStr | None
) -> PerformanceFinding | None:
    """The champion's error on the batch's rows with a target, against that at its promotion.

    None without a champion, or if the trigger does not ask for its error. A champion that cannot
    predict is no reason to give up the check: the finding says so.

    Raises:
        WillNotPass: the champion, or its bytes, are not what was sealed. People hear of it.
    """
    champion = store.champion(pipeline.name) if watches_performance(pipeline.drift) else None
    if champion is None:
        return None
    from shared.scoring import CANNOT_PREDICT, error_of

    # Its own: the pipeline's may have changed since.
    metric: Metric = champion.metrics.get("deciding_metric", pipeline.training.deciding_metric)
    sample = labelled_rows(batch, pipeline, store, MOST_ROWS)
    before = _losses_at_promotion(champion, store)
    finding = PerformanceFinding(
        model_version=champion.version,
        metric=metric,
        error=None,
        error_at_promotion=error_of(before.mean, metric) if before else None,
        interval_at_promotion=_interval(before, metric) if before else None,
        rows=len(sample.rows),
        groups=0,
        threshold=threshold_of(pipeline.drift),
        reason=f"no row has a value of {pipeline.training.target}",
    )
    if sample.rows.empty:
        return finding
    try:
        now = _losses_now(champion, metric, sample, pipeline, store, key)
    except (TamperedArtifact, Unauthentic) as error:
        raise WillNotPass(
            f"the champion, v{champion.version}, is not to be trusted: {error}; to begin anew, set "
            "a reference: trimtab reference set FILE"
        ) from None
    except (*CANNOT_PREDICT, WillNotPass) as error:
        fault = f"{type(error).__name__}: {error}"
        reason = f"the champion, v{champion.version}, cannot predict these rows ({fault})"
        return finding.model_copy(update={"reason": reason[:_LONGEST_REASON]})
    finding = finding.model_copy(
        update={"error": error_of(now.mean, metric), "groups": len(now.rows)}
    )
    return _judged(finding, before, now, sample, pipeline.training.seed)


def assumptions(finding: PerformanceFinding | None) -> list[str]:
    """What the finding rests on, in sentences."""
    if finding is None or finding.p is None:
        return []
    return [
        "The champion's error is tested beside the data, with "
        f"{false_alarms(1000 * finding.threshold)} of its own. It is compared with its error on "
        "the rows held out at its promotion; groups are independent of each other."
    ]


def _losses_at_promotion(champion: ModelVersion, store: Store) -> "GroupLosses | None":
    from shared.scoring import GroupLosses

    if champion.held_out_losses is None:
        return None
    try:
        return GroupLosses.from_bytes(store.cached_blob(champion.held_out_losses))
    except WillNotPass:
        return None


def _interval(losses: "GroupLosses", metric: Metric) -> tuple[float, float] | None:
    from shared.scoring import error_of

    if len(losses.rows) < FEWEST_GROUPS:
        return None
    low, high = mean_interval(losses)
    return error_of(low, metric), error_of(high, metric)


def _losses_now(
    champion: ModelVersion,
    metric: Metric,
    sample: LabelledRows,
    pipeline: Pipeline,
    store: Store,
    key: SecretStr | None,
) -> "GroupLosses":
    from shared.scoring import GroupLosses, groups_of, load_model, predict, row_losses

    if key is None:
        raise WillNotPass("MODEL_SIGNING_KEY is not set")
    model = load_model(store.cached_blob(champion.model), champion, key)
    training = pipeline.training
    predicted = predict(model, sample.rows, training)
    losses = row_losses(predicted, sample.rows[training.target], metric)
    if not np.isfinite(losses).all():
        raise ValueError("a prediction is not a finite number")
    return GroupLosses.of(losses, groups_of(sample.rows, training.group))


def _judged(
    finding: PerformanceFinding,
    before: "GroupLosses | None",
    now: "GroupLosses",
    sample: LabelledRows,
    seed: int,
) -> PerformanceFinding:
    if untested := _why_not_tested(before, now):
        return finding.model_copy(update={"reason": untested})
    assert before  # noqa: S101 - else it is not tested
    p = rise_p_value(before, now, seed)
    then, error = finding.error_at_promotion or 0.0, finding.error or 0.0
    certain, matters = p <= finding.threshold, error > then and error >= (1 + LEAST_RISE) * then
    reason = _reason(finding, p, certain=certain, matters=matters)
    if sample.chosen < sample.of:
        reason += f", on {sample.chosen:,} of the {count(sample.of, 'row')}"
    return finding.model_copy(update={"p": p, "drift": certain and matters, "reason": reason})


def _why_not_tested(before: "GroupLosses | None", now: "GroupLosses") -> str:
    if before is None:
        return "the champion's errors at its promotion were not kept"
    for losses, of in ((before, "at the promotion"), (now, "in this batch")):
        rows, groups = int(losses.rows.sum()), len(losses.rows)
        if groups < FEWEST_GROUPS or rows < FEWEST_ROWS:
            return (
                f"{of} {count(rows, 'row')} in {count(groups, 'group')} have a target, and a test "
                f"takes {FEWEST_ROWS} in {FEWEST_GROUPS}"
            )
    return ""


def _reason(finding: PerformanceFinding, p: float, *, certain: bool, matters: bool) -> str:
    name = f"the champion's {error_name(finding.metric)}"
    then, now = figure(finding.error_at_promotion), figure(finding.error)
    against = f"{p_equals(p)}, threshold {probability(finding.threshold)}"
    if not certain:
        return f"{name} is {now}, at its promotion {then}: nothing beyond chance ({against})"
    if not matters:
        return f"{name} rose from {then} to {now}, by less than {percent(LEAST_RISE)} ({against})"
    return f"{name} rose from {then} at its promotion to {now} ({against})"
