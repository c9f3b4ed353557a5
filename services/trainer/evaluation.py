"""How well models predict rows that none of them has learnt from, and how sure that is."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, t
from sklearn.inspection import permutation_importance
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)
from sklearn.pipeline import Pipeline as Steps

from shared.pipeline import Pipeline
from shared.scoring import (
    LEAST_PROBABILITY,
    Floats,
    GroupLosses,
    Predicted,
    error_of,
    groups_of,
    negligible_error,
    predict,
    row_losses,
)
from shared.training import Metric, Training

Metrics = dict[str, Any]
"""Name -> a finite number, or None where the rows give the metric no meaning."""

RESAMPLES: Final = 4000
_PIECE: Final = 2_000_000
_IMPORTANCE_ROWS: Final = 2000
LARGEST_SHARE: Final = 1e9
"""Relative differences are cut off here, so that an error near 0 gives none that is infinite."""
LAST_DIGITS: Final = 1e-9
"""Errors that differ by a smaller share are equal: sums in another order differ by it."""


@dataclass(frozen=True)
class Judged:
    """A model's predictions for the held-out rows, with what follows from them."""

    predicted: Predicted
    losses: Floats
    """By the deciding metric, of shape (n_rows,)."""
    metrics: Metrics


@dataclass(frozen=True)
class Comparison:
    """The challenger's error minus the champion's, on the same rows; below zero is better."""

    metric: Metric
    difference: float
    interval: tuple[float, float]
    relative_difference: float
    """As a share of the champion's error."""
    relative_interval: tuple[float, float]
    confidence: float
    rows: int
    groups: int
    resamples: int
    seed: int


def judge(model: Steps, rows: pd.DataFrame, training: Training) -> Judged:
    """A fitted model's predictions of rows that have a target, and how wrong they are."""
    return judge_predictions(predict(model, rows, training), rows, training)


def judge_predictions(predicted: Predicted, rows: pd.DataFrame, training: Training) -> Judged:
    """How wrong predictions are."""
    actual = rows[training.target]
    losses = row_losses(predicted, actual, training.deciding_metric)
    return Judged(predicted, losses, metrics_of(predicted, actual))


def metrics_of(predicted: Predicted, actual: pd.Series) -> Metrics:
    """The metrics of the task that the predictions are of."""
    if isinstance(predicted, pd.DataFrame):
        return classification_metrics(predicted, actual.astype(str).to_numpy())
    return regression_metrics(actual.to_numpy(dtype=np.float64), predicted)


def regression_metrics(actual: Floats, predicted: Floats) -> Metrics:
    """Errors in the target's unit (mae, rmse), in its square (mse), as a share (mape), and R².

    R² compares with the mean of the target; for fewer than two rows, or where the target is
    constant, it has no meaning and is None. So has the share where a target is 0.
    """
    mse = float(mean_squared_error(actual, predicted))
    has_spread = actual.size > 1 and np.ptp(actual) > LAST_DIGITS * np.abs(actual).max()
    has_zero = bool((actual == 0).any())
    return {
        "mae": float(mean_absolute_error(actual, predicted)),
        "mse": mse,
        "rmse": mse**0.5,
        "r2_score": float(r2_score(actual, predicted)) if has_spread else None,
        "mape": None if has_zero else float(mean_absolute_percentage_error(actual, predicted)),
    }


def classification_metrics(shares: pd.DataFrame, actual: NDArray[Any]) -> Metrics:
    """Log loss (natural logarithm), accuracy, macro F1, and the area under the ROC curve.

    A class that the model does not know counts as predicted with probability 2e-16, the resolution
    of a float, so that the loss is large and finite. The area is that of the two classes, or the
    mean of each against the rest; None unless all classes of the model are among the rows.

    Args:
        shares: of shape (n_rows, n_classes), its columns the classes as texts.
        actual: the classes as texts, of shape (n_rows,).
    """
    labels = np.unique([*map(str, shares.columns), *actual])
    table = shares.reindex(columns=labels, fill_value=0.0).to_numpy()
    clipped = np.clip(table, LEAST_PROBABILITY, None)
    clipped = clipped / clipped.sum(axis=1, keepdims=True)
    predicted = labels[clipped.argmax(axis=1)]
    one_class = labels.size == 1  # scikit-learn's log loss asks for two
    return {
        "log_loss": 0.0 if one_class else float(log_loss(actual, clipped, labels=labels)),
        "accuracy": float(accuracy_score(actual, predicted)),
        "macro_f1": float(f1_score(actual, predicted, average="macro", zero_division=0)),
        "roc_auc": _roc_auc(clipped, actual, labels),
    }


def _roc_auc(shares: Floats, actual: NDArray[Any], labels: NDArray[Any]) -> float | None:
    if labels.size < 2 or np.unique(actual).size < labels.size:
        return None
    if labels.size == 2:
        return float(roc_auc_score(actual == labels[1], shares[:, 1]))
    return float(roc_auc_score(actual, shares, multi_class="ovr", labels=labels))


def baseline(
    training_rows: pd.DataFrame, held_out: pd.DataFrame, training: Training, segment: str | None
) -> tuple[str, Judged]:
    """What a model would have to beat: the training rows' typical target, by segment if there is.

    Returns:
        What it predicts, in words, and how wrong that is on the held-out rows.
    """
    of = f" by {segment}" if segment else ""
    if training.task == "regression":
        typical = "mean" if training.deciding_metric == "rmse" else "median"
        predicted = _typical(training_rows, held_out, training.target, segment, typical)
        judged = judge_predictions(predicted, held_out, training)
        return f"{typical} of the training rows{of}", judged
    shares = _class_shares(training_rows, held_out, training.target, segment)
    return f"shares of the classes{of}", judge_predictions(shares, held_out, training)


def _typical(
    known: pd.DataFrame, asked: pd.DataFrame, target: str, segment: str | None, typical: str
) -> Floats:
    overall = float(known[target].agg(typical))
    if segment is None:
        return np.full(len(asked), overall)
    by_segment = known.groupby(segment)[target].agg(typical)
    found = asked[segment].map(by_segment).astype(float).fillna(overall)
    return np.asarray(found, dtype=np.float64)


def _class_shares(
    known: pd.DataFrame, asked: pd.DataFrame, target: str, segment: str | None
) -> pd.DataFrame:
    overall = known[target].astype(str).value_counts(normalize=True).sort_index()
    if segment is None:
        table = np.tile(overall.to_numpy(), (len(asked), 1))
        return pd.DataFrame(table, columns=list(overall.index), index=asked.index)
    within = pd.crosstab(known[segment], known[target].astype(str), normalize="index")
    found = within.reindex(index=asked[segment], columns=overall.index).set_axis(asked.index)
    return found.fillna(overall)


def compare(
    challenger: Floats,
    champion: Floats,
    groups: NDArray[np.intp],
    metric: Metric,
    confidence: float,
    seed: int,
    negligible: float = 0.0,
) -> Comparison:
    """The paired difference of two models' errors, with its interval from a bootstrap over groups.

    Groups are drawn with replacement, each with all its rows, and both models' errors are taken on
    the same draw: rows of one group may depend on each other, and a row that is hard for one model
    is mostly hard for the other. The interval is the expanded percentile interval (Hesterberg
    2015, What Teachers Should Know About the Bootstrap, The American Statistician 69, 371-386):
    the percentile interval alone is too narrow where groups are few.

    Args:
        challenger: its losses, of shape (n_rows,).
        champion: its losses of the same rows.
        groups: the number of each row's group, of shape (n_rows,).
        confidence: that the interval holds the difference, such as 0.95.
        negligible: an error that may come of rounding alone (`negligible_error`).
    """
    new, old = GroupLosses.of(challenger, groups), GroupLosses.of(champion, groups)
    drawn_new, drawn_old = _resampled(new, old, seed)
    if metric == "rmse":
        drawn_new, drawn_old = np.sqrt(drawn_new), np.sqrt(drawn_old)
    error, against = error_of(new.mean, metric), error_of(old.mean, metric)
    tails = _tails(confidence, len(new.rows))
    shares = relative(drawn_new, drawn_old, negligible)
    low, high = np.quantile(np.where(shares == 0, 0.0, drawn_new - drawn_old), tails)
    relative_low, relative_high = np.quantile(shares, tails)
    share = float(relative(np.asarray(error), np.asarray(against), negligible))
    return Comparison(
        metric=metric,
        difference=error - against if share else 0.0,
        interval=(float(low), float(high)),
        relative_difference=share,
        relative_interval=(float(relative_low), float(relative_high)),
        confidence=confidence,
        rows=len(challenger),
        groups=len(new.rows),
        resamples=RESAMPLES,
        seed=seed,
    )


def _tails(confidence: float, groups: int) -> tuple[float, float]:
    """The quantiles that make the interval as wide as Student's t makes that of a mean."""
    freedom = max(groups - 1, 1)
    width = t.ppf((1 + confidence) / 2, freedom) * (groups / freedom) ** 0.5
    return float(norm.sf(width)), float(norm.cdf(width))


def relative(error: Floats, against: Floats, negligible: float = 0.0) -> Floats:
    """By which share an error is larger than another; if the other is 0, any larger one gives 1.

    Errors that differ in the last digits alone are equal: the share is 0.

    Args:
        negligible: if one error is 0, the other counts as 0 up to this size.
    """
    with np.errstate(over="ignore"):
        ratio = np.divide(error, against, out=np.full_like(error, 2.0), where=against > 0)
    share = np.minimum(ratio - 1, LARGEST_SHARE)
    return np.where(_equal(error, against, negligible), 0.0, share)


def _equal(error: Floats, against: Floats, negligible: float) -> NDArray[np.bool_]:
    smaller, larger = np.minimum(error, against), np.maximum(error, against)
    none = (smaller == 0) & (larger <= negligible)
    return np.asarray((larger - smaller <= LAST_DIGITS * larger) | none)


def _resampled(new: GroupLosses, old: GroupLosses, seed: int) -> tuple[Floats, Floats]:
    """The mean losses of both models on resampled groups, each of shape (RESAMPLES,)."""
    generator, groups = np.random.default_rng(seed), len(new.rows)
    at_once = max(1, _PIECE // groups)
    sums = []
    for begin in range(0, RESAMPLES, at_once):
        drawn = generator.integers(0, groups, (min(at_once, RESAMPLES - begin), groups))
        sums.append([column[drawn].sum(axis=1) for column in (new.sums, old.sums, new.rows)])
    of_new, of_old, rows = np.concatenate(sums, axis=1)
    return of_new / rows, of_old / rows


@dataclass(frozen=True)
class SegmentComparison:
    """Both models and the baseline within one value of the segment column."""

    segment: str
    rows: int
    groups: int
    few: bool
    """Too few rows or groups to decide anything."""
    challenger: Metrics
    champion: Metrics | None
    baseline: Metrics
    comparison: Comparison | None


def by_segment(
    challenger: Judged,
    champion: Judged | None,
    naive: Judged,
    rows: pd.DataFrame,
    pipeline: Pipeline,
) -> list[SegmentComparison]:
    """The metrics within each value of the judged segment, those with most rows first.

    Rows without a value of the column are a segment of their own, named `(missing)`.
    """
    training, gate, segment = pipeline.training, pipeline.gate, pipeline.judged_segment
    if segment is None:
        return []
    values = rows[segment].astype(object).where(rows[segment].notna(), "(missing)").astype(str)
    groups = groups_of(rows, training.group)
    found = []
    for name, count in (
        values.value_counts().sort_index().sort_values(ascending=False, kind="stable").items()
    ):
        inside = (values == name).to_numpy()
        actual = rows[training.target][inside]
        groups_inside = len(np.unique(groups[inside]))
        found.append(
            SegmentComparison(
                segment=str(name),
                rows=int(count),
                groups=groups_inside,
                few=int(count) < gate.min_segment_rows or groups_inside < gate.min_groups,
                challenger=metrics_of(challenger.predicted[inside], actual),
                champion=metrics_of(champion.predicted[inside], actual) if champion else None,
                baseline=metrics_of(naive.predicted[inside], actual),
                comparison=None
                if champion is None
                else compare(
                    challenger.losses[inside],
                    champion.losses[inside],
                    groups[inside],
                    training.deciding_metric,
                    gate.confidence,
                    training.seed,
                    negligible_error(actual, training.deciding_metric),
                ),
            )
        )
    return found


def feature_importance(model: Steps, rows: pd.DataFrame, training: Training) -> dict[str, float]:
    """The share of each feature in what the model rests on; all 0 if it found nothing to learn.

    For an estimator that says it itself (forests), its own importances, with the columns that a
    category was spread over added up. For others by how much the error grows when a raw column of
    the held-out rows is shuffled (Breiman 2001, Random Forests), the parts of a time together.
    """
    own = getattr(model.named_steps["estimator"], "feature_importances_", None)
    if own is None:
        return _permutation_importance(model, rows, training)
    features = _feature_of_each_column(model)
    worth = dict.fromkeys(features, 0.0)
    for feature, importance in zip(features, own, strict=True):
        worth[feature] += float(importance)
    return _shares(worth)


def _permutation_importance(
    model: Steps, rows: pd.DataFrame, training: Training
) -> dict[str, float]:
    columns = list(model.feature_names_in_)
    at_most = min(len(rows), _IMPORTANCE_ROWS)
    sample = rows.sample(at_most, random_state=training.seed)
    scoring = "neg_mean_absolute_error" if training.task == "regression" else "accuracy"
    found = permutation_importance(
        model,
        sample[columns],
        sample[training.target].to_numpy(),
        scoring=scoring,
        random_state=training.seed,
    )
    worth = np.clip(found.importances_mean, 0, None)
    return _shares(dict(zip(columns, worth.tolist(), strict=True)))


def _shares(worth: dict[str, float]) -> dict[str, float]:
    total = sum(worth.values()) or 1.0
    return {name: value / total for name, value in worth.items()}


def _feature_of_each_column(model: Steps) -> list[str]:
    """For each column that the estimator sees, the feature that it was made of."""
    features: list[str] = []
    for block, steps, columns in model.named_steps["features"].transformers_:
        if block == "numbers":
            features += columns
        elif block == "categories":
            encoder = steps[-1]
            for column, levels, rare in zip(
                columns, encoder.categories_, encoder.infrequent_categories_, strict=True
            ):
                shared = 0 if rare is None else len(rare) - 1  # rare ones share one column
                features += [column] * (len(levels) - shared)
        elif block == "time":
            features += [part for part, _ in steps.named_steps["parts"].transformer_list]
    return features
