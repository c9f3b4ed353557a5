"""The loop against a plain script: seconds from a feed's answer to the pushed commit.

Both do the same work on the same answers in one run, hour by hour in turn: read every page of the
feed (3,360 rows), compare with the two hours before, train the forest on two hours less the rows
held out, judge it beside the model before, compress it, commit the files, push. Run: `make bench`.
"""

import io
import json
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import joblib
import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table
from scipy.stats import wasserstein_distance
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_absolute_error
from sklearn.pipeline import Pipeline as Steps
from sklearn.preprocessing import OneHotEncoder

from services.cli.embedded.addresses import settings_of
from services.cli.embedded.system import System, running
from shared.celery_app import celery_app
from shared.events import ROUTES, IngestionDue, Stage, first_event_fields
from shared.pipeline import load_pipeline
from shared.records import Batch, DriftReport, ModelVersion, Publication, Record
from shared.stage import Resources

STATIONS: Final = 480
POLLUTANTS: Final = 7
HOURS: Final = 10
DRIFT: Final = ("--drift-at", "1")
"""With another air at every later hour the new model is the better one, and is published."""
PIPELINE: Final = Path("pipelines/air_quality.yaml")
NUMBERS: Final = ["latitude", "longitude", "pollutant_min", "pollutant_max"]
COMPARED: Final = ["pollutant_min", "pollutant_max", "pollutant_avg"]


@dataclass
class Script:
    """The same steps as one plain sequential program."""

    feed: str
    resource: str
    folder: Path
    rows: list[pd.DataFrame] = field(default_factory=list)
    champion: Steps | None = None

    def __post_init__(self) -> None:
        remote, self.clone = self.folder / "script.git", self.folder / "clone"
        _git("init", "--bare", "--initial-branch=main", str(remote))
        _git("clone", "--quiet", str(remote), str(self.clone))

    def play_hour(self) -> float:
        """Seconds for one hour of the feed."""
        started = time.perf_counter()
        current = self._read()
        report = self._compare(current)
        self.rows.append(current)
        model, metrics = self._train()
        self._publish(model, metrics, report)
        self.champion = model
        return time.perf_counter() - started

    def _read(self) -> pd.DataFrame:
        records: list[dict[str, str]] = []
        with httpx.Client() as client:
            while True:
                query = {"format": "json", "offset": len(records), "limit": 300}
                answer = client.get(f"{self.feed}/resource/{self.resource}", params=query).json()
                records += answer["records"]
                if len(records) >= int(answer["total"]):
                    break
        frame = pd.DataFrame(records)
        numbers = [*NUMBERS, "pollutant_avg"]
        frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
        at = pd.to_datetime(frame["last_update"], format="%d-%m-%Y %H:%M:%S")
        return frame.assign(hour=at.dt.hour, day=at.dt.day, month=at.dt.month)

    def _compare(self, current: pd.DataFrame) -> dict[str, Any]:
        if not self.rows:
            return {}
        reference = pd.concat(self.rows[-2:])
        return {
            name: {
                "mean": [reference[name].mean(), current[name].mean()],
                "std": [reference[name].std(), current[name].std()],
                "distance": wasserstein_distance(reference[name].dropna(), current[name].dropna()),
            }
            for name in COMPARED
        }

    def _train(self) -> tuple[Steps, dict[str, float | None]]:
        rows = pd.concat(self.rows[-2:], ignore_index=True).dropna(subset=["pollutant_avg"])
        held_out = rows.tail(len(rows) // 5)
        training = rows.head(len(rows) - len(held_out))
        columns = ColumnTransformer(
            [
                ("numbers", "passthrough", [*NUMBERS, "hour", "day", "month"]),
                ("pollutant", OneHotEncoder(handle_unknown="ignore"), ["pollutant_id"]),
            ]
        )
        parameters = load_pipeline(PIPELINE).training.parameters
        forest = RandomForestRegressor(random_state=42, n_jobs=-1, **parameters)
        model = Steps([("features", columns), ("forest", forest)])
        model.fit(training, training["pollutant_avg"])
        actual = held_out["pollutant_avg"]
        mae = mean_absolute_error(actual, model.predict(held_out))
        before = self.champion.predict(held_out) if self.champion else None
        return model, {
            "mae": float(mae),
            "champion": None if before is None else float(mean_absolute_error(actual, before)),
        }

    def _publish(self, model: Steps, metrics: dict[str, Any], report: dict[str, Any]) -> None:
        sink = io.BytesIO()
        joblib.dump(model, sink, compress=3)
        (self.clone / "model.joblib").write_bytes(sink.getvalue())
        (self.clone / "metrics.json").write_text(json.dumps(metrics, indent=2))
        (self.clone / "drift_report.json").write_text(json.dumps(report, indent=2))
        (self.clone / "README.md").write_text(f"# A model\n\n{metrics}\n")
        _git("-C", str(self.clone), "add", "--all")
        author = ("-c", "user.name=script", "-c", "user.email=script@localhost")
        _git("-C", str(self.clone), *author, "commit", "--quiet", "--message", "Publish")
        _git("-C", str(self.clone), "push", "--quiet", "origin", "HEAD:main")


class Loop:
    """The real system, told of each hour as beat would tell it."""

    def __init__(self, resources: Resources, pipeline: str) -> None:
        self._resources = resources
        self._pipeline = pipeline

    def play_hour(self, hour: int) -> tuple[float, list[Record]]:
        """Seconds from the schedule's event to the publication's record, and the records."""
        slot = datetime.now(UTC)
        event = IngestionDue(**first_event_fields(self._pipeline, "bench", hour), slot=slot)
        started = time.perf_counter()
        self._resources.broker.send_to("ingest", event)
        while not self._is_decided(event.trace_id):
            if time.perf_counter() - started > 60:
                raise SystemExit(f"hour {hour}: neither published nor rejected after 60 s")
            time.sleep(0.005)
        seconds = time.perf_counter() - started
        self._wait_until_round(event)
        found = [
            self._find(kind, event.trace_id)
            for kind in (Batch, DriftReport, ModelVersion, Publication)
        ]
        return seconds, [record for record in found if record]

    def _is_decided(self, trace: str) -> bool:
        model = self._find(ModelVersion, trace)
        rejected = isinstance(model, ModelVersion) and model.decision == "rejected"
        return rejected or self._find(Publication, trace) is not None

    def _find(self, kind: type[Record], trace: str) -> Record | None:
        return next(self._resources.store.find(kind, {"trace_id": trace}), None)

    def _wait_until_round(self, event: IngestionDue) -> None:
        stages: frozenset[Stage] = frozenset(
            stage for routes in ROUTES.values() for stage in routes
        )
        while self._resources.store.first_unsettled("ingest", event, stages):
            time.sleep(0.01)


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def _prepare_pipeline(folder: Path) -> Path:
    """The default pipeline; retrains at every hour, and leaves the schedule to this program."""
    definition = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    definition["schedule"] = "0 0 1 1 *"
    definition["drift"]["threshold"] = 0.0
    definition["training"]["max_window_rows"] = 2 * STATIONS * POLLUTANTS
    pipelines = folder / "pipelines"
    pipelines.mkdir()
    (pipelines / PIPELINE.name).write_text(yaml.safe_dump(definition), encoding="utf-8")
    return pipelines


def main() -> None:
    """Play all hours through both and print the medians."""
    console = Console()
    pipeline = load_pipeline(PIPELINE)
    resource = str(pipeline.source.model_dump()["resource"])
    feed_arguments = (
        "simulate",
        "--manual",
        "--stations",
        str(STATIONS),
        "--hours",
        str(HOURS),
        *DRIFT,
    )
    loop_seconds, script_seconds, overheads, checks = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as name:
        folder = Path(name)
        system = System(folder / "system", _prepare_pipeline(folder), feed_arguments)
        with running(system, lambda text: console.print(f"… {text}", style="dim")):
            settings = settings_of(system.home)
            resources = Resources.attach(settings, celery_app(lambda: settings))
            loop = Loop(resources, pipeline.name)
            assert system.feed_url  # noqa: S101 - it was started above
            script = Script(system.feed_url, resource, folder)
            for hour in range(HOURS):
                seconds, records = loop.play_hour(hour)
                plain = script.play_hour()
                handled = [record.handled_seconds or 0.0 for record in records]
                if hour and len(records) == 4:  # the first hour warms both up
                    loop_seconds.append(seconds)
                    script_seconds.append(plain)
                    overheads.append(seconds - sum(handled))
                    checks.append(handled[1])
                stages = ", ".join(f"{record.handled_seconds:.3f}" for record in records)
                console.print(
                    f"hour {hour}: loop {seconds:.3f} s (handlers {stages}), script {plain:.3f} s"
                )
                if hour < HOURS - 1:
                    httpx.post(f"{system.feed_url}/clock/advance").raise_for_status()
    _print(console, loop_seconds, script_seconds, overheads, checks)


def _print(
    console: Console,
    loop: list[float],
    script: list[float],
    overheads: list[float],
    checks: list[float],
) -> None:
    ratios = [a / b for a, b in zip(loop, script, strict=True)]
    table = Table("figure", "median", "least", "most")
    for name, values in (
        ("loop, s", loop),
        ("script, s", script),
        ("loop / script, hour by hour", ratios),
        ("outside of handlers in all, s", overheads),
        ("drift handler, s", checks),
    ):
        table.add_row(
            name,
            f"{statistics.median(values):.3f}",
            f"{np.min(values):.3f}",
            f"{np.max(values):.3f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
