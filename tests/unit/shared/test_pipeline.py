"""Pipeline files: parsed strictly, with errors that name the line and the nearest key."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from celery.schedules import crontab
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.pipeline import (
    Pipeline,
    PipelineError,
    TimeColumn,
    load_pipeline,
    load_pipelines,
    parse_schedule,
    slots_between,
)

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "pipelines" / "air_quality.yaml").read_text()


def load(text: str, folder: Path, name: str = "p.yaml") -> Pipeline:
    path = folder / name
    path.write_text(text)
    return load_pipeline(path)


def test_default_pipeline() -> None:
    pipeline = load_pipeline(ROOT / "pipelines" / "air_quality.yaml")
    assert pipeline.drift.policy == "calibrated"
    assert pipeline.drift.alpha == 1
    assert pipeline.publish.branch == "main"
    assert pipeline.training.parameters["n_estimators"] == 100
    assert pipeline.training.seed == 42
    assert (pipeline.drift.segment, pipeline.drift.cluster) == ("pollutant_id", ("station",))


def line_of(part: str) -> int:
    return 1 + TEXT[: TEXT.index(part)].count("\n")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("alpha:", "alhpa:", "drift.alhpa: unknown key; did you mean 'alpha'"),
        ("segment: pol", "segment: Pol", "drift.segment: no column"),
        ("segment: pollutant_id", "segment: latitude", "is not of type category"),
        ("cluster: [station]", "cluster: [statoin]", "did you mean 'station'"),
        ("cluster: [station]", "cluster: [pollutant_id]", "stands in drift.cluster as well"),
        ("columns: [pollutant_min,", "columns: [last_update,", "times always move on"),
        ("windows: [1, 6", "windows: [6, 6", "a length stands twice"),
        (
            "alpha: 1 ",
            "column_test: {numbr: ks} ",
            "drift.column_test.numbr: unknown key; did you mean 'number'",
        ),
        ("page_size:", "page_sise:", "source.page_sise: unknown key; did you mean 'page_size'"),
        ("minimum: -90", "minimun: -90", "columns.latitude.minimun: unknown key"),
        ("seed: 42", "seed: many", "training.seed: "),
        ("test_share: 0.2", "test_share: 2", "training.test_share: "),
        ("policy: calibrated", "policy: magic", "drift.policy: "),
        ("kind: data_gov_in", "kind: ftp", "source: "),
        ("target: pollutant_avg", "target: polutant_avg", "did you mean 'pollutant_avg'"),
        ("group: [station]", "group: [statoin]", "did you mean 'station'"),
        ("key: [station, pollutant_id]", "key: [stations]", "did you mean 'station'"),
        ("event_time: last_update", "event_time: city", "not of type time"),
        ("pollutant_id]\n  time_parts", "last_update]\n  time_parts", "use training.time_parts"),
        ("task: regression", "task: classification", "give it type category"),
        ("Asia/Kolkata", "Asia/Kolkatta", "no time zone"),
        ("branch: main", 'branch: "--force"', "branch name"),
        ("branch: main", "branch: a/../b", "branch name"),
        ('directory: "."', "directory: ../up", "publish.directory"),
        ('"5 * * * *"', '"5 * *"', "five cron fields"),
        ('"5 * * * *"', "every 0s", "at least 1s"),
        ("name: air_quality", "name: ../x", "name"),
        ("[min_value]", "[max_value]", "names both"),
        ("features: [latitude", "features: [pollutant_avg, latitude", "holds the target"),
    ],
)
def test_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(PipelineError) as caught:
        load(TEXT.replace(old, new, 1), tmp_path)
    assert says in str(caught.value)
    assert str(tmp_path / "p.yaml") in str(caught.value)


def test_line_is_the_mistakes_own(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=rf"p\.yaml:{line_of('alpha:')}: "):
        load(TEXT.replace("alpha:", "alhpa:", 1), tmp_path)


def test_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="'name' is missing"):
        load(TEXT.replace("name: air_quality\n", "", 1), tmp_path)


def test_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="'name' stands twice"):
        load(TEXT + "\nname: other\n", tmp_path)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "\x00", "a: !!python/object:os.system {}"])
def test_other_content_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PipelineError):
        load(text, tmp_path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("9" * 5_000, "5000 digits"),
        ("2026-13-45", "month must be in 1..12"),
        ("0x_", "invalid literal"),
        ("[" * 500, "nested too deeply, or within itself"),
    ],
)
def test_value_that_cannot_be_made_is_refused(tmp_path: Path, value: str, says: str) -> None:
    with pytest.raises(PipelineError, match=r"p\.yaml") as refusal:
        load(TEXT.replace("seed: 42", f"seed: {value}"), tmp_path)
    assert says in str(refusal.value)
    assert len(str(refusal.value)) < 1_000


@pytest.mark.parametrize("value", ["&a [*a]", "&a {b: *a}", "&a {<<: *a}"])
def test_value_within_itself_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(PipelineError, match=rf"p\.yaml:{line_of('seed: 42')}: training\.seed"):
        load(TEXT.replace("seed: 42", f"seed: {value}"), tmp_path)


@pytest.mark.timeout(10)
def test_a_million_aliases_of_aliases_take_no_time(tmp_path: Path) -> None:
    names = "abcdefghijkl"
    nested = "".join(
        f"{name}: &{name} [{', '.join([f'*{inner}'] * 9)}]\n" for inner, name in pairwise(names)
    )
    with pytest.raises(PipelineError, match="l: unknown key"):
        load(f"a: &a [x]\n{nested}{TEXT}", tmp_path)


def test_two_pipelines_may_not_publish_to_one_place(tmp_path: Path) -> None:
    load(TEXT, tmp_path, "a.yaml")
    load(TEXT.replace("name: air_quality", "name: other"), tmp_path, "b.yaml")
    with pytest.raises(PipelineError, match="same branch and directory"):
        load_pipelines(tmp_path)


def test_two_pipelines_may_not_share_a_name(tmp_path: Path) -> None:
    load(TEXT, tmp_path, "a.yaml")
    load(TEXT, tmp_path, "b.yaml")
    with pytest.raises(PipelineError, match="second pipeline named"):
        load_pipelines(tmp_path)


def test_empty_folder_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="PIPELINES"):
        load_pipelines(tmp_path)


@pytest.mark.parametrize("zone", ["Europe", "Nowhere/Else", "../../etc/passwd", "/etc/passwd", ""])
def test_what_is_no_time_zone_says_so(zone: str) -> None:
    with pytest.raises(ValidationError, match="is no time zone; use a name such as"):
        TimeColumn(type="time", timezone=zone)


def test_text_about_a_mistake_is_of_bounded_length(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as refused:
        load(TEXT.replace("every", "9" * 9_000).replace("5 * * * *", "9" * 9_000), tmp_path)
    assert len(str(refused.value)) < 1_000


def test_schedules() -> None:
    assert parse_schedule("every 30s") == 30.0
    assert parse_schedule("0 0 * * *") == crontab(minute="0", hour="0")


@given(st.text(max_size=200))
def test_any_text_is_a_pipeline_or_a_clear_error(tmp_path_factory, text: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("fuzz") / "p.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(PipelineError):
        load_pipeline(path)


MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "until", "slots"),
    [
        ("5 * * * *", timedelta(minutes=6), timedelta(hours=1), 0),
        ("5 * * * *", timedelta(minutes=6), timedelta(hours=1, minutes=5), 1),
        ("5 * * * *", timedelta(minutes=6), timedelta(hours=3, minutes=6), 3),
        ("5 * * * *", timedelta(), timedelta(days=30), 7),
        ("0 9 * * 1-5", timedelta(days=4, hours=10), timedelta(days=7, hours=8), 0),
        ("0 9 * * 1-5", timedelta(days=4, hours=10), timedelta(days=8, hours=10), 2),
        ("every 20s", timedelta(seconds=21), timedelta(seconds=39), 0),
        ("every 20s", timedelta(seconds=21), timedelta(seconds=61), 2),
        ("every 20s", timedelta(hours=2), timedelta(), 0),
    ],
)
def test_slots_between_two_times(
    schedule: str, after: timedelta, until: timedelta, slots: int
) -> None:
    parsed = parse_schedule(schedule)
    assert slots_between(parsed, MONDAY + after, MONDAY + until, most=7) == slots


@given(minute=st.integers(0, 59), begin=st.integers(0, 10**5), minutes=st.integers(0, 500))
def test_slots_of_a_cron_are_its_minutes(minute: int, begin: int, minutes: int) -> None:
    after = MONDAY + timedelta(minutes=begin)
    until = after + timedelta(minutes=minutes)
    passed = sum((after + timedelta(minutes=i)).minute == minute for i in range(1, minutes + 1))
    assert slots_between(parse_schedule(f"{minute} * * * *"), after, until, 100) == passed
