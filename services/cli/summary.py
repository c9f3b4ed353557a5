"""Tables of what happened: batches, commits, references. For `history` and the demo's end."""

from pathlib import Path
from shlex import quote

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from services.cli.journal import decision, remark
from services.cli.models_view import models_table, number
from shared.records import Batch, DriftReport, Publication, RetiredReference
from shared.stage import Resources
from shared.store import NUMBERED, Store


def batches_table(store: Store, pipeline: str, limit: int = 0) -> Table:
    """Each batch with what its check found, oldest first."""
    table = Table(title="Batches", title_justify="left")
    table.add_column("batch", justify="right", no_wrap=True)
    table.add_column("newest row (UTC)", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("set aside", justify="right", no_wrap=True)
    table.add_column("decision")
    query = {"pipeline": pipeline, "sequence": NUMBERED}
    newest_first = list(store.find(Batch, query, newest_by="sequence", limit=limit))
    listed = {"pipeline": pipeline, "sequence": {"$in": [batch.sequence for batch in newest_first]}}
    reports = {report.sequence: report for report in store.find(DriftReport, listed)}
    for batch in reversed(newest_first):
        report = reports.get(batch.sequence or 0)
        table.add_row(
            str(batch.sequence),
            f"{batch.last_event_at:%Y-%m-%d %H:%M}" if batch.last_event_at else "",
            f"{batch.rows:,}",
            f"{batch.set_aside.rows:,}",
            _decision(report),
        )
    return table


def _decision(report: DriftReport | None) -> Text:
    if report is None:
        return Text("waits to be checked", style="dim")
    retrain, style = (" → retrain", "yellow") if report.needs_retraining else ("", "")
    below = f"\n{reason}" if (reason := remark(report)) else ""
    return Text.assemble((f"{decision(report)}{retrain}", style), (below, "dim"))


def commits_table(store: Store, pipeline: str) -> Table:
    """Each publication: model, commit, tag."""
    table = Table(title="Commits on the model repository", title_justify="left")
    for heading in ("model", "commit", "branch", "tag"):
        table.add_column(heading)
    query = {"pipeline": pipeline}
    for publication in store.find(Publication, query, oldest_by="model_version"):
        table.add_row(
            f"v{publication.model_version}",
            publication.url or publication.commit[:10],
            publication.branch,
            publication.tag,
        )
    return table


def demo_summary(console: Console, resources: Resources, home: Path) -> None:
    """What the demo did and where it can be looked at."""
    for pipeline in resources.pipelines.values():
        store = resources.store
        parts: list[RenderableType] = [
            batches_table(store, pipeline.name),
            models_table(store, pipeline.name, pipeline.training),
            commits_table(store, pipeline.name),
            _where_to_look(resources, home, quote(pipeline.publish.branch)),
        ]
        console.print(Panel(Group(*parts), title=f"Pipeline {pipeline.name}", expand=False))


def _where_to_look(resources: Resources, home: Path, branch: str) -> Text:
    git = f"git -C {_from_here(resources.settings.model_repository or '')}"
    return Text.assemble(
        ("Look at the models:  ", "bold"), f"{git} log --stat {branch}\n",
        ("The newest metrics:  ", "bold"), f"{git} show {branch}:metrics.json\n",
        ("The drift reports:   ", "bold"), f"{home / 'reports'}/batch-N.html\n",
        ("The workers' logs:   ", "bold"), f"{home / 'logs'}",
    )  # fmt: skip


def _from_here(address: str) -> str:
    """A path below this folder as a person would type it; anything else as it is."""
    path = Path(address)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else address


def references_table(store: Store, pipeline: str, limit: int = 0) -> Table:
    """The references that were replaced, with the drift that ended each, newest first."""
    table = Table(title="References that were replaced", title_justify="left")
    for heading in ("reference", "rows", "replaced (UTC)", "drift score", "moved most"):
        table.add_column(heading)
    query = {"pipeline": pipeline}
    for old in store.find(RetiredReference, query, newest_by="version", limit=limit):
        moved = list(old.feature_drifts)[:3]
        table.add_row(
            f"v{old.version}",
            f"{old.rows:,}",
            f"{old.timestamp:%Y-%m-%d %H:%M:%S}",
            number(old.drift_score),
            ", ".join(f"{name} {old.feature_drifts[name]:.2f}" for name in moved),
        )
    return table
