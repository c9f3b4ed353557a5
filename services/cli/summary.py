"""Tables of what happened: batches, commits, references. For `history` and the demo's end."""

from pathlib import Path
from shlex import quote
from typing import Final

from services.cli.journal import deciding_pair, remark
from services.cli.listing import Listing, right
from services.cli.literal import Console, Text
from services.cli.models_view import models_table, number
from services.cli.report import read_report
from services.drift.report.wording import cell_title
from shared.records import Batch, DriftReport, ModelVersion, Publication, RetiredReference
from shared.stage import Resources
from shared.store import NUMBERED, Store
from shared.wording import SMALLEST_P, clock, percent


def batches_table(store: Store, pipeline: str, limit: int = 0) -> Listing:
    """Each batch with what its check found, oldest first."""
    listing = Listing(
        right("batch"),
        "newest row (UTC)",
        right("rows"),
        right("set\naside"),
        "verdict",
        right("p or\nscore"),
        right("threshold"),
        title="Batches",
        empty="No batches yet. The pipeline's schedule makes one, or `trimtab ingest FILE`.",
    )
    query = {"pipeline": pipeline, "sequence": NUMBERED}
    newest_first = list(store.find(Batch, query, newest_by="sequence", limit=limit))
    listed = {"pipeline": pipeline, "sequence": {"$in": [batch.sequence for batch in newest_first]}}
    reports = {report.sequence: report for report in store.find(DriftReport, listed)}
    for batch in reversed(newest_first):
        report = reports.get(batch.sequence or 0)
        listing.add_row(
            str(batch.sequence),
            clock(batch.last_event_at) if batch.last_event_at else "",
            f"{batch.rows:,}",
            f"{batch.set_aside.rows:,}",
            _verdict(report),
            *(deciding_pair(report) if report else ("", "")),
            notes=_notes(batch, report),
        )
    return listing


def _notes(batch: Batch, report: DriftReport | None) -> tuple[Text, ...]:
    """Why the check decided so, and what became of the answer's other rows."""
    beside = batch.beside_new_rows()
    said = [remark(report) if report else "", ", ".join(beside)]
    return tuple(Text(words, "dim") for words in said if words)


def _verdict(report: DriftReport | None) -> Text:
    if report is None:
        return Text("waits to be checked", "dim")
    if report.needs_retraining:
        first = report.verdict in ("no reference", "reference set")
        return Text(f"{report.verdict} → {'train' if first else 'retrain'}", "yellow")
    return Text(report.verdict)


def commits_table(store: Store, pipeline: str) -> Listing:
    """Each publication: model, commit, branch, tag."""
    listing = Listing(
        *("model", "commit", "branch", "tag"),
        title="Commits on the model repository",
        empty="No commits yet. A promoted model makes one.",
    )
    query = {"pipeline": pipeline}
    for publication in store.find(Publication, query, oldest_by="model_version"):
        listing.add_row(
            f"v{publication.model_version}",
            publication.commit[:10],
            publication.branch,
            publication.tag,
            notes=(Text(publication.url or "", "dim"),),
        )
    return listing


def demo_summary(console: Console, resources: Resources, home: Path) -> None:
    """What the demo did: tables first, and on the last screen the batches and three sentences."""
    for pipeline in resources.pipelines.values():
        store = resources.store
        console.print("", models_table(store, pipeline.name, pipeline.training), "")
        console.print(commits_table(store, pipeline.name), "")
        console.print(_where_to_look(resources, home, quote(pipeline.publish.branch)), "")
        console.print(_verdicts_table(store, pipeline.name), "")
        for sentence in story(store, pipeline.name):
            console.print(Text(sentence, "bold"))


def _verdicts_table(store: Store, pipeline: str) -> Listing:
    """A line a batch: its check, and the model that followed."""
    listing = Listing(
        right("batch"), "newest row (UTC)", right("rows"), "verdict", "model", title="Batches"
    )
    models = {model.sequence: model for model in store.find(ModelVersion, {"pipeline": pipeline})}
    reports = {
        report.sequence: report for report in store.find(DriftReport, {"pipeline": pipeline})
    }
    query = {"pipeline": pipeline, "sequence": NUMBERED}
    for batch in store.find(Batch, query, oldest_by="sequence"):
        model = models.get(batch.sequence or 0)
        listing.add_row(
            str(batch.sequence),
            clock(batch.last_event_at) if batch.last_event_at else "",
            f"{batch.rows:,}",
            _verdict(reports.get(batch.sequence or 0)),
            Text(f"v{model.version} {model.decision}", _STYLES[model.decision]) if model else "",
        )
    return listing


_STYLES: Final = {"promoted": "green", "rejected": "yellow"}


def story(store: Store, pipeline: str) -> tuple[str, str, str]:
    """What happened, in three sentences: the calm, the newest promotion, the newest rejection."""
    reports = {
        report.sequence: report for report in store.find(DriftReport, {"pipeline": pipeline})
    }
    calm = sum(report.verdict == "no drift" for report in reports.values())
    models = list(store.find(ModelVersion, {"pipeline": pipeline}, oldest_by="version"))
    replaced = [model for model in models if _replaced(model)]
    rejected = [model for model in models if model.decision == "rejected"]
    champion = store.champion(pipeline)
    in_force = f"v{champion.version} is the champion" if champion else "there is no champion"
    stays = f"v{champion.version} stays the champion" if champion else in_force
    return (
        f"1. {calm} of {len(reports)} batches show no drift, so no model is trained for them.",
        f"2. {_promotion(replaced[-1], reports, store)}"
        if replaced
        else "2. No model has replaced an earlier one.",
        f"3. {_rejection(rejected[-1], reports, store)}, and {stays}."
        if rejected
        else f"3. No model was rejected: {in_force}.",
    )


def _replaced(model: ModelVersion) -> bool:
    return model.decision == "promoted" and model.champion_version is not None


def _promotion(model: ModelVersion, reports: dict[int, DriftReport], store: Store) -> str:
    return (
        f"{_drifted(model, reports, store)}: model v{model.version}{_error(_difference(model))} "
        f"replaces v{model.champion_version}."
    )


def _rejection(model: ModelVersion, reports: dict[int, DriftReport], store: Store) -> str:
    """An error that is lower says nothing of why the model was rejected, so it is left out."""
    difference = _difference(model)
    worse = _error(difference) if difference and difference > 0 else ""
    return (
        f"{_drifted(model, reports, store)}: the gate rejects model v{model.version}{worse}"
    ).removesuffix(",")


def _difference(model: ModelVersion) -> float | None:
    """By what share the model's error differs from the champion's on the same rows, if known."""
    comparison = model.metrics.get("comparison") or {}
    share = comparison.get("relative_difference")
    return None if share is None else float(share)


def _error(difference: float | None) -> str:
    if difference is None:
        return ""
    side = "lower" if difference < 0 else "higher"
    return f", whose error on the same rows is {percent(abs(difference))} {side},"


def _drifted(model: ModelVersion, reports: dict[int, DriftReport], store: Store) -> str:
    report = reports.get(model.sequence)
    most = moved_most(report, store) if report else None
    what = f" most in {most}" if most else ""
    return f"Batch {model.sequence} has changed{what}"


def moved_most(report: DriftReport, store: Store) -> str:
    """The cell that speaks loudest, with how it moved; by effect where p-values are equal."""
    if report.details is None:
        return ""
    cells = [cell for cell in read_report(store, report).cells if cell.speaks]
    if not cells:
        return ""
    most = min(cells, key=lambda cell: (max(cell.p or 0.0, SMALLEST_P), -cell.effect))
    return f"{cell_title(most)} ({most.direction.partition(', ')[0]})"


def _where_to_look(resources: Resources, home: Path, branch: str) -> Text:
    git = f"git -C {_from_here(resources.settings.model_repository or '')}"
    return Text.assemble(
        ("The models:   ", "bold"), f"{git} log --stat {branch}\n",
        ("The metrics:  ", "bold"), f"{git} show {branch}:metrics.json\n",
        ("The reports:  ", "bold"), f"{home / 'reports'}/batch-N.html\n",
        ("The logs:     ", "bold"), f"{home / 'logs'}",
        overflow="fold",
    )  # fmt: skip


def _from_here(address: str) -> str:
    """A path below this folder as a person would type it; anything else as it is."""
    path = Path(address)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else address


def references_table(store: Store, pipeline: str, limit: int = 0) -> Listing:
    """The references that were replaced, with the drift that ended each, newest first."""
    listing = Listing(
        *("reference", right("rows"), "replaced (UTC)", right("drift score")),
        title="References that were replaced",
        empty="None was replaced yet. A promotion replaces the reference.",
    )
    query = {"pipeline": pipeline}
    for old in store.find(RetiredReference, query, newest_by="version", limit=limit):
        drifts = [f"{name} {drift:.2f}" for name, drift in old.feature_drifts.items()]
        moved = f"moved most: {', '.join(drifts[:3])}" if drifts else ""
        listing.add_row(
            f"v{old.version}",
            f"{old.rows:,}",
            clock(old.timestamp, seconds=True),
            number(old.drift_score),
            notes=(Text(moved, "dim"),),
        )
    return listing
