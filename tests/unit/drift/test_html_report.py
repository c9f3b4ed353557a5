"""The HTML report: what stands in it, in which order, who can read it, how large it gets."""

import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.report import wording
from services.drift.report.model import Bars, DriftReport, Histogram, PastCheck
from services.drift.report.page import render_html
from shared.drift import CellFinding
from tests.unit.drift import sample_reports

VOID = {"meta", "br", "link", "img", "hr", "input"}
SAMPLES: list[Callable[[], DriftReport]] = [
    sample_reports.air_quality,
    sample_reports.parcels,
    sample_reports.drift_without_segments,
    sample_reports.columns_policy,
    sample_reports.performance_drift,
    sample_reports.performance_unknown,
    sample_reports.no_data,
    sample_reports.insufficient_data,
    sample_reports.wide,
    sample_reports.hostile,
]


class Page(HTMLParser):
    """A page as a flat list of its elements; tags that do not nest are an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.headings: list[tuple[int, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"style", "title"} & set(self._open):
            return
        self.text += data
        if self.headings and f"h{self.headings[-1][0]}" in self._open:
            level, before = self.headings[-1]
            self.headings[-1] = (level, (before + data).strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self) -> list[str]:
        return [text for level, text in self.headings if level == 2]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module", params=SAMPLES, ids=lambda sample: sample.__name__)
def html(request: pytest.FixtureRequest) -> str:
    return render_html(request.param(), sample_reports.past_checks())


def test_file_is_small(html: str) -> None:
    assert len(html.encode()) < 300_000


def test_nothing_comes_from_elsewhere_and_nothing_runs(html: str) -> None:
    page = Page(html)
    assert "://" not in html
    assert "url(" not in html
    assert not [
        (tag, name)
        for tag, attributes in page.elements
        for name in attributes
        if tag in {"script", "link", "img", "iframe", "object"}
        or name in {"src", "href", "srcset"}
        or name.startswith("on")
    ]
    assert "default-src 'none'" in page.all("meta")[-1]["content"]


def test_landmarks_language_and_headings(html: str) -> None:
    page = Page(html)
    assert page.all("html")[0]["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("header", "main", "footer")] == [1, 1, 1]
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(text for _, text in page.headings)


def test_ids_are_unique_and_all_references_hold(html: str) -> None:
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {
        id_
        for _, attributes in page.elements
        for id_ in attributes.get("aria-labelledby", "").split()
    }
    assert used <= set(ids)


def test_pictures_say_what_they_show(html: str) -> None:
    for attributes in Page(html).all("svg"):
        assert attributes.get("aria-hidden") == "true" or (
            attributes["role"] == "img" and len(attributes["aria-labelledby"].split()) == 2
        )


def test_tables_have_captions_and_scopes(html: str) -> None:
    page = Page(html)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(header["scope"] in {"col", "row"} for header in page.all("th"))


def test_both_themes_and_a_phone(html: str) -> None:
    assert "@media (prefers-color-scheme: dark)" in html
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in Page(html).all(
        "meta"
    )


def test_error_of_the_champion_stands_beside_the_verdict() -> None:
    report = sample_reports.performance_drift()
    page = Page(render_html(report))
    assert page.headings[0] == (1, "Performance drift")
    assert page.sections[0] == "The champion's error"
    section = page.words[page.words.index("The champion's error") :].replace(
        "\N{NO-BREAK SPACE}", " "
    )
    for figure in (
        report.reason,
        "Now 7.42 mean absolute error of model v3, 4,100 rows in 412 groups",
        "At its promotion 5.89",
        "p 0.0001 had nothing changed, so large a rise would come up in about 1 of 10,000 checks",
        "Threshold 0.001 performance drift is a p at or below it, with a rise of at least 5 %",
    ):
        assert figure in section
    assert "p of the data 0.34" in page.words


def test_data_drift_keeps_the_headline_and_an_unknown_error_has_its_reason() -> None:
    worse = sample_reports.performance_drift().performance
    both = sample_reports.air_quality().model_copy(update={"performance": worse})
    assert Page(render_html(both)).headings[0] == (1, "Drift")
    page = Page(render_html(sample_reports.performance_unknown()))
    assert page.headings[0] == (1, "No drift")
    assert "The champion's error no row has a value of late" in page.words
    assert "At its promotion" not in page.words
    assert "The champion's error" not in Page(render_html(sample_reports.parcels())).sections


def test_verdict_comes_first_with_all_its_figures() -> None:
    report = sample_reports.air_quality()
    page = Page(render_html(report))
    assert page.headings[0] == (1, "Drift")
    verdict = page.words[: page.words.index("What changed")].replace("\N{NO-BREAK SPACE}", " ")
    for figure in (
        report.reason,
        "3.2e-8",
        "0.00025",
        "0.34",
        "at least 0.05",
        "about 3 of 100 million checks",
        "about 1 false alarm per 1,000 checks",
        "24 batches (101 to 124), 7,213 rows",
        "301 rows in this batch with 10,000 reference rows",
        "asked for",
    ):
        assert figure in verdict


def test_every_section_of_a_full_report_in_order() -> None:
    page = Page(render_html(sample_reports.air_quality(), sample_reports.past_checks()))
    assert page.sections == [
        "What changed",
        "Reference against current",
        "Segments and columns",
        "Past checks",
        "Missing values",
        "New categories",
        "Rows set aside",
        "Windows checked",
        "Means and spreads",
        "Columns and how they were read",
        "What the figures rest on",
    ]


@pytest.mark.parametrize("sample", [sample_reports.no_data, sample_reports.insufficient_data])
def test_empty_sections_are_left_out(sample: Callable[[], DriftReport]) -> None:
    report = sample()
    page = Page(render_html(report))
    assert page.headings == [(1, report.verdict.capitalize())]
    assert report.reason in page.words


def test_no_heat_map_without_segments_and_no_score_without_policy() -> None:
    assert "Segments and columns" not in Page(render_html(sample_reports.parcels())).sections
    by_score = Page(render_html(sample_reports.columns_policy()))
    assert "Drift score 0.23" in by_score.words
    assert "False alarms not stated by this policy" in by_score.words


def test_cells_that_speak_are_listed_with_their_figures() -> None:
    report = sample_reports.air_quality()
    words = Page(render_html(report)).words
    section = words[words.index("What changed") : words.index("Reference against current")]
    spoken = [cell for cell in report.cells if cell.speaks]
    assert len(spoken) == 6
    for cell in spoken:
        for figure in (
            wording.cell_title(cell),
            cell.direction,
            wording.p_equals(cell.p),
            f"effect {wording.size(cell.effect)}",
        ):
            assert " ".join(figure.split()) in section
    assert "correlation 0.88 → 0.57" in section
    assert "pollutant_min with pollutant_max in OZONE" in section
    assert "missing values of pollutant_avg in CO" in section


def test_without_a_cell_that_speaks_the_nearest_are_shown() -> None:
    page = Page(render_html(sample_reports.parcels()))
    assert page.sections[0] == "The largest differences"
    assert "No cell speaks for drift" in page.words


def test_charts_are_described_in_words() -> None:
    html = render_html(sample_reports.air_quality())
    (description,) = re.findall(r'<desc id="chart-1-desc">(.*?)</desc>', html)
    assert re.fullmatch(
        r"Reference: half of the rows from 4\d\.?\d* to 9\d\.?\d*, median about 6\d\.?\d*, "
        r"0 % below 0, 1 % above 210\. Current: half of the rows from .* % above 210\.",
        description.replace("\N{NO-BREAK SPACE}", " ").replace("&gt;", ">"),
    )
    (mix,) = re.findall(r'<desc id="chart-6-desc">(.*?)</desc>', html)
    assert "PM2.5: 16 % → 21 %" in mix.replace("\N{NO-BREAK SPACE}", " ")
    assert "2 categories changed less" in mix.replace("\N{NO-BREAK SPACE}", " ")


def test_heat_map_carries_every_cell_as_text() -> None:
    report = sample_reports.air_quality()
    html = render_html(report)
    table = re.search(r'<table class="heat">.*?</table>', html, re.DOTALL)
    assert table
    columns = len(re.findall('scope="col"', table[0])) - 1
    rows = len(re.findall('scope="row"', table[0]))
    assert (columns, rows) == (6, 7)
    assert table[0].count("<td") == columns * rows
    assert table[0].count('<span class="sr">speaks</span>') == 4
    assert table[0].count("not compared") == 6
    assert "0.34" in table[0]
    assert "<small>p\N{NO-BREAK SPACE}&lt;\N{NO-BREAK SPACE}1e-16</small>" in table[0]


def test_history_is_drawn_as_lines_with_the_threshold() -> None:
    html = render_html(sample_reports.air_quality(), sample_reports.past_checks(60)[::-1])
    lines = re.findall(r'<path class="line" d="([^"]*)"', html)
    assert [line.count("M") + line.count("L") for line in lines] == [59, 59]
    assert [line.count("M") for line in lines] == [2, 2], "a check without a p leaves a gap"
    assert html.count('class="limit" d="M') == 1
    assert re.findall(r'<path class="alarm" d="([^"]*)"', html)[0].count("M") == 3
    (description,) = re.findall(r'<desc id="history-1-desc">(.*?)</desc>', html)
    assert "numbers 65 to 124" in description
    assert "last 3.2e-8; drift in 3." in description


def test_history_line_falls_as_p_falls() -> None:
    checks = [
        PastCheck(
            sequence=i,
            timestamp=sample_reports.MOMENT,
            verdict="no drift",
            p=p,
            threshold=0.001,
            effect=0.1,
        )
        for i, p in enumerate((1.0, 0.1, 0.01, 0.001, 0.0001))
    ]
    line, _ = re.findall(r'<path class="line" d="([^"]*)"', render_html(bare(), checks))
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line)]
    assert heights == pytest.approx([0, 25, 50, 75, 100])


def test_history_of_a_policy_without_p_shows_the_score_and_its_threshold() -> None:
    checks = [
        check.model_copy(update={"p": None, "threshold": 0.1})
        for check in sample_reports.past_checks(20)
    ]
    html = render_html(sample_reports.columns_policy(), checks)
    assert "<h3>Drift score</h3>" in html
    assert html.count('class="limit" d="M') == 1


def test_what_does_not_fit_is_counted() -> None:
    words = Page(render_html(sample_reports.wide(), sample_reports.past_checks(400))).words.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    for sentence in (
        "48 more charts are not shown here; drift_report.json lists all.",
        "188 more columns are not shown here; drift_report.json lists all.",
        "10 more segments are not shown here; drift_report.json lists all.",
        "175 more columns are not shown here; drift_report.json lists all.",
        "78 more assumptions are not shown here",
        "56 more values",
        "232 earlier checks are not shown here",
    ):
        assert sentence in words


def test_size_holds_for_the_longest_texts_of_the_widest_letters() -> None:
    """Quotes take five bytes each once they are escaped."""
    long = '"' * 1_000
    wide = sample_reports.wide(columns=60)
    bars = Bars(
        column=long, segment=long, labels=[long] * 90, reference=[0.4] * 90, current=[0.1] * 90
    )
    cell = wide.cells[0].model_copy(
        update={
            "kind": "pair",
            "column": long,
            "other_column": long,
            "segment": long,
            "direction": long,
        }
    )
    report = wide.model_copy(
        update={
            "cells": [cell] * 100 + wide.cells,
            "charts": [bars] * 90,
            "reason": long,
            "assumptions": [long] * 90,
            "new_categories": {
                f"{i}{long}": dict.fromkeys(map(str, range(9)), 1) for i in range(90)
            },
        }
    )
    assert len(render_html(report, sample_reports.past_checks(1_000)).encode()) < 300_000


def test_hostile_names_stay_text() -> None:
    html = render_html(sample_reports.hostile())
    page = Page(html)
    assert sample_reports.HOSTILE in page.text
    assert 'a"onload="x' in page.text
    assert not page.all("script")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", html)


def test_a_name_that_is_too_long_keeps_its_ends() -> None:
    assert wording.name("sensor_" + "x" * 90 + "_17").startswith("sensor_x")
    assert wording.name("sensor_" + "x" * 90 + "_17").endswith("x_17")
    assert len(wording.name("x" * 99)) == 48


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (1.0, "1"),
        (0.344, "0.34"),
        (0.0004, "0.0004"),
        (0.00025, "0.00025"),
        (0.00004, "4e-5"),
        (3.21e-8, "3.2e-8"),
        (1e-17, "< 1e-16"),
        (0.0, "< 1e-16"),
    ],
)
def test_probabilities_are_for_people(p: float | None, shown: str) -> None:
    assert wording.probability(p).replace("\N{NO-BREAK SPACE}", " ") == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(84.0, "84"), (131.4, "131"), (0.27, "0.27"), (12_345.6, "12,346"), (2e12, "2e12")],
)
def test_values_are_for_people(value: float, shown: str) -> None:
    assert wording.figure(value) == shown


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (1.0, "in nearly every check"),
        (0.34, "in about 34 of 100 checks"),
        (0.0004, "in about 4 of 10,000 checks"),
        (3.2e-8, "in about 3 of 100 million checks"),
        (0.0, "practically never"),
    ],
)
def test_chances_are_for_people(p: float, words: str) -> None:
    assert wording.chance(p) == words


@given(st.floats(0, 1))
def test_shown_probability_is_the_p_to_two_digits(p: float) -> None:
    shown = wording.probability(p)
    if shown.startswith("<"):
        assert p < 1e-16
    else:
        assert float(shown) == pytest.approx(p, rel=0.051)


bare = sample_reports.bare
any_float = st.floats(allow_nan=True, allow_infinity=True)
any_text = st.text(max_size=80)
shares = st.lists(any_float | st.floats(0, 1), max_size=70)
cells = st.builds(
    CellFinding,
    kind=st.sampled_from(["number", "category", "missing", "pair"]),
    column=any_text,
    other_column=st.none() | any_text,
    segment=st.none() | any_text,
    p=st.none() | st.floats(0, 1),
    effect=any_float,
    speaks=st.booleans(),
    direction=any_text,
    reference_rows=st.integers(0),
    current_rows=st.integers(0),
)


@st.composite
def any_histogram(draw: st.DrawFn) -> Histogram:
    bins = draw(st.integers(0, 70))
    share = any_float | st.floats(0, 1)
    return Histogram(
        column=draw(any_text),
        segment=draw(st.none() | any_text),
        edges=sorted(draw(st.lists(any_float, min_size=bins + 1, max_size=bins + 1))),
        reference=draw(st.lists(share, min_size=bins, max_size=bins)),
        current=draw(st.lists(share, min_size=bins, max_size=bins)),
        reference_outside=draw(st.tuples(any_float, any_float)),
        current_outside=draw(st.tuples(any_float, any_float)),
    )


histograms = any_histogram()
bar_charts = st.builds(
    Bars,
    column=any_text,
    segment=st.none() | any_text,
    labels=st.lists(any_text, max_size=9),
    reference=shares,
    current=shares,
)
past = st.builds(
    PastCheck,
    sequence=st.integers(0),
    timestamp=st.just(sample_reports.MOMENT),
    verdict=st.sampled_from(["drift", "no drift", "no data"]),
    p=st.none() | any_float,
    threshold=any_float,
    effect=st.none() | any_float,
)


def test_past_checks_without_a_finite_p_or_effect_are_drawn() -> None:
    history = [
        PastCheck(
            sequence=number,
            timestamp=sample_reports.MOMENT,
            verdict="drift",
            p=p,
            threshold=threshold,
            effect=effect,
        )
        for number, p, threshold, effect in ((1, math.nan, 0.001, -1e306), (2, 0.5, math.inf, None))
    ]
    drawn = re.findall(r' d="([^"]*)"', render_html(bare(), history))
    assert drawn
    assert not re.search("nan|inf", " ".join(drawn))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(cells, max_size=8),
    st.lists(histograms | bar_charts, max_size=4),
    st.lists(past, max_size=6),
    st.none() | st.floats(0, 1),
    any_text,
)
def test_any_report_gives_a_page_that_parses(
    found: list[CellFinding],
    charts: list[Histogram | Bars],
    history: list[PastCheck],
    p: float | None,
    text: str,
) -> None:
    report = bare(name=text, reason=text, p=p)
    report = report.model_copy(update={"cells": found, "charts": charts, "assumptions": [text]})
    html = render_html(report, history)
    page = Page(html)
    assert page.headings[0] == (1, "No data")
    assert len(page.all("figure")) >= len(charts)
    drawn = " ".join(re.findall(r' (?:d|x|y|width|height|style)="([^"]*)"', html))
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert len(html.encode()) < 300_000
