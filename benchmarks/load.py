"""Batches a second through ingest and drift, against bare Celery passing the same messages.

In turn, on the same broker: real workers of both stages on a real store, each batch 3,300 new rows
of an HTTP source; and two workers that only pass on messages of the same size, in as many hops.
Run: `python -m benchmarks.load`; with `--beside CHECKOUT` for the workers of another commit in the
same rounds; with `--pipelines 2` for that many, which do not wait for each other's checks; with
`--batches 10000` for memory, broker and latency.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import numpy as np
import yaml
from git import Repo
from redis import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.passing import PASSED, QUEUES, passing_app, send
from services.cli.embedded.process import Process
from services.cli.embedded.servers import Mongo, Valkey
from services.cli.embedded.system import worker_command
from shared.celery_app import celery_app
from shared.events import STAGES, IngestionDue, dump_event, first_event_fields
from shared.operators import make_key
from shared.records import Batch, DriftReport, Record, Reference
from shared.settings import Settings, read_settings
from shared.stage import Resources
from shared.store import NUMBERED

PIPELINE: Final = Path("pipelines/air_quality.yaml")
POLLUTANTS: Final = ("CO", "NO2", "OZONE", "PM10", "PM2.5", "SO2")
BEGIN: Final = datetime(2010, 1, 1, tzinfo=UTC)
ROUNDS: Final = 5
ROUND_BATCHES: Final = 50
LONGEST_SECONDS: Final = 1800.0


class Feed:
    """Answers each request with the rows of the next hour, from the same distribution."""

    def __init__(self, rows: int) -> None:
        self._stations = rows // len(POLLUTANTS)
        self._hour = 0
        self._lock = threading.Lock()
        self._bodies = [self._body(seed) for seed in range(20)]
        feed = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = feed.next_answer()
                self.send_response(200)
                self.send_header("Content-Type", "text/csv")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/rows.csv"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def next_answer(self) -> bytes:
        """CSV of the hour after the one before."""
        with self._lock:
            self._hour += 1
            hour = self._hour
        at = f"{BEGIN + timedelta(hours=hour):%d-%m-%Y %H:%M:%S}"
        return self._bodies[hour % len(self._bodies)].replace(b"@", at.encode())

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def _body(self, seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        lines = [
            "country,state,city,station,last_update,latitude,longitude,pollutant_id,"
            "pollutant_min,pollutant_max,pollutant_avg"
        ]
        for station in range(self._stations):
            place = f"India,State_{station % 5},City {station % 12},Station {station}"
            away = station % 2000 * 0.04
            at = f"{8 + away:.6f},{69 + away:.6f}"
            for pollutant in POLLUTANTS:
                low, spread = rng.gamma(4, 6), rng.gamma(2, 12)
                values = f"{low:.0f},{low + spread:.0f},{low + spread / 2:.0f}"
                lines.append(f"{place},@,{at},{pollutant},{values}")
        return "\n".join(lines).encode()


class Load:
    """The real workers, given ticks of all pipelines in turn and watched from outside."""

    def __init__(
        self, resources: Resources, workers: dict[str, Process], servers: list[Process]
    ) -> None:
        self._resources = resources
        self._workers = workers
        self._servers = servers
        self._pipelines = sorted(resources.pipelines)
        self._ticks = 0

    def play(self, batches: int) -> float:
        """Seconds until so many further batches are checked."""
        reports = self._resources.store.collection(DriftReport)
        wanted = reports.estimated_document_count() + batches
        started = time.perf_counter()
        for _ in range(batches):
            self._ticks += 1
            pipeline = self._pipelines[self._ticks % len(self._pipelines)]
            fields = first_event_fields(pipeline, "load", self._ticks)
            event = IngestionDue(**fields, slot=datetime.now(UTC))
            self._resources.broker.send_to("ingest", event)
        while reports.estimated_document_count() < wanted:
            if time.perf_counter() - started > LONGEST_SECONDS:
                raise SystemExit("the batches are not checked; see the workers' logs")
            time.sleep(0.02)
        return time.perf_counter() - started

    def begin(self) -> None:
        """Let every pipeline have its first model, and every worker be warm."""
        self.play(len(self._pipelines))
        deadline = time.monotonic() + 120
        references = self._resources.store.collection(Reference)
        for pipeline in self._pipelines:
            # Of another version it may have no MAC.
            while not references.find_one({"pipeline": pipeline}):
                if time.monotonic() > deadline:
                    raise SystemExit("no first model after two minutes; see the trainer's log")
                time.sleep(0.1)
        self.play(20)

    def memory(self) -> dict[str, float]:
        """MB that each worker's processes hold, the parent's and its children's."""
        return {name: _memory(worker) for name, worker in self._workers.items()}

    def cpu_seconds(self) -> float:
        """What the workers, the store and the broker have used of the cores so far."""
        return sum(map(_cpu_seconds, [*self._workers.values(), *self._servers]))

    def handled_seconds(self, kind: type[Record]) -> list[float]:
        """How long the handler took for each record of a kind."""
        return [record.handled_seconds or 0.0 for record in self._resources.store.find(kind, {})]

    def latencies(self) -> list[float]:
        """Seconds that ingest's and drift's handlers took together, by batch."""
        store = self._resources.store
        took = {
            batch.sequence: batch.handled_seconds or 0.0
            for batch in store.find(Batch, {"sequence": NUMBERED})
        }
        reports = store.find(DriftReport, {}, oldest_by="sequence")
        return [took[report.sequence] + (report.handled_seconds or 0.0) for report in reports]


class Bare:
    """Celery alone: the same messages, as many hops, no work."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._app = passing_app(lambda: settings)
        self._redis = redis

    def play(self, batches: int) -> float:
        """Seconds until so many messages went through both workers."""
        fields = first_event_fields("air_quality", "load", 1)
        event = dump_event(IngestionDue(**fields, slot=datetime.now(UTC)))
        self._redis.delete(PASSED)
        started = time.perf_counter()
        for _ in range(batches):
            send(self._app, 0, event)
        while int(self._redis.get(PASSED) or 0) < batches:
            time.sleep(0.02)
        return time.perf_counter() - started


def _memory(worker: Process) -> float:
    sizes = (text.partition("VmRSS:")[2].split()[0] for text in _read_all(worker, "status"))
    return sum(map(int, sizes)) / 1024


def _cpu_seconds(process: Process) -> float:
    """In user and system mode, of a process and its children."""
    fields = (text.rpartition(")")[2].split() for text in _read_all(process, "stat"))
    return sum(int(user) + int(system) for *_, user, system in (each[:13] for each in fields)) / (
        os.sysconf("SC_CLK_TCK")
    )


def _read_all(process: Process, file: str) -> Iterator[str]:
    """What the kernel's file about a process says, and of each of its children."""
    pids = [str(process.pid)]
    while pids:
        folder = Path(f"/proc/{pids.pop()}")
        try:
            pids += (folder / "task" / folder.name / "children").read_text().split()
            yield (folder / file).read_text()
        except OSError:
            continue


def _prepare(folder: Path, url: str, pipelines: int, checkout: Path) -> None:
    """A checkout's default pipeline so many times, with the feed as its source, and no clock."""
    definition = yaml.safe_load((checkout / PIPELINE).read_text(encoding="utf-8"))
    definition["schedule"] = "0 0 1 1 *"
    definition["source"] = {"kind": "http", "url": url, "format": "csv"}
    Repo.init(folder / "models.git", bare=True, initial_branch="main").close()
    (folder / "pipelines").mkdir(parents=True)
    for number in range(1, pipelines + 1):
        definition["name"] = definition["publish"]["directory"] = f"air_quality_{number}"
        file = folder / "pipelines" / f"{number}.yaml"
        file.write_text(yaml.safe_dump(definition), encoding="utf-8")


@contextmanager
def _servers(folder: Path) -> Iterator[tuple[dict[str, str], list[Process]]]:
    """Their addresses with the rest of the environment, and their processes."""
    mongo, valkey = (
        Mongo(folder / "mongo", "drift_detection"),
        Valkey(folder / "valkey", "drift_detection:"),
    )
    try:
        mongo.start()
        valkey.start()
        environment = {
            "MONGODB_URI": mongo.uri,
            "REDIS_URL": valkey.url,
            "PIPELINES": str(folder / "pipelines"),
            "EVENT_KEY": "another key of this benchmark",
            "OPERATORS": make_key("nobody")[1],
            "MODEL_SIGNING_KEY": "a key of this benchmark alone",
            "MODEL_REPOSITORY": str(folder / "models.git"),
            "GIT_CACHE": str(folder / "git"),
            "LOG_LEVEL": "WARNING",
        }
        yield environment, [server.process for server in (mongo, valkey) if server.process]
    finally:
        for server in (mongo, valkey):
            if server.process:
                server.process.stop()


@contextmanager
def _worker(name: str, command: list[str], folder: Path, env: dict[str, str]) -> Iterator[Process]:
    worker = Process(name, command, folder / f"{name}.log", os.environ | env)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def _passing_command(queue: str) -> list[str]:
    return [
        *(sys.executable, "-m", "celery", "-A", "benchmarks.passing", "worker"),
        *("-Q", queue, "-n", f"{queue}@%h", "-c", "1"),
        *("--without-gossip", "--without-mingle", "-O", "fair"),
    ]


def _settings(environment: dict[str, str]) -> Settings:
    return read_settings(**{key.lower(): value for key, value in environment.items()})


@contextmanager
def running_system(
    folder: Path, url: str, pipelines: int, checkout: Path | None = None
) -> Iterator[tuple[Load, dict[str, str]]]:
    """All workers on servers of their own, of this checkout or of another, and their environment.

    Checks of several pipelines are shared by as many processes; the other stages have one each.
    """
    elsewhere = ["env", "-C", str(checkout)] if checkout else []
    with ExitStack() as stack:
        _prepare(folder, url, pipelines, checkout or Path())
        environment, servers = stack.enter_context(_servers(folder))
        settings = _settings(environment)
        resources = Resources.attach(settings, celery_app(lambda: settings))
        stack.callback(resources.close)
        processes = {"drift": str(pipelines)}
        workers: dict[str, Process] = {}
        for stage in STAGES:
            command = [*elsewhere, *worker_command(stage), "-c", processes.get(stage, "1")]
            workers[stage] = stack.enter_context(_worker(stage, command, folder, environment))
        load = Load(resources, workers, servers)
        load.begin()
        yield load, environment


def _compare(load: Load, others: Load | None, bare: Bare, batches: int, console: Console) -> None:
    """Rounds of all in turn."""
    own: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    passed: list[float] = []
    for number in range(ROUNDS):
        own.append(_round(load, batches))
        if others:
            theirs.append(_round(others, batches))
        passed.append(10 * batches / bare.play(10 * batches))
        console.print(f"round {number + 1}: {own[-1][0]:.1f} batches/s, bare {passed[-1]:.0f}")
    rates, cpu = _columns(own)
    their_rates, their_cpu = _columns(theirs)
    table = Table("figure", "median", "least", "most")
    for name, values, form in (
        ("ingest and drift, batches/s", rates, ".1f"),
        ("the other checkout, batches/s", their_rates, ".1f"),
        ("bare Celery, messages through both hops/s", passed, ".1f"),
        ("÷ bare Celery, round by round", _ratios(rates, passed), ".3f"),
        ("÷ the other checkout, round by round", _ratios(rates, their_rates), ".2f"),
        ("CPU of workers, store and broker, ms a batch", cpu, ".0f"),
        ("the other checkout, ms a batch", their_cpu, ".0f"),
        ("÷ the other checkout, round by round", _ratios(cpu, their_cpu), ".2f"),
    ):
        if values:
            shown = (statistics.median(values), min(values), max(values))
            table.add_row(name, *(format(value, form) for value in shown))
    console.print(table)


def _round(load: Load, batches: int) -> tuple[float, float]:
    """Batches a second, and milliseconds of CPU a batch."""
    before = load.cpu_seconds()
    rate = batches / load.play(batches)
    return rate, 1000 * (load.cpu_seconds() - before) / batches


def _columns(rounds: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [rate for rate, _ in rounds], [cpu for _, cpu in rounds]


def _ratios(values: list[float], others: list[float]) -> list[float]:
    return [value / other for value, other in zip(values, others, strict=False)]


def _go_on(load: Load, batches: int, redis: Redis, console: Console) -> None:
    """Many batches, a tenth of them at a time: memory and rate of each tenth."""
    table = Table("batches", "batches/s", *(f"{stage} MB" for stage in STAGES), "broker keys")
    begun = len(load.latencies())
    done = 0
    for _ in range(10):
        seconds = load.play(batches // 10)
        done += batches // 10
        memory = load.memory()
        table.add_row(
            f"{done:,}",
            f"{batches / 10 / seconds:.1f}",
            *(f"{memory[stage]:.0f}" for stage in STAGES),
            " ".join(sorted(key.decode() for key in redis.scan_iter())),
        )
        console.print(f"{done:,} batches, {memory}", style="dim")
    console.print(table)
    took = load.latencies()[begun:]
    first, last = statistics.median(took[:100]), statistics.median(took[-100:])
    console.print(
        f"both handlers, median of the first hundred batches {1000 * first:.1f} ms, "
        f"of the last hundred {1000 * last:.1f} ms"
    )


def main() -> None:
    """Compare with bare Celery; or go on for many batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, help="go on for so many, without bare Celery")
    parser.add_argument("--rows", type=int, default=3300, help="of each batch")
    parser.add_argument("--pipelines", type=int, default=1, help="that take turns")
    parser.add_argument("--beside", type=Path, help="another checkout, whose workers take turns")
    arguments = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        feed = Feed(arguments.rows)
        stack.callback(feed.close)
        load, environment = stack.enter_context(
            running_system(folder / "own", feed.url, arguments.pipelines)
        )
        redis = Redis.from_url(environment["REDIS_URL"])
        if arguments.batches:
            _go_on(load, arguments.batches, redis, console)
            return
        others = None
        if arguments.beside:
            others, _ = stack.enter_context(
                running_system(folder / "beside", feed.url, arguments.pipelines, arguments.beside)
            )
        for queue in QUEUES:
            stack.enter_context(_worker(queue, _passing_command(queue), folder, environment))
        bare = Bare(_settings(environment), redis)
        bare.play(50)
        _compare(load, others, bare, ROUND_BATCHES, console)


if __name__ == "__main__":
    main()
