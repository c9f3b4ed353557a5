"""Tables of what happened: batches, commits, references. For `history` and the demo's end."""

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from services.cli.journal import deciding_pair, remark
from services.cli.listing import Listing, right
from services.cli.models_view import models_table, number
from shared.records import Batch, DriftReport, Publication, RetiredReference
from shared.stage import Resources
from shared.store import NUMBERED, Store
from shared.wording import clock


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
            notes=(Text(remark(report), "dim"),) if report else (),
        )
    return listing


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
    """What the demo did and where it can be looked at."""
    for pipeline in resources.pipelines.values():
        store = resources.store
        parts: list[RenderableType] = [
            batches_table(store, pipeline.name),
            models_table(store, pipeline.name, pipeline.training),
            commits_table(store, pipeline.name),
            _where_to_look(resources, home, pipeline.publish.branch),
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
