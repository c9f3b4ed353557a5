"""What an event means to a person: a title, a text, a few figures."""

from dataclasses import dataclass
from typing import Any, Final

from shared.events import ModelPromoted, ModelPublished, ModelRejected, WorkFailed
from shared.records import DriftReport, ModelVersion

Told = ModelPromoted | ModelRejected | ModelPublished | WorkFailed

_METRICS: Final = (
    ("mae", "mean absolute error"),
    ("r2_score", "R²"),
    ("log_loss", "log loss"),
    ("accuracy", "accuracy"),
)
_MOST_MOVED: Final = 3
_GREEN, _AMBER, _RED = 0x2E7D32, 0xF9A825, 0xC62828


@dataclass(frozen=True)
class Field:
    """A named figure."""

    name: str
    value: str


@dataclass(frozen=True)
class Message:
    """One message, before any channel gives it a form."""

    title: str
    text: str
    fields: tuple[Field, ...] = ()
    colour: int = _GREEN
    url: str | None = None

    def as_text(self) -> str:
        """The message as lines of text."""
        lines = [self.title, self.text, *(f"{field.name}: {field.value}" for field in self.fields)]
        return "\n".join([*lines, self.url] if self.url else lines)


def message_of(event: Told, model: ModelVersion | None, report: DriftReport | None) -> Message:
    """The message for an event, with what the store knows of its model and its drift report."""
    match event:
        case ModelPromoted():
            title = f"{event.pipeline}: model v{event.model_version} is the champion"
            return Message(title, _why(model), _figures(model, report), _GREEN)
        case ModelRejected():
            title = f"{event.pipeline}: model v{event.model_version} was rejected"
            stays = f"v{event.champion_version} stays the champion. {event.reason}"
            return Message(title, stays, _figures(model, report), _AMBER)
        case ModelPublished():
            title = f"{event.pipeline}: model v{event.model_version} is published"
            text = f"Commit {event.commit[:10]} on branch {event.branch}"
            return Message(title, text, _figures(model, report), _GREEN, event.url)
        case WorkFailed():
            title = f"{event.pipeline}: {event.stage} gave up on {event.failed_event}"
            look = Field("look at it", f"trimtab dead-letters show {event.dead_letter}")
            again = Field("try it again", f"trimtab dead-letters replay {event.dead_letter}")
            return Message(title, event.reason, (look, again), _RED)


def _why(model: ModelVersion | None) -> str:
    return model.reason if model else ""


def _figures(model: ModelVersion | None, report: DriftReport | None) -> tuple[Field, ...]:
    return (*_drift_fields(report), *_metric_fields(model))


def _drift_fields(report: DriftReport | None) -> tuple[Field, ...]:
    if report is None or report.drift_score is None:
        return ()
    score = f"{report.drift_score:.3f} against a threshold of {report.threshold:g}"
    ranked = sorted(report.feature_drifts, key=lambda name: -report.feature_drifts[name])
    moved = "\n".join(_movement(name, report) for name in ranked[:_MOST_MOVED])
    return (Field("drift score", score), Field("moved most", moved))


def _movement(name: str, report: DriftReport) -> str:
    stats = report.feature_stats[name]
    before = "no value" if stats.ref_mean is None else f"{stats.ref_mean:.4g}"
    now = "no value" if stats.curr_mean is None else f"{stats.curr_mean:.4g}"
    return f"{name}: mean {before} → {now} (drift {report.feature_drifts[name]:.2f})"


def _metric_fields(model: ModelVersion | None) -> tuple[Field, ...]:
    if model is None:
        return ()
    champion: dict[str, Any] = model.metrics.get("champion") or {}
    return tuple(
        Field(label, _compared(model.metrics[key], champion.get(key), champion.get("version")))
        for key, label in _METRICS
        if model.metrics.get(key) is not None
    )


def _compared(new: float, old: float | None, version: int | None) -> str:
    return f"{new:.3f}" if old is None else f"{new:.3f} (v{version} on the same rows: {old:.3f})"
