"""What `metrics.json` says of a model: its figures, and what they were judged by."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from services.trainer.challenger import Fitted, Plan
from services.trainer.evaluation import SegmentComparison, feature_importance
from services.trainer.gate import Verdict
from services.trainer.trial import Trial
from shared.pipeline import Pipeline
from shared.training import Gate


def metrics_content(
    fitted: Fitted,
    plan: Plan,
    trial: Trial,
    verdict: Verdict,
    learnt: pd.DataFrame,
    held_out: pd.DataFrame,
    pipeline: Pipeline,
    champion_version: int | None,
) -> dict[str, Any]:
    """The file's content as JSON types."""
    training, time = pipeline.training, pipeline.data.event_time
    champion = trial.champion
    return {
        **trial.challenger.metrics,
        "feature_importance": feature_importance(fitted.model, held_out, training),
        "data_stats": {
            "total_samples": len(learnt) + len(held_out),
            "training_samples": len(learnt),
            "test_samples": len(held_out),
        },
        "deciding_metric": training.deciding_metric,
        "champion": {"version": champion_version, **champion.metrics} if champion else None,
        "baseline": {"kind": trial.baseline_kind, **trial.baseline.metrics},
        "comparison": asdict(trial.comparison) if trial.comparison else None,
        "segment_column": pipeline.judged_segment,
        "segments": _segments(trial.segments),
        "gate": _gate(verdict, pipeline.gate),
        "held_out": _held_out(learnt, held_out, time),
        "window": _window(plan, pipeline) | _span(learnt, time),
        "features": {
            "columns": list(training.features),
            "time_parts": list(plan.recipe.time_parts),
        },
        "parameters": dict(plan.recipe.parameters),
        "search": _search(plan),
        "trained_at": fitted.trained_at.isoformat(),
        "fit_seconds": round(fitted.fit_seconds, 3),
    }


def _segments(segments: Sequence[SegmentComparison]) -> list[dict[str, Any]]:
    return [
        {
            "segment": each.segment,
            "rows": each.rows,
            "groups": each.groups,
            "few": each.few,
            "challenger": each.challenger,
            "champion": each.champion,
            "baseline": each.baseline,
            "relative_difference": each.comparison and each.comparison.relative_difference,
        }
        for each in segments
    ]


def _gate(verdict: Verdict, gate: Gate) -> dict[str, Any]:
    return {
        "policy": gate.policy,
        "margin": gate.margin,
        "decision": verdict.decision,
        "reason": verdict.reason,
        "guards": [asdict(guard) for guard in verdict.guards],
    }


def _held_out(learnt: pd.DataFrame, rows: pd.DataFrame, time: str | None) -> dict[str, Any]:
    if time is None:
        return {"rows": "chosen by a hash of their group"}
    return {
        "rows": "the newest, whole groups",
        **_span(rows, time),
        "older_than_training": bool(rows[time].min() < learnt[time].max()),
    }


def _span(rows: pd.DataFrame, time: str | None) -> dict[str, str | None]:
    if time is None:
        return {}
    first, last = rows[time].min(), rows[time].max()
    return {
        "first_event_at": None if pd.isna(first) else first.isoformat(),
        "last_event_at": None if pd.isna(last) else last.isoformat(),
    }


def _window(plan: Plan, pipeline: Pipeline) -> dict[str, Any]:
    selection = plan.selection
    return {
        "policy": str(pipeline.training.window),
        "chosen": str(plan.recipe.window),
        "rows": len(plan.training),
        "candidates": [
            {
                "window": str(candidate.choice),
                "error": candidate.error,
                "folds": len(candidate.errors),
                "p": candidate.p,
                "chosen": candidate.choice == selection.choice,
            }
            for candidate in selection.candidates
        ],
    }


def _search(plan: Plan) -> dict[str, Any] | None:
    found = plan.found
    if found is None:
        return None
    return {
        "tried": found.tried,
        "of": found.of,
        "seconds": round(found.seconds, 3),
        "error": found.error,
        "failed": list(found.failed),
    }
