"""What each pipeline has come to: its newest batch, its newest check, its champion."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Final, get_args

from services.exporter import metrics
from services.exporter.failures import NOT_AS_WRITTEN, FailureLog, reason_of
from services.exporter.metrics import Family, Samples, label
from shared.documents import Document
from shared.drift import P_VALUES, CellFinding, PerformanceFinding, Verdict
from shared.drift_report import read_report
from shared.events import Sha256
from shared.failures import WillNotPass
from shared.pipeline import FilesSource, ManualSource, Pipeline, parse_schedule, slots_between
from shared.records import Batch, DriftReport, ModelVersion, Publication
from shared.store import MEASURED, NUMBERED, Store
from shared.watch import watch_of

_TESTS_LOOKED_AT: Final = 10

Sample = tuple[Family, tuple[str, ...], float]
Cells = dict[tuple[str, str], tuple[float, float | None]]
"""(feature, segment) -> its largest effect, and that one's p-value. An empty segment: all rows."""


class PipelineFigures:
    """The figures of every pipeline, read anew each time but for the cells of a known report."""

    def __init__(self, store: Store, pipelines: dict[str, Pipeline]) -> None:
        self._store = store
        self._pipelines = pipelines
        self._started = datetime.now(UTC)
        self._failures = {name: FailureLog(pipeline=name) for name in pipelines}
        self._cells = lru_cache(maxsize=len(pipelines))(self._read_cells)

    def read(self) -> Samples:
        """The figures now.

        Raises:
            PyMongoError: the store does not answer.
        """
        samples: Samples = defaultdict(dict)
        for pipeline in self._pipelines.values():
            for family, labels, value in self._of(pipeline):
                # The largest come first, and of long names only the beginning is told.
                samples[family].setdefault((pipeline.name, *labels), value)
        return dict(samples)

    def _of(self, pipeline: Pipeline) -> list[Sample]:
        """All of a pipeline's figures, or that they cannot be had: nothing else waits for them."""
        try:
            found, failure = list(self._read(pipeline)), None
        except NOT_AS_WRITTEN as error:
            found, failure = [], reason_of(error)
        self._failures[pipeline.name].note(failure)
        return [(metrics.READABLE, (), float(failure is None)), *found]

    def _read(self, pipeline: Pipeline) -> Iterator[Sample]:
        batch = self._store.newest(
            Batch, {"pipeline": pipeline.name, "sequence": NUMBERED}, "sequence"
        )
        report = self._store.newest(DriftReport, {"pipeline": pipeline.name}, "sequence")
        yield from self._arrival(pipeline, batch, report)
        if report:
            yield from _check(report)
            yield from _features(pipeline, report)
            yield from self._cells_of(report)
        yield metrics.OPEN_DRIFT, (), self._open_drift(pipeline.name, report)
        yield from self._model(pipeline.name)

    def _arrival(
        self, pipeline: Pipeline, batch: Batch | None, report: DriftReport | None
    ) -> Iterator[Sample]:
        checked = report.sequence if report else 0
        yield metrics.UNCHECKED, (), max((batch.sequence or 0) - checked, 0) if batch else 0
        if batch:
            yield metrics.NEWEST_BATCH, (), batch.recorded_at.timestamp()
        if not isinstance(pipeline.source, ManualSource | FilesSource):
            since = batch.recorded_at if batch else self._started
            schedule = parse_schedule(pipeline.schedule)
            slots = slots_between(schedule, since, datetime.now(UTC), metrics.MOST_SLOTS)
            yield metrics.SLOTS_WITHOUT_BATCH, (), slots

    def _open_drift(self, pipeline: str, newest: DriftReport | None) -> int:
        """An incident belongs to a reference; a promotion replaces that."""
        if newest is None or newest.incident is None:
            return 0
        reference = self._store.reference(pipeline)
        if reference is None or reference.version != newest.reference_version:
            return 0
        return newest.sequence - newest.incident + 1

    def _model(self, pipeline: str) -> Iterator[Sample]:
        champion = self._store.champion(pipeline)
        newest = self._store.newest(ModelVersion, {"pipeline": pipeline}, "version")
        published = self._store.newest(Publication, {"pipeline": pipeline}, "model_version")
        decided = newest.version if newest else 0
        yield metrics.REJECTIONS, (), decided - (champion.version if champion else 0)
        yield metrics.UNPUBLISHED, (), self._promoted_after(pipeline, published)
        if published:
            yield metrics.PUBLISHED, (), published.model_version
        if watch := watch_of(self._store, pipeline):
            yield metrics.ALTERED, (), len(watch.changes)
            if watch.seen_at:
                yield metrics.WATCHED, (), watch.seen_at.timestamp()
        if champion:
            yield metrics.CHAMPION, (), champion.version
            yield metrics.CHAMPION_PROMOTED, (), champion.recorded_at.timestamp()
            if trained := champion.metrics.get("trained_at"):
                at = datetime.fromisoformat(trained).timestamp()
                yield metrics.CHAMPION_TRAINED, (), at
            measured = self._findings(pipeline, champion.version, "performance.error", 1)
            tested = self._findings(pipeline, champion.version, "performance.p", _TESTS_LOOKED_AT)
            yield from _errors(measured, tested)

    def _findings(
        self, pipeline: str, champion: int, having: str, most: int
    ) -> list[PerformanceFinding]:
        """The champion's errors on the newest batches of which a figure is there, newest first."""
        query = {"pipeline": pipeline, "performance.model_version": champion, having: MEASURED}
        reports = self._store.find(DriftReport, query, newest_by="sequence", limit=most)
        return [report.performance for report in reports if report.performance]

    def _promoted_after(self, pipeline: str, published: Publication | None) -> int:
        query: Document = {"pipeline": pipeline, "decision": "promoted"}
        if published:
            query["version"] = {"$gt": published.model_version}
        return self._store.collection(ModelVersion).count_documents(
            query, limit=metrics.MOST_UNPUBLISHED
        )

    def _cells_of(self, report: DriftReport) -> Iterator[Sample]:
        if report.details is None:
            return
        try:
            cells = self._cells(report.details)
        except WillNotPass:  # removed, or no report of ours; the record says the rest
            return
        for (feature, segment), (effect, p) in cells.items():
            yield metrics.SEGMENT_EFFECT, (label(feature), label(segment)), effect
            if p is not None:
                yield metrics.SEGMENT_P, (label(feature), label(segment)), p

    def _read_cells(self, details: Sha256) -> Cells:
        return bounded_cells(read_report(self._store.blob(details)).cells)


def _check(report: DriftReport) -> Iterator[Sample]:
    yield metrics.NEWEST_CHECK, (), report.timestamp.timestamp()
    for verdict in get_args(Verdict):
        yield metrics.VERDICT, (verdict,), float(verdict == report.verdict)
    if report.p is not None or report.drift_score is not None:
        yield metrics.DRIFT_THRESHOLD, (), report.threshold
    if report.drift_score is not None:
        yield metrics.DRIFT_SCORE, (), report.drift_score
    if report.p is not None:
        yield metrics.DRIFT_P, (), report.p


def _features(pipeline: Pipeline, report: DriftReport) -> Iterator[Sample]:
    test = pipeline.drift.column_test
    if report.policy == "columns" and {test.number, test.category} & set(P_VALUES):
        return  # small ones would be the drifted ones
    for feature, score in islice(report.feature_drifts.items(), metrics.MOST_FEATURES):
        yield metrics.FEATURE_DRIFT, (label(feature),), score


def bounded_cells(cells: list[CellFinding]) -> Cells:
    """The cells of single columns, as many features and segments as are served."""
    single = sorted((cell for cell in cells if cell.kind != "pair"), key=lambda cell: -cell.effect)
    features = list(dict.fromkeys(cell.column for cell in single))[: metrics.MOST_FEATURES]
    named = [cell.segment for cell in single if cell.segment is not None]
    segments = [None, *list(dict.fromkeys(named))[: metrics.MOST_SEGMENTS]]
    found: Cells = {}
    for cell in single:
        if cell.column in features and cell.segment in segments:
            found.setdefault((cell.column, cell.segment or ""), (cell.effect, cell.p))
    return found


def _errors(
    measured: list[PerformanceFinding], tested: list[PerformanceFinding]
) -> Iterator[Sample]:
    """The champion's error on the newest batch that has a target, and that at its promotion."""
    if not measured:
        return
    newest = measured[0]
    yield metrics.CHAMPION_ERROR, (newest.metric,), newest.error or 0.0
    if newest.error_at_promotion is not None:
        yield metrics.PROMOTION_ERROR, (newest.metric,), newest.error_at_promotion
    if newest.interval_at_promotion:
        yield metrics.CHECKS_ABOVE, (), _above_in_a_row(tested)
        for bound, value in zip(("lower", "upper"), newest.interval_at_promotion, strict=True):
            yield metrics.PROMOTION_ERROR_BOUND, (newest.metric, bound), value


def _above_in_a_row(findings: list[PerformanceFinding]) -> int:
    """How many of the findings, newest first, lie above the interval before one does not."""
    for number, finding in enumerate(findings):
        interval = finding.interval_at_promotion
        if interval is None or (finding.error or 0.0) <= interval[1]:
            return number
    return len(findings)
