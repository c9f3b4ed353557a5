"""Drift reports built by hand: of air quality, of parcels, of hardly anything, of far too much."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from services.drift.report.model import (
    Bars,
    Chart,
    ColumnRole,
    DriftReport,
    Histogram,
    MissingRate,
    PastCheck,
    WindowFinding,
)
from shared.drift import CellFinding, FeatureStats, PerformanceFinding

MOMENT = datetime(2025, 2, 11, 9, 5, tzinfo=UTC)
HOSTILE = "<script>alert('&\"')</script>"


def air_quality(current_scale: float = 1.55) -> DriftReport:
    """Drift within two of six pollutants, in the window of 24 batches."""
    decided = WindowFinding(
        batches=24,
        first_sequence=101,
        last_sequence=124,
        rows=7_213,
        p=3.2e-8,
        threshold=0.00025,
        effect=0.34,
        drift=True,
    )
    one = WindowFinding(
        batches=1,
        first_sequence=124,
        last_sequence=124,
        rows=301,
        p=0.0041,
        threshold=0.00025,
        effect=0.21,
        drift=False,
    )
    pollutants = ["PM2.5", "PM10", "CO", "NO2", "SO2", "OZONE"]
    columns = ["pollutant_avg", "pollutant_max", "pollutant_min", "latitude", "longitude"]
    quiet = [
        _cell(column, segment, p=0.04 + 0.13 * i, effect=0.03 + 0.008 * ((7 * i + 3 * j) % 9))
        for j, column in enumerate(columns)
        for i, segment in enumerate([None, *pollutants])
        if (column, segment) not in SPEAKING
    ]
    speaking = [
        _cell(column, segment, p=p, effect=effect, direction=direction, speaks=True)
        for (column, segment), (p, effect, direction) in SPEAKING.items()
    ]
    absent = _cell("pollutant_avg", "CO", 0.00011, 0.09, "missing 2.1 % → 11 %", "missing", True)
    mix = _cell("pollutant_id", None, 0.0011, 0.09, "PM2.5 16 % → 21 %, new 4 %", "category")
    pair = CellFinding(
        kind="pair",
        column="pollutant_min",
        other_column="pollutant_max",
        segment="OZONE",
        p=0.00013,
        effect=0.31,
        speaks=True,
        direction="correlation 0.88 → 0.57",
        reference_rows=1_402,
        current_rows=1_180,
    )
    return DriftReport(
        name="air_quality",
        verdict="drift",
        needs_retraining=True,
        reason="PM2.5 and PM10 rose: the distribution of pollutant_avg differs from the reference "
        "with p = 3.2e-8 at a threshold of 0.00025, and the change of 0.34 is above 0.05.",
        policy="calibrated",
        p=decided.p,
        threshold=decided.threshold,
        min_effect=0.05,
        expected_false_alarms=1.0,
        window=decided,
        windows=[one, decided],
        drift_score=decided.effect,
        feature_drifts={"pollutant_avg": 0.34, "pollutant_max": 0.22, "pollutant_min": 0.09},
        feature_stats={
            "pollutant_avg": _stats(64.2, 81.9, 58.1, 77.4),
            "pollutant_max": _stats(98.4, 119.2, 88.0, 105.9),
        },
        cells=[*speaking, absent, pair, mix, *sorted(quiet, key=lambda cell: cell.p or 0)],
        rows=301,
        reference_rows=10_000,
        rows_set_aside=12,
        new_categories={"station": {"Rohini, Delhi - DPCC": 12, "Talkatora, Lucknow - CPCB": 3}},
        missing_rates={
            "pollutant_avg": MissingRate(reference=0.021, current=0.034),
            "pollutant_max": MissingRate(reference=0.021, current=0.0207),
            "latitude": MissingRate(reference=0.0, current=0.0),
        },
        columns=[
            ColumnRole(name="station", type="category", role="cluster", inferred=False),
            ColumnRole(name="pollutant_id", type="category", role="segment", inferred=False),
            *(
                ColumnRole(name=column, type="number", role="compared", inferred=True)
                for column in columns
            ),
            ColumnRole(
                name="country", type="category", role="left out", inferred=True, note="constant"
            ),
        ],
        assumptions=[
            "Rows of one station in one hour may depend on each other; rows of different "
            "stations are taken as independent.",
            "The reference's hours of the day and seasons are taken to be those of the batch.",
        ],
        charts=[
            lognormal(4.2, current_scale, segment="PM2.5"),
            lognormal(4.5, 1.3, segment="PM10"),
            lognormal(4.6, 1.25, column="pollutant_max", segment="PM2.5"),
            lognormal(4.0, 1.08),
            lognormal(3.2, 1.02, segment="NO2"),
            Bars(
                column="pollutant_id",
                labels=[*pollutants, "all others", "new"],
                reference=[0.16, 0.15, 0.15, 0.14, 0.14, 0.14, 0.12, 0.0],
                current=[0.21, 0.18, 0.10, 0.13, 0.14, 0.12, 0.08, 0.04],
            ),
        ],
        timestamp=MOMENT,
    )


SPEAKING: dict[tuple[str, str | None], tuple[float, float, str]] = {
    ("pollutant_avg", "PM2.5"): (
        3.1e-18,
        0.34,
        "median 84 → 131, 27 % of rows above the reference's 99th percentile",
    ),
    ("pollutant_avg", "PM10"): (4.4e-9, 0.22, "median 108 → 141"),
    ("pollutant_max", "PM2.5"): (2.0e-7, 0.19, "median 131 → 168"),
    ("pollutant_avg", None): (0.00004, 0.08, "median 51 → 57, wider by 12 %"),
}


def past_checks(checks: int = 60, drift_last: bool = True) -> list[PastCheck]:
    """The hourly checks that came before, one of them without enough rows."""
    rng = np.random.default_rng(3)
    p = rng.uniform(0.001, 1, checks)
    effect = rng.uniform(0.01, 0.09, checks)
    if drift_last:
        p[-5:] = [0.01, 0.0007, 0.00009, 2e-6, 3.2e-8][-checks:]
        effect[-5:] = [0.08, 0.12, 0.2, 0.28, 0.34][-checks:]
    return [
        PastCheck(
            sequence=124 - checks + 1 + i,
            timestamp=MOMENT - timedelta(hours=checks - 1 - i),
            verdict="insufficient data" if i == 9 else "drift" if p[i] < 0.00025 else "no drift",
            p=None if i == 9 else float(p[i]),
            threshold=0.00025,
            effect=None if i == 9 else float(effect[i]),
        )
        for i in range(checks)
    ]


def parcels() -> DriftReport:
    """No drift in a one-shot check of two files without segments."""
    window = WindowFinding(
        batches=1, rows=4_200, p=0.34, threshold=0.001, effect=0.031, drift=False
    )
    return bare(
        name="parcels-2024.csv against parcels-2025.csv",
        verdict="no drift",
        reason="A difference as large as this is to be expected without any change (p = 0.34).",
        p=window.p,
        threshold=window.threshold,
        window=window,
        windows=[window],
        drift_score=window.effect,
        cells=[
            _cell("weight_kg", None, 0.021, 0.031, "median 2.4 → 2.5"),
            _cell("service", None, 0.2, 0.02, "'express' 12 % → 14 %", kind="category"),
            _cell("length_cm", None, 0.4, 0.012, "median 34 → 34"),
        ],
        rows=4_200,
        reference_rows=38_112,
        columns=[
            ColumnRole(name="weight_kg", type="number", role="compared", inferred=True),
            ColumnRole(name="service", type="category", role="compared", inferred=True),
            ColumnRole(
                name="remark", type="text", role="left out", inferred=True, note="free text"
            ),
        ],
        assumptions=["No cluster column is named: all rows are taken as independent."],
        charts=[
            lognormal(0.9, 1.03, column="weight_kg"),
            Bars(
                column="service",
                labels=["standard", "express", "overnight"],
                reference=[0.71, 0.12, 0.17],
                current=[0.70, 0.14, 0.16],
            ),
        ],
    )


def drift_without_segments() -> DriftReport:
    """The parcels once their weights have shifted and a service was added."""
    window = WindowFinding(batches=1, rows=4_200, p=1e-40, threshold=0.001, effect=0.27, drift=True)
    cells = [
        _cell("weight_kg", None, 1e-42, 0.27, "median 2.4 → 3.6", speaks=True),
        _cell("service", None, 2e-9, 0.09, "new: 'drone' 9 %", kind="category", speaks=True),
        _cell("length_cm", None, 0.4, 0.012, "median 34 → 34"),
    ]
    return parcels().model_copy(
        update={
            "verdict": "drift",
            "needs_retraining": True,
            "reason": "weight_kg has changed: median 2.4 → 3.6.",
            "p": window.p,
            "window": window,
            "windows": [window],
            "cells": cells,
        }
    )


def columns_policy() -> DriftReport:
    """A check by a policy without p-values."""
    return bare(
        name="air_quality",
        verdict="drift",
        needs_retraining=True,
        reason="The drift score 0.23 exceeds 0.1.",
        policy="mean_std_change",
        threshold=0.1,
        drift_score=0.23,
        min_effect=None,
        expected_false_alarms=None,
        feature_drifts={"pollutant_avg": 0.23},
        feature_stats={"pollutant_avg": _stats(64.2, 81.9, 58.1, 77.4)},
        cells=[
            CellFinding(
                kind="number",
                column="pollutant_avg",
                p=None,
                effect=0.23,
                direction="mean 64.2 → 81.9",
                reference_rows=900,
                current_rows=300,
            )
        ],
        rows=300,
        reference_rows=900,
    )


def performance_drift() -> DriftReport:
    """The parcels look the same, and the champion predicts them worse."""
    performance = PerformanceFinding(
        model_version=3,
        metric="mae",
        error=7.42,
        error_at_promotion=5.89,
        rows=4_100,
        groups=412,
        p=0.0001,
        threshold=0.001,
        drift=True,
        reason="the champion's mean absolute error rose from 5.89 at its promotion to 7.42 "
        "(p = 0.0001, threshold 0.001)",
    )
    update = {
        "performance": performance,
        "reason": performance.reason,
        "needs_retraining": True,
    }
    return parcels().model_copy(update=update)


def performance_unknown() -> DriftReport:
    """The champion could not be asked."""
    performance = PerformanceFinding(
        model_version=3,
        metric="log_loss",
        error=None,
        error_at_promotion=0.31,
        rows=0,
        groups=0,
        threshold=0.001,
        reason="no row has a value of late",
    )
    return parcels().model_copy(update={"performance": performance})


def no_data() -> DriftReport:
    return bare(name="air_quality", verdict="no data", reason="The batch holds no row.")


def insufficient_data() -> DriftReport:
    return bare(
        name="air_quality",
        verdict="insufficient data",
        reason="3 rows are fewer than the 5 that a verdict needs; they count in a longer window.",
        rows=3,
        reference_rows=10_000,
    )


def wide(columns: int = 200, segments: int = 30) -> DriftReport:
    """As many cells as anyone has, long hostile names, and a chart for each of 60 columns."""
    names = [f"{HOSTILE} measured quantity number {i} " + "µ" * 40 for i in range(columns)]
    places = [None, *(f"segment <b>{i}</b> & {'ß' * 80}" for i in range(segments))]
    rng = np.random.default_rng(11)
    cells = [
        _cell(
            column,
            place,
            p=float(rng.uniform(1e-12, 1e-3)),
            effect=float(rng.uniform()),
            direction=f"median {'&' * 500} → 1",
            speaks=bool(i % 3),
        )
        for i, column in enumerate(names)
        for place in places
    ]
    return bare(
        name="&" * 5_000,
        verdict="drift",
        needs_retraining=True,
        reason="<>" * 5_000,
        p=1e-12,
        threshold=0.00025,
        cells=sorted(cells, key=lambda cell: (not cell.speaks, cell.p)),
        rows=10_000,
        reference_rows=1_000_000,
        feature_stats={column: _stats(1, 2, 3, 4) for column in names},
        new_categories={
            column: {f"{HOSTILE * 40}{i}": i for i in range(60)} for column in names[:80]
        },
        missing_rates={
            column: MissingRate(reference=0.1, current=0.2 + i / 1000)
            for i, column in enumerate(names)
        },
        columns=[
            ColumnRole(name=column, type="number", role="compared", inferred=True, note="&" * 2_000)
            for column in names
        ],
        assumptions=["&" * 3_000] * 90,
        charts=[lognormal(2, 1.2, column=column, bins=400) for column in names[:60]],
    )


def hostile() -> DriftReport:
    """Markup, quotes, formulas, control characters and other scripts as names."""
    cell = _cell(HOSTILE, "$\\frac{", 1e-9, 0.4, "median \x00\u202e\ud800 → 1\n2", speaks=True)
    other = _cell("दिल्ली 東京 🛰", 'a"onload="x', 1e-7, 0.3, HOSTILE, speaks=True)
    return bare(
        name=HOSTILE,
        verdict="drift",
        needs_retraining=True,
        reason=HOSTILE,
        p=1e-9,
        cells=[cell, other, _cell("", "", 0.5, 0.0, "")],
        new_categories={HOSTILE: {HOSTILE: 3}},
        missing_rates={HOSTILE: MissingRate(reference=0, current=0.4)},
        assumptions=[HOSTILE],
        charts=[
            lognormal(1, 2, column=HOSTILE, segment="$\\frac{"),
            Bars(
                column="दिल्ली 東京 🛰",
                segment='a"onload="x',
                labels=[HOSTILE, "", "\x1b[31m"],
                reference=[0.5, 0.5, 0],
                current=[0.1, 0.5, 0.4],
            ),
        ],
    )


def bare(**changes: object) -> DriftReport:
    """A report with nothing in it but what is given."""
    fields: dict[str, object] = {
        "name": "bare",
        "verdict": "no data",
        "needs_retraining": False,
        "reason": "There is nothing to compare.",
        "policy": "calibrated",
        "p": None,
        "threshold": 0.001,
        "min_effect": 0.05,
        "expected_false_alarms": 1.0,
        "window": None,
        "windows": [],
        "drift_score": None,
        "feature_drifts": {},
        "feature_stats": {},
        "cells": [],
        "rows": 0,
        "reference_rows": 0,
        "new_categories": {},
        "missing_rates": {},
        "columns": [],
        "assumptions": [],
        "timestamp": MOMENT,
    }
    return DriftReport.model_validate(fields | changes)


def lognormal(
    location: float,
    scale: float,
    column: str = "pollutant_avg",
    segment: str | None = None,
    bins: int = 30,
) -> Chart:
    """Shares of a log-normal reference and of the same multiplied by `scale`, up to its 99 %."""
    rng = np.random.default_rng(round(1000 * location))
    reference = rng.lognormal(location, 0.5, 6_000)
    current = scale * rng.lognormal(location, 0.55, 1_900)
    edges = np.linspace(0.0, float(np.quantile(reference, 0.99)), bins + 1)
    return Histogram(
        column=column,
        segment=segment,
        edges=edges.tolist(),
        reference=_shares(reference, edges),
        current=_shares(current, edges),
        reference_outside=(0.0, float((reference > edges[-1]).mean())),
        current_outside=(0.0, float((current > edges[-1]).mean())),
    )


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[float]:
    counts: Sequence[int] = np.histogram(values, edges)[0].tolist()
    return [count / values.size for count in counts]


def _cell(
    column: str,
    segment: str | None,
    p: float,
    effect: float,
    direction: str = "median 40 → 41",
    kind: str = "number",
    speaks: bool = False,
) -> CellFinding:
    return CellFinding.model_validate(
        {
            "kind": kind,
            "column": column,
            "segment": segment,
            "p": p,
            "effect": effect,
            "speaks": speaks,
            "direction": direction,
            "reference_rows": 10_000 if segment is None else 1_640,
            "current_rows": 7_213 if segment is None else 1_190,
        }
    )


def _stats(ref_mean: float, curr_mean: float, ref_std: float, curr_std: float) -> FeatureStats:
    return FeatureStats(
        ref_mean=ref_mean,
        curr_mean=curr_mean,
        ref_std=ref_std,
        curr_std=curr_std,
        mean_change=abs(curr_mean - ref_mean) / ref_mean,
        std_change=abs(curr_std - ref_std) / ref_std,
        wasserstein=0.31,
        ref_rows=9_790,
        curr_rows=291,
    )
