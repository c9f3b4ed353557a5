"""The picture for a message, and the geometry that it shares with the page."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.drift.report import figures
from services.drift.report.model import Bars, DriftReport, Histogram
from services.drift.report.picture import HEIGHT, WIDTH, render_png
from tests.unit.drift import sample_reports

REFERENCE, CURRENT = (0x73, 0x97, 0xC3), (0xB8, 0x48, 0x0A)


def pixels(report: DriftReport) -> np.ndarray:
    with Image.open(io.BytesIO(render_png(report))) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGBA"))


def share_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((picture[..., :3] == colour).all(axis=-1).mean())


@pytest.mark.parametrize(
    "sample",
    [
        sample_reports.air_quality,
        sample_reports.parcels,
        sample_reports.drift_without_segments,
        sample_reports.columns_policy,
        sample_reports.no_data,
        sample_reports.wide,
        sample_reports.hostile,
    ],
)
def test_picture_has_its_size_and_its_own_background(sample: type[DriftReport]) -> None:
    png = render_png(sample())
    assert len(png) < 100_000
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (WIDTH, HEIGHT) == (1000, 420)
        assert not image.info.get("Software")
        assert np.asarray(image.convert("RGBA"))[..., 3].min() == 255
    assert tuple(pixels(sample())[5, 500]) == (0xFD, 0xFD, 0xFB, 255)


def test_same_report_same_bytes_in_every_thread() -> None:
    report = sample_reports.air_quality()
    with ThreadPoolExecutor(4) as threads:
        pictures = list(threads.map(render_png, [report] * 8))
    assert set(pictures) == {render_png(report)}


def test_other_data_give_another_picture() -> None:
    shifted, same = sample_reports.air_quality(2.0), sample_reports.air_quality(1.0)
    changed = (pixels(shifted) != pixels(same)).any(axis=-1)
    assert changed[220:350, 30:320].mean() > 0.05, "the first panel"
    assert not changed[220:350, 350:].any(), "the other panels"
    assert not changed[:200].any(), "the words"


def test_verdict_has_its_colour() -> None:
    drift, calm = sample_reports.drift_without_segments(), sample_reports.parcels()
    assert tuple(pixels(drift)[200, 2]) == (0xA8, 0x40, 0x0A, 255)
    assert tuple(pixels(calm)[200, 2]) == (0x1C, 0x6B, 0x52, 255)


def test_pictures_compare_only_where_there_is_something_to_compare() -> None:
    compared = pixels(sample_reports.air_quality())
    assert share_of(compared, REFERENCE) > 0.01
    assert share_of(compared, CURRENT) > 0.002
    assert share_of(pixels(sample_reports.no_data()), REFERENCE) == 0
    assert share_of(pixels(sample_reports.columns_policy()), REFERENCE) == 0


def test_missing_values_are_two_bars_and_pairs_their_effect() -> None:
    report = sample_reports.air_quality()
    everywhere = [cell.model_copy(update={"segment": None}) for cell in report.cells]
    missing = [cell for cell in everywhere if cell.kind == "missing"]
    pairs = [cell for cell in everywhere if cell.kind == "pair"]
    bars = pixels(report.model_copy(update={"cells": missing}))
    assert share_of(bars[200:350], REFERENCE) > 0.001
    effect = pixels(report.model_copy(update={"cells": pairs}))
    assert share_of(effect[200:350], REFERENCE) == 0
    in_bar = (effect[273, 35 : 35 + 450, :3] == CURRENT).all(axis=-1).mean()
    assert in_bar == pytest.approx(0.31, abs=0.02)


def test_letters_that_the_font_lacks_and_formulas_pass_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render_png(sample_reports.hostile())


def histogram(reference: list[float], current: list[float], **changes: object) -> Histogram:
    fields: dict[str, object] = {
        "column": "x",
        "edges": list(range(len(reference) + 1)),
        "reference": reference,
        "current": current,
        "reference_outside": (0, 0),
        "current_outside": (0, 0),
    }
    return Histogram.model_validate(fields | changes)


def test_areas_are_shares() -> None:
    drawn = figures.outline(histogram([0.5, 0.5], [0.2, 0.8], edges=[0, 1, 4]))
    narrow, wide = drawn.blocks
    assert (narrow.left, narrow.right, wide.right) == (0, 0.25, 1)
    assert narrow.reference == pytest.approx(3 * wide.reference)
    assert wide.current / narrow.current == pytest.approx(0.8 / 0.2 / 3)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=120),
    st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
)
def test_area_of_each_sample_is_its_share_of_all(
    weights: list[tuple[float, float]], outside: tuple[float, float]
) -> None:
    total = max(sum(a for a, _ in weights), sum(b for _, b in weights), 1.0)
    reference, current = ([pair[i] / total for pair in weights] for i in (0, 1))
    chart = histogram(reference, current, current_outside=outside)
    drawn = figures.outline(chart)
    blocks = [block for run in drawn.runs for block in run]
    assert all(0 <= b.left < b.right <= 1 for b in blocks)
    assert all(0 <= height <= 1 for b in blocks for height in (b.reference, b.current))
    assert len(drawn.blocks) <= 48
    area_reference = sum((b.right - b.left) * b.reference for b in blocks)
    area_current = sum((b.right - b.left) * b.current for b in blocks)
    of_current = sum(current) + sum(outside)
    assert area_reference * of_current == pytest.approx(
        area_current * sum(reference), rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize("edges", [[5.0, 5.0], [-1.7e308, 1.7e308], [0.0, 5e-324]])
def test_ranges_without_width_and_without_end_are_drawn(edges: list[float]) -> None:
    (block,) = figures.outline(histogram([1.0], [0.5], edges=edges)).blocks
    assert (block.left, block.right, block.reference, block.current) == (0, 1, 1, 0.5)


def test_quantiles_against_numpy() -> None:
    values = np.random.default_rng(5).normal(50, 10, 20_000)
    counts, edges = np.histogram(values, 60)
    shares = (counts / values.size).tolist()
    chart = histogram(shares, shares, edges=edges.tolist())
    for level in (0.25, 0.5, 0.75):
        found = figures.quantile(chart, chart.reference, 0.0, level)
        assert found == pytest.approx(np.quantile(values, level), abs=0.2)
    assert figures.quantile(chart, chart.reference, 0.6, 0.5) is None


def test_bars_that_changed_most_are_kept_in_their_order() -> None:
    labels = [f"c{i}" for i in range(9)]
    reference, current = [0.1] * 9, [0.1, 0.2, 0.1, 0.3, 0.0, 0.15, 0.04, 0.1, 0.12]
    kept, left_out = figures.bars(
        Bars(column="x", labels=labels, reference=reference, current=current)
    )
    assert [bar.label for bar in kept] == ["c1", "c3", "c4", "c5", "c6", "c8"]
    assert left_out == 3


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300), st.floats())
def test_any_words_and_effect_fit(title: str, direction: str, effect: float) -> None:
    report = sample_reports.drift_without_segments()
    cell = report.cells[0].model_copy(
        update={"column": title, "direction": direction, "effect": effect}
    )
    picture = pixels(
        report.model_copy(update={"name": title, "reason": direction, "cells": [cell]})
    )
    background = picture[0, 500]
    assert (picture[:, 985:] == background).all(), "nothing runs over the edge"
