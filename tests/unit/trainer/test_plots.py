"""A model's pictures."""

import hashlib
import io
import itertools
import json
import subprocess
import sys
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sklearn.metrics import confusion_matrix

from services.publisher.model_card import PLOT_FILES
from services.trainer.evaluation import classification_metrics, regression_metrics
from services.trainer.plots import (
    MOST_CLASSES,
    THEMES,
    Theme,
    axis_limits,
    confusion_figure,
    count_classes,
    importance_figure,
    panels_of,
    predictions_figure,
    render_plots,
    segments_figure,
)
from shared.wording import NO_BREAK

HOSTILE = st.text(
    st.one_of(st.sampled_from("$_^{}\\#%&~ \n\t\x00\u202eWM"), st.characters()), max_size=80
)
BOTH = pytest.mark.parametrize("theme", THEMES, ids=[theme.name for theme in THEMES])


def segment(name: str, rows: int, error: float = 6.0, change: float | None = -0.25) -> Any:
    return {
        "segment": name,
        "rows": rows,
        "groups": rows,
        "few": rows < 30,
        "challenger": {"mae": error},
        "champion": None if change is None else {"mae": error / (1 + change)},
        "baseline": {"mae": 4 * error},
        "relative_difference": change,
    }


def metrics_of(**changes: Any) -> dict[str, Any]:
    """As the trainer writes them, without what no picture shows."""
    metrics: dict[str, Any] = {
        "mae": 6.5,
        "deciding_metric": "mae",
        "champion": {"version": 3, "mae": 7.5},
        "segment_column": "pollutant_id",
        "segments": [segment("PM2.5", 800), segment("NH3", 12, 2.0, 0.125)],
        "feature_importance": {"pollutant_max": 0.75, "pollutant_min": 0.25, "hour": 0.0},
    }
    return metrics | changes


def predictions(rows: int, seed: int = 1) -> tuple[pd.Series, np.ndarray[Any, Any], Any]:
    """Actual values as skewed as a pollutant's, and two models' predictions."""
    rng = np.random.default_rng(seed)
    actual = rng.gamma(2, 40, rows)
    return pd.Series(actual), actual * rng.normal(1, 0.1, rows), actual * rng.normal(1, 0.2, rows)


def class_shares(rows: int, names: list[str], seed: int = 1) -> tuple[pd.Series, pd.DataFrame]:
    """Actual classes, and shares of a model that is mostly right."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, len(names), rows)
    table = rng.gumbel(size=(rows, len(names))) + 3 * np.eye(len(names))[code]
    shares = np.exp(table) / np.exp(table).sum(axis=1, keepdims=True)
    return pd.Series([names[i] for i in code]), pd.DataFrame(shares, columns=names)


def texts_of(figure: Figure) -> list[Text]:
    """What was written on the figure, beside the figures along its axes."""
    return [text for text in figure.texts if text.get_text()]


def said(figure: Figure) -> list[str]:
    return [text.get_text().replace(NO_BREAK, " ") for text in texts_of(figure)]


def require_legible(figure: Figure) -> None:
    """All text is plain, on the page, and apart from other text."""
    page = figure.bbox
    boxes = []
    for text in texts_of(figure):
        assert not text.get_parse_math()
        box = text.get_window_extent()
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.width and box.y1 <= page.height
        assert inside, text.get_text()
        # The box of a line is higher than its letters.
        boxes.append((text.get_text(), box.shrunk(0.98, 0.75)))
    for (first, box), (second, other) in itertools.combinations(boxes, 2):
        assert not box.overlaps(other), (first, second)


def require_png(data: bytes) -> None:
    assert len(data) < 120_000
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        assert picture.width == 1520
        assert 200 < picture.height < 2_000
        assert "Software" not in picture.info


REGRESSION = {"predictions", "error_by_segment", "feature_importance"}
CLASSIFICATION = {"confusion", "error_by_segment", "feature_importance"}


@pytest.mark.parametrize("rows", [1, 2, 60, 5_000])
@pytest.mark.parametrize("has_champion", [True, False])
def test_pictures_of_a_regression(rows: int, has_champion: bool) -> None:
    actual, challenger, champion = predictions(rows)
    found = render_plots(
        "pollutant_avg", actual, challenger, champion if has_champion else None, metrics_of()
    )
    assert set(found) == {f"plots/{n}-{t}.png" for n in REGRESSION for t in ("light", "dark")}
    assert set(found) <= set(PLOT_FILES)
    for data in found.values():
        require_png(data)


@pytest.mark.parametrize("classes", [1, 2, 3, 12, 13, 60])
def test_pictures_of_a_classification(classes: int) -> None:
    actual, shares = class_shares(2_000, [f"class {i}" for i in range(classes)])
    metrics = metrics_of(
        deciding_metric="accuracy", **classification_metrics(shares, actual.to_numpy())
    )
    for one in metrics["segments"]:
        for model in ("challenger", "champion", "baseline"):
            one[model] = {"accuracy": 0.75}
    found = render_plots("outcome", actual, shares, shares, metrics)
    assert set(found) == {f"plots/{n}-{t}.png" for n in CLASSIFICATION for t in ("light", "dark")}
    assert set(found) <= set(PLOT_FILES)
    for data in found.values():
        require_png(data)


def test_what_is_not_known_is_not_drawn() -> None:
    actual, challenger, _ = predictions(50)
    bare = {"mae": 6.5, "deciding_metric": "mae", "champion": None, "segments": []}
    found = render_plots("y", actual, challenger, None, bare | {"feature_importance": {}})
    assert set(found) == {"plots/predictions-light.png", "plots/predictions-dark.png"}


def test_each_theme_has_its_page() -> None:
    actual, challenger, champion = predictions(600)
    found = render_plots("pollutant_avg", actual, challenger, champion, metrics_of())
    for theme, page in (("light", (255, 255, 255)), ("dark", (13, 17, 23))):
        for name in (name for name in found if name.endswith(f"-{theme}.png")):
            with Image.open(io.BytesIO(found[name])) as picture:
                assert picture.convert("RGB").getpixel((2, 2)) == page


def luminance(colour: str) -> float:
    """Relative luminance as the Web Content Accessibility Guidelines 2.2 define it."""
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in to_rgb(colour)]
    return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))


@BOTH
def test_text_and_marks_stand_out_from_the_page(theme: Theme) -> None:
    page = luminance(theme.page) + 0.05
    for colour, least in (
        (theme.ink, 7),
        (theme.soft, 4.5),
        (theme.challenger, 3),
        (theme.champion, 3),
        (theme.challenger_scale[2], 3),
        (theme.champion_scale[2], 3),
    ):
        other = luminance(colour) + 0.05
        assert max(page, other) / min(page, other) >= least


@BOTH
def test_predictions_are_named_with_their_errors(theme: Theme) -> None:
    actual, challenger, champion = predictions(500)
    panels = panels_of(challenger, champion, metrics_of())
    figure = predictions_figure("pollutant_avg", actual.to_numpy(), panels, theme)
    require_legible(figure)
    assert {
        "challenger",
        "champion v3",
        "mean absolute error 6.5",
        "mean absolute error 7.5",
        "actual pollutant_avg",
        "predicted pollutant_avg",
    } <= set(said(figure))
    assert any("500 in all" in text for text in said(figure))


def test_both_models_are_drawn_on_the_same_scales() -> None:
    actual, challenger, champion = predictions(500)
    panels = panels_of(challenger, 3 * champion, metrics_of())
    figure = predictions_figure("y", actual.to_numpy(), panels, THEMES[0])
    spans = {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}
    assert len(figure.axes) == 2
    assert len(spans) == 1
    across, up = spans.pop()
    assert across == up


@pytest.mark.parametrize("rows", [400, 401])
def test_every_row_is_drawn(rows: int) -> None:
    """As a dot, or counted in a hexagon."""
    actual, challenger, _ = predictions(rows)
    panels = panels_of(challenger, None, metrics_of())
    (axes,) = predictions_figure("y", actual.to_numpy(), panels, THEMES[0]).axes
    (drawn,) = axes.collections
    counts = drawn.get_array()
    assert (len(drawn.get_offsets()) if counts is None else int(counts.sum())) == rows


FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = arrays(np.float64, st.integers(1, 30), elements=FINITE)


@given(st.lists(VALUES, min_size=1, max_size=3))
def test_rows_outside_the_axes_are_counted(sides: list[Any]) -> None:
    shortest = min(map(len, sides))
    cut = [side[:shortest] for side in sides]
    (low, high), outside = axis_limits(cut)
    assert np.isfinite([low, high]).all()
    assert low < high
    shown = np.clip(np.stack(cut), -1e100, 1e100)
    assert outside == ((shown < low) | (shown > high)).any(axis=0).sum()


def test_one_odd_row_does_not_flatten_the_others() -> None:
    actual, challenger, _ = predictions(3_000)
    actual.iloc[7] = 1e9
    panels = panels_of(challenger, None, metrics_of())
    figure = predictions_figure("y", actual.to_numpy(), panels, THEMES[0])
    assert figure.axes[0].get_xlim()[1] < 1_000
    assert any("of 3,000 rows lie outside and are drawn at the edge." in t for t in said(figure))


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [5.0] * 7,
        [1e300, -1e300],
        [5e-324, 0.0],
        [1e15, 1e15 + 1],
        [-3.0, -2.0],
        [1.7e308] * 500,
    ],
)
def test_values_of_any_size_are_drawn(values: list[float]) -> None:
    actual = pd.Series(values)
    found = render_plots("y", actual, actual.to_numpy(), actual.to_numpy(), {"champion": None})
    for data in found.values():
        require_png(data)


@given(st.lists(st.tuples(*[st.sampled_from("abcdef")] * 2), min_size=1, max_size=60))
def test_classes_are_counted_as_scikit_learn_counts_them(pairs: list[tuple[str, str]]) -> None:
    actual, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    shares = pd.DataFrame(np.array(list("fedcba")) == predicted[:, None], columns=list("fedcba"))
    found = count_classes(actual, shares.astype(float))
    labels = [*found.names, "none"]  # scikit-learn warns of a single class
    expected = confusion_matrix(actual, predicted, labels=labels)[:-1, :-1]
    assert found.counts.tolist() == expected.tolist()
    rows = found.counts.sum(axis=1)
    assert rows.tolist() == sorted(rows, reverse=True)


def test_rare_classes_are_counted_together() -> None:
    names = [f"class {i:02}" for i in range(30)]
    actual = pd.Series([name for i, name in enumerate(names) for _ in range(100 - i)])
    shares = pd.get_dummies(actual).astype(float)
    found = count_classes(actual.to_numpy(), shares)
    assert found.names == (*names[:MOST_CLASSES], "18 others")
    assert found.counts.sum() == len(actual)
    assert np.diag(found.counts).sum() == len(actual)


def test_a_class_with_the_name_of_the_rest_is_a_class() -> None:
    actual, shares = class_shares(900, ["2 others", *(f"class {i}" for i in range(13))])
    found = count_classes(actual.to_numpy(), shares)
    assert len(found.names) == MOST_CLASSES + 1
    assert found.counts.sum() == 900


@BOTH
@pytest.mark.parametrize("classes", [1, 2, 5, 13])
def test_a_confusion_matrix_says_shares_and_rows(theme: Theme, classes: int) -> None:
    names = [f"a class of number {i}" for i in range(classes)]
    actual, shares = class_shares(20_000, names)
    matrix = count_classes(actual.to_numpy(), shares)
    figure = confusion_figure("outcome", matrix, theme)
    require_legible(figure)
    for row in matrix.counts.sum(axis=1):
        assert f"{row:,}" in said(figure)
    share = matrix.counts[0, 0] / matrix.counts[0].sum()
    assert any(text.startswith(f"{100 * share:.0f}") for text in said(figure))


def test_a_class_that_never_occurs_has_no_shares() -> None:
    shares = pd.DataFrame({"a": [0.25, 1.0], "b": [0.75, 0.0]})
    matrix = count_classes(np.array(["a", "a"]), shares)
    assert matrix.counts.tolist() == [[1, 1], [0, 0]]
    assert said(confusion_figure("y", matrix, THEMES[0])).count("50 %") == 2


@BOTH
def test_segments_are_told_with_rows_and_change(theme: Theme) -> None:
    figure = segments_figure(metrics_of(), theme)
    require_legible(figure)
    assert {
        "PM2.5",
        "800",
        "−25 %",
        "few: 12",
        "+12 %",
        "champion v3",
        "mean absolute error",
    } <= set(said(figure))
    assert "Further left is better. Few: too few rows to decide." in said(figure)


def test_the_dots_stand_at_the_errors() -> None:
    figure = segments_figure(metrics_of(), THEMES[0])
    places = [tuple(mark.get_offsets()[0]) for mark in figure.axes[0].collections]
    assert places == [(8.0, 0.0), (6.0, 0.0), (pytest.approx(2 / 1.125), 1.0), (2.0, 1.0)]


def test_accuracy_is_drawn_as_what_is_wrong() -> None:
    one = segment("a", 100)
    one |= {"challenger": {"accuracy": 0.75}, "champion": {"accuracy": 0.5}}
    figure = segments_figure(metrics_of(deciding_metric="accuracy", segments=[one]), THEMES[0])
    places = [mark.get_offsets()[0][0] for mark in figure.axes[0].collections]
    assert places == [0.5, 0.25]
    assert "share of wrong classes" in said(figure)


def test_a_first_model_is_drawn_beside_the_baseline() -> None:
    metrics = metrics_of(champion=None, segments=[segment("a", 100, change=None)])
    figure = segments_figure(metrics, THEMES[0])
    assert "baseline" in said(figure)
    assert not {"change", "champion v?"} & set(said(figure))
    assert [m.get_offsets()[0][0] for m in figure.axes[0].collections] == [24.0, 6.0]


@BOTH
def test_of_many_segments_those_with_most_rows_are_drawn(theme: Theme) -> None:
    segments = [segment(f"station {i}", 40_000 - i, change=i * 10.0) for i in range(200)]
    figure = segments_figure(metrics_of(segments=segments), theme)
    require_legible(figure)
    assert "Further left is better. 15 of 200, those with most rows." in said(figure)
    assert "station 14" in said(figure)
    assert "station 15" not in said(figure)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (0.0, "0 %"),
        (-1.0, "−100 %"),
        (9.999, "+1,000 %"),
        (12.5, "+1,250 %"),
        (1e6, "> 99,999 %"),
    ],
)
def test_a_change_keeps_to_its_column(change: float, shown: str) -> None:
    one = segment("a", 100_000) | {"relative_difference": change}
    figure = segments_figure(metrics_of(segments=[one]), THEMES[0])
    require_legible(figure)
    assert shown in said(figure)


@pytest.mark.parametrize("error", [0.0, 5e-324, 1e-9, 1e300])
def test_errors_of_any_size_are_drawn(error: float) -> None:
    one = segment("a", 100, change=0.0)
    one |= {"challenger": {"mae": error}, "champion": {"mae": error}}
    require_legible(segments_figure(metrics_of(segments=[one]), THEMES[0]))


@BOTH
def test_features_stand_in_the_order_of_their_shares(theme: Theme) -> None:
    importance = {f"feature {i}": i / 780 for i in range(40)}
    figure = importance_figure(importance, theme)
    require_legible(figure)
    names = [text for text in said(figure) if text.startswith("feature")]
    assert names == [f"feature {i}" for i in range(39, 24, -1)]
    assert "The 15 largest of 40." in said(figure)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([i / 39 for i in range(39, 24, -1)])


def test_a_model_that_learnt_nothing_has_empty_bars() -> None:
    figure = importance_figure({"a": 0.0, "b": 0.0}, THEMES[0])
    assert said(figure) == ["a", "0 %", "b", "0 %"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.0, 0.0]


@settings(max_examples=25, deadline=None)
@given(st.lists(HOSTILE, min_size=4, max_size=4), st.sampled_from(THEMES))
def test_names_are_plain_text_in_their_place(names: list[str], theme: Theme) -> None:
    target, column, value, feature = names
    metrics = metrics_of(segment_column=column, segments=[segment(value, 99), segment("b", 9)])
    actual, challenger, champion = predictions(20)
    panels = panels_of(challenger, champion, metrics)
    matrix = count_classes(np.array([value, "b"]), pd.DataFrame({value: [1.0, 0], "c": [0, 1.0]}))
    for figure in (
        predictions_figure(target, actual.to_numpy(), panels, theme),
        confusion_figure(target, matrix, theme),
        segments_figure(metrics, theme),
        importance_figure({feature: 1.0}, theme),
    ):
        require_legible(figure)


def test_the_largest_pictures_stay_small() -> None:
    wide = "WM@" * 30
    segments = [segment(f"{wide}{i}", 10_000 - i, 1.0 + i, 1.5) for i in range(200)]
    importance = {f"{i}{wide}": 1 / 200 for i in range(200)}
    metrics = metrics_of(segments=segments, segment_column=wide, feature_importance=importance)
    rng = np.random.default_rng(3)
    actual, challenger, champion = (pd.Series(rng.uniform(0, 1, 40_000)) for _ in range(3))
    found = render_plots(wide, actual, challenger.to_numpy(), champion.to_numpy(), metrics)
    classes, shares = class_shares(30_000, [f"{i}{wide}" for i in range(40)])
    found |= render_plots(
        wide, classes, shares, None, metrics_of(deciding_metric="log_loss", segments=[])
    )
    assert len(found) == 8
    for data in found.values():
        require_png(data)


DRAWING = """
import hashlib, json, sys
import numpy as np, pandas as pd
from services.trainer.plots import render_plots
given = json.load(sys.stdin)
sides = [np.array(side) for side in given["sides"]]
found = render_plots("y", pd.Series(sides[0]), *sides[1:], given["metrics"])
hashes = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
print(json.dumps([hashes, "matplotlib.pyplot" in sys.modules]))
"""


def test_a_fresh_process_draws_the_same_bytes_without_pyplot() -> None:
    actual, challenger, champion = predictions(700)
    metrics = metrics_of()
    before = dict(mpl.rcParams)
    found = render_plots("y", actual, challenger, champion, metrics)
    assert dict(mpl.rcParams) == before
    assert render_plots("y", actual, challenger, champion, metrics) == found
    sides = [side.tolist() for side in (actual, challenger, champion)]
    answer = subprocess.run(
        [sys.executable, "-c", DRAWING],
        input=json.dumps({"sides": sides, "metrics": metrics}),
        capture_output=True,
        text=True,
        check=True,
    )
    hashes, has_pyplot = json.loads(answer.stdout)
    assert hashes == {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    assert not has_pyplot


def test_the_metrics_of_the_trainer_are_enough() -> None:
    actual, challenger, champion = predictions(300)
    metrics = regression_metrics(actual.to_numpy(), challenger) | {
        "deciding_metric": "rmse",
        "champion": {"version": 1, **regression_metrics(actual.to_numpy(), champion)},
    }
    panels = panels_of(challenger, champion, metrics)
    figure = predictions_figure("y", actual.to_numpy(), panels, THEMES[0])
    assert f"root mean squared error {metrics['rmse']:.4g}" in said(figure)
