"""What a message says, apart from where it goes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from shared.drift import CellFinding, FeatureStats
from shared.events import (
    NO_PIPELINE,
    DriftFound,
    ModelPromoted,
    ModelPublished,
    ModelRejected,
    PublicationAltered,
    ReviewNeeded,
    WorkFailed,
)
from shared.plain_text import printable, without_addresses
from shared.records import DriftReport, ModelVersion
from shared.wording import NO_BREAK, measured, p_equals

GREEN: Final = 0x2E9E5B
BLUE: Final = 0x2F6FDE
YELLOW: Final = 0xD9A514
RED: Final = 0xC9372C

METRICS: Final = {
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "mse": "Mean squared error",
    "r2_score": "R²",
    "accuracy": "Accuracy",
    "log_loss": "Log loss",
    "macro_f1": "Macro F1",
}
MOVED_MOST: Final = 3
PICTURE_NAME: Final = "drift.png"

_LONGEST_NAME: Final = 60
_LONGEST_DIRECTION: Final = 300


@dataclass(frozen=True)
class Field:
    """One named fact. An inline field may stand beside others."""

    name: str
    value: str
    inline: bool = False


@dataclass(frozen=True)
class Message:
    """What happened, in plain text without any markup."""

    title: str
    text: str
    fields: tuple[Field, ...]
    colour: int
    """0xRRGGBB."""
    url: str | None = None
    """Where a person can look."""
    picture: bytes | None = None
    """A PNG of it, for channels that show pictures."""
    trace_id: str | None = None
    """Of the chain that led to it."""

    @property
    def way_back(self) -> str | None:
        """The command that shows all that led to the message."""
        return f"trimtab history show {self.trace_id}" if self.trace_id else None


def drifted(event: DriftFound, report: DriftReport | None, picture: bytes | None) -> Message:
    """A drift that has begun: why, the cells that speak loudest, and where the rest is."""
    whole = Field("Whole report", f"trimtab report --pipeline {event.pipeline} {event.sequence}")
    return Message(
        title=f"{event.pipeline}: drift in batch {event.sequence}",
        text=f"{event.reason}\n{_compared(report)}" if report else event.reason,
        fields=(*(_evidence(report) if report else ()), *_performance(report), whole),
        colour=YELLOW,
        picture=picture,
    )


def promoted(event: ModelPromoted, model: ModelVersion, report: DriftReport | None) -> Message:
    """A new champion: what it replaces, and the figures that speak for it."""
    if event.restores is not None:
        return _restored(event, model)
    rows = f"trained on {event.window_rows:,} rows"
    if event.replaced_version is None:
        text = f"It is the first model of this pipeline, {rows}."
    else:
        text = f"It replaces v{event.replaced_version} and was {rows}."
    return Message(
        title=f"{event.pipeline}: model v{event.model_version} is the champion",
        text=f"{text}\nWhy: {model.reason}",
        fields=_figures(model, report),
        colour=GREEN,
    )


def _restored(event: ModelPromoted, model: ModelVersion) -> Message:
    version, now = f"v{event.restores}", f"v{event.model_version}"
    return Message(
        title=f"{event.pipeline}: model {version} is the champion again (as {now})",
        text=f"It replaces v{event.replaced_version}, and batches are compared again with the "
        f"{event.window_rows:,} rows that it was trained on.\nWhy: {model.reason}",
        fields=_metrics(model),
        colour=GREEN,
    )


def rejected(event: ModelRejected, model: ModelVersion, report: DriftReport | None) -> Message:
    """A model that did not pass the gate: what stays, and why."""
    return Message(
        title=f"{event.pipeline}: model v{event.model_version} was rejected",
        text=f"{_stays(event)}.\nWhy: {event.reason}",
        fields=_figures(model, report),
        colour=YELLOW,
    )


def review_needed(event: ReviewNeeded, model: ModelVersion) -> Message:
    """Nothing but rejections: a person should look, and at what."""
    last, here = event.model_version, f"--pipeline {event.pipeline}"
    models = f"{event.rejections} models in a row were"
    if event.rejections == 1:
        models = "the first model was" if event.champion_version is None else "a model was"
    return Message(
        title=f"{event.pipeline}: {models} rejected",
        text=f"{_stays(event)}, and no new model is good enough: a person should look.\n"
        f"Why v{last} was rejected: {event.reason}",
        fields=(
            *_metrics(model),
            Field("The models", f"trimtab models {here}"),
            Field("The last one", f"trimtab models show {last} {here}"),
            Field("Other settings on recorded batches", "trimtab replay FOLDER --policy FILE"),
            Field("Begin anew with other rows", f"trimtab reference set FILE {here}"),
        ),
        colour=RED,
    )


def _stays(event: ModelRejected | ReviewNeeded) -> str:
    if event.champion_version is None:
        return "There is still no champion"
    return f"The champion v{event.champion_version} stays"


def published(event: ModelPublished, model: ModelVersion, report: DriftReport | None) -> Message:
    """A champion on the model repository: which commit, and where to look at it."""
    commit = Field("Commit", f"{event.commit[:10]} on {event.branch}")
    again = f", v{model.restores} again" if model.restores else ""
    return Message(
        title=f"{event.pipeline}: model v{event.model_version} is published{again}",
        text=f"Its files are on branch {event.branch} of the model repository.",
        fields=(commit, *_figures(model, report)),
        colour=BLUE,
        url=event.url,
    )


def altered(event: PublicationAltered) -> Message:
    """Somebody else changed what was published: what, and how to see it and to undo it."""
    since = f"{event.commit}..origin/{event.branch}"
    return Message(
        title=f"{event.pipeline}: somebody changed the published model v{event.model_version}",
        text=f"{event.reason}\nNobody should load it from there until a person has looked.",
        fields=(
            Field("As published", f"commit {event.commit}"),
            Field("See who changed what", f"git fetch origin && git log --stat {since}"),
            Field("Undo it", f"git revert {since}, and push {event.branch}"),
        ),
        colour=RED,
        url=event.url,
    )


def failed(event: WorkFailed) -> Message:
    """A stage that gave up: why, and the commands to look at it and to try again."""
    look = Field("Look at it", f"trimtab dead-letters show {event.dead_letter}")
    if event.pipeline == NO_PIPELINE:
        title = f"{event.stage}: a {event.failed_event}, which this system did not write"
        return Message(title=title, text=event.reason, fields=(look,), colour=RED)
    return Message(
        title=f"{event.pipeline}: {event.stage} gave up on {event.failed_event}",
        text=event.reason,
        fields=(look, Field("Try again", f"trimtab dead-letters replay {event.dead_letter}")),
        colour=RED,
    )


def as_text(message: Message, shown: Callable[[str], str] = str) -> str:
    """The message below its title, for channels that show plain text.

    Args:
        shown: what becomes of each text before it is sent. The address and the command at the end
            stay as they are.
    """
    texts = [message.text, "", *map(_as_lines, message.fields)]
    ends = map(printable, filter(None, (message.url, message.way_back)))
    return "\n".join([*(shown(printable(text)) for text in texts), *ends]).strip()


def _as_lines(field: Field) -> str:
    if "\n" in field.value:
        indented = field.value.replace("\n", "\n  ")
        return f"{field.name}:\n  {indented}"
    return f"{field.name}: {field.value}"


def _figures(model: ModelVersion, report: DriftReport | None) -> tuple[Field, ...]:
    drift = _drift(report) if report else ()
    return (*drift, *_metrics(model))


def _drift(report: DriftReport) -> tuple[Field, ...]:
    against = f"against a threshold of {measured(report.threshold)}"
    if report.p is not None:
        return (Field("Drift", f"{_p_value(report.p)} {against}"), *_moved_most(report))
    if report.drift_score is None:
        return (Field("Drift score", f"none ({report.verdict})"),)
    score = Field("Drift score", f"{measured(report.drift_score)} {against}")
    return (score, *_moved_most(report))


def _moved_most(report: DriftReport) -> tuple[Field, ...]:
    """The cells that speak loudest; under a policy without cells, the columns."""
    moved = [
        f"{_cell_title(cell)}: {_brief(cell.direction, _LONGEST_DIRECTION)}"
        for cell in report.cells[:MOVED_MOST]
    ]
    if not moved:
        moved = [
            _movement(name, drift, report.feature_stats.get(name))
            for name, drift in islice(report.feature_drifts.items(), MOVED_MOST)
            if drift > 0
        ]
    return (Field("Moved most", "\n".join(moved)),) if moved else ()


def _evidence(report: DriftReport) -> tuple[Field, ...]:
    """A field for each of the top cells: what changed, by how much, and how surely."""
    if not report.cells:
        return _moved_most(report)
    return tuple(
        Field(
            _cell_title(cell),
            f"{_brief(cell.direction, _LONGEST_DIRECTION)}\n{_effect_and_p(cell)}",
        )
        for cell in report.cells[:MOVED_MOST]
    )


def _performance(report: DriftReport | None) -> tuple[Field, ...]:
    """That the champion's own error has risen, if it has."""
    found = report.performance if report else None
    if found is None or not found.drift:
        return ()
    rise = " → ".join(map(_mean, (found.error_at_promotion, found.error)))
    surely = "" if found.p is None else f", {_p_value(found.p)}"
    name = METRICS[found.metric].lower()
    value = f"{name} {rise} since its promotion, on {found.rows:,} rows{surely}"
    return (Field(f"Error of the champion v{found.model_version}", value),)


def _compared(report: DriftReport) -> str:
    batches = report.window_batches
    rows = f"The batch's {report.batch_rows:,} rows"
    what = rows if batches == 1 else f"The last {batches} batches together"
    reference = f"reference v{report.reference_version}"
    return f"{what} were compared with {reference}, {report.reference_rows or 0:,} rows."


def _cell_title(cell: CellFinding) -> str:
    """'PM2.5 in Delhi', 'missing values of CO', 'NO2 with CO'."""
    title = _name(cell.column)
    if cell.kind == "missing":
        title = f"missing values of {title}"
    if cell.other_column is not None:
        title = f"{title} with {_name(cell.other_column)}"
    return title if cell.segment is None else f"{title} in {_name(cell.segment)}"


def _effect_and_p(cell: CellFinding) -> str:
    effect = f"effect {cell.effect:.2f}"
    return effect if cell.p is None else f"{effect}, {_p_value(cell.p)}"


def _p_value(p: float) -> str:
    """'p = 0.34', 'p = 3.2e-8', 'p < 1e-16', with spaces as any channel shows them."""
    return p_equals(p).replace(NO_BREAK, " ")


def _name(text: str) -> str:
    return _brief(text, _LONGEST_NAME) or "(empty)"


def _brief(text: str, longest: int) -> str:
    """Text from data on one line, cut to a length, its addresses no links."""
    line = without_addresses(" ".join(text.split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _movement(name: str, drift: float, stats: FeatureStats | None) -> str:
    if stats is None:
        return f"{name}: drift {measured(drift)}"
    means = f"{_mean(stats.ref_mean)} → {_mean(stats.curr_mean)}"
    return f"{name}: mean {means} (drift {measured(drift)})"


def _mean(value: float | None) -> str:
    return "no value" if value is None else measured(value)


def _metrics(model: ModelVersion) -> tuple[Field, ...]:
    """The model's metrics beside the champion's on the same held-out rows."""
    champion: Mapping[str, Any] = model.metrics.get("champion") or {}
    rival = f"v{champion.get('version', model.champion_version)}"
    fields = []
    for key, name in METRICS.items():
        new, old = model.metrics.get(key), champion.get(key)
        if new is None:
            continue
        against = "" if old is None else f" ({rival}: {measured(old)})"
        fields.append(Field(name, f"{measured(new)}{against}", inline=True))
    return tuple(fields)
