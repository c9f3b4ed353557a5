"""Two model versions side by side: on the same rows where both were judged on some."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from services.publisher.model_card import METRICS
from shared.records import ModelVersion
from shared.store import Store
from shared.wording import moment


@dataclass(frozen=True)
class Pair:
    """One figure of both versions."""

    name: str
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """The second less the first; None where one is not defined."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first


@dataclass(frozen=True)
class SegmentPair:
    """The deciding metric of both versions within one segment."""

    pair: Pair
    rows: tuple[int | None, int | None]
    """Held-out rows that each was judged on; None: it was judged on none."""


@dataclass(frozen=True)
class Comparison:
    """Two versions, by what is recorded of them."""

    first: int
    second: int
    same_rows: bool
    """Whether the figures of both are of the same held-out rows. Otherwise they say little."""
    judged_on: str
    metric: str
    """The deciding one, which the segments show."""
    metrics: list[Pair]
    segment_column: str | None
    segments: list[SegmentPair]

    def as_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self) | {
            "metrics": [_with_difference(pair) for pair in self.metrics],
            "segments": [
                _with_difference(each.pair) | {"rows": each.rows} for each in self.segments
            ],
        }


def _with_difference(pair: Pair) -> dict[str, Any]:
    return asdict(pair) | {"difference": pair.difference}


@dataclass(frozen=True)
class _Figures:
    """What is recorded of one version on some held-out rows."""

    metrics: dict[str, Any]
    segments: dict[str, tuple[int, dict[str, Any]]]
    """Segment -> rows and metrics."""

    @classmethod
    def own(cls, model: ModelVersion) -> "_Figures":
        return cls(model.metrics, _segments(model, "challenger"))

    @classmethod
    def of_champion(cls, model: ModelVersion) -> "_Figures":
        """Those of the champion that a version was judged against."""
        return cls(model.metrics["champion"], _segments(model, "champion"))


def compare(first: ModelVersion, second: ModelVersion, store: Store) -> Comparison:
    """Two versions of one pipeline. If one was judged against the other, on the rows of that."""
    if _rival(second, store) == _original(first):
        figures = _Figures.of_champion(second), _Figures.own(second)
        return _comparison(first, second, figures, True, _rows_of(second))
    if _rival(first, store) == _original(second):
        figures = _Figures.own(first), _Figures.of_champion(first)
        return _comparison(first, second, figures, True, _rows_of(first))
    figures = _Figures.own(first), _Figures.own(second)
    if _is_judged_alike(first, second):
        return _comparison(first, second, figures, True, _rows_of(first))
    apart = f"v{first.version}: {_rows_of(first)}; v{second.version}: {_rows_of(second)}"
    return _comparison(first, second, figures, False, apart)


def _original(model: ModelVersion) -> int:
    return model.restores or model.version


def _rival(model: ModelVersion, store: Store) -> int | None:
    """The champion that a version's figures stand against; of a restoration, its original."""
    version = (model.metrics.get("champion") or {}).get("version")
    query = {"pipeline": model.pipeline, "version": version}
    champion = store.newest(ModelVersion, query, "version") if version else None
    return _original(champion) if champion else None


def _is_judged_alike(first: ModelVersion, second: ModelVersion) -> bool:
    """The newest so many rows of one window are the same rows."""
    return first.window == second.window and _held_out(first) == _held_out(second)


def _held_out(model: ModelVersion) -> int:
    return int(model.metrics["data_stats"]["test_samples"])


def _rows_of(model: ModelVersion) -> str:
    span = event_span(model.metrics.get("held_out") or {})
    said = f", {span}" if span else ""
    return f"the {_held_out(model):,} rows held out for v{model.version}{said}"


def event_span(part: dict[str, Any]) -> str:
    """The event times of some rows: '2026-01-01 00:00 UTC to 2026-01-02 00:00 UTC'."""
    ends = (part.get(end) for end in ("first_event_at", "last_event_at"))
    return " to ".join(moment(datetime.fromisoformat(end)) for end in ends if end)


def _segments(model: ModelVersion, role: str) -> dict[str, tuple[int, dict[str, Any]]]:
    return {
        each["segment"]: (each["rows"], each[role])
        for each in model.metrics.get("segments") or ()
        if each.get(role)
    }


def _comparison(
    first: ModelVersion,
    second: ModelVersion,
    figures: tuple[_Figures, _Figures],
    same_rows: bool,
    judged_on: str,
) -> Comparison:
    one, other = figures
    metric = _deciding(second) or _deciding(first) or next(iter(METRICS))
    names = [name for name in METRICS if name in one.metrics or name in other.metrics]
    return Comparison(
        first=first.version,
        second=second.version,
        same_rows=same_rows,
        judged_on=judged_on,
        metric=metric,
        metrics=[Pair(name, one.metrics.get(name), other.metrics.get(name)) for name in names],
        segment_column=second.metrics.get("segment_column"),
        segments=[
            _segment_pair(name, one, other, metric) for name in {**one.segments, **other.segments}
        ],
    )


def _deciding(model: ModelVersion) -> str | None:
    return model.metrics.get("deciding_metric")


def _segment_pair(name: str, first: _Figures, second: _Figures, metric: str) -> SegmentPair:
    (rows, one), (other_rows, other) = (
        figures.segments.get(name, (None, {})) for figures in (first, second)
    )
    return SegmentPair(Pair(name, one.get(metric), other.get(metric)), (rows, other_rows))
