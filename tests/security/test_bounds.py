"""Small inputs that are meant to become large: what is said to them, in which time and memory.

Each attack is played in a process of its own, whose peak of memory is measured.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.events import IngestionDue, first_event_fields
from shared.failures import (
    LONGEST_ASKED_PAUSE,
    LONGEST_REASON,
    WillNotPass,
    WillPass,
    shortened,
)
from shared.pipeline import load_pipeline
from shared.stage import Resources, StageRuntime
from tests.conftest import AIR_QUALITY
from tests.security.attacks import ATTACKS

MIB = 1 << 20
SECONDS = 8.0
"""Of the processor's time. A machine that does much else may need a multiple of the usual one."""


@dataclass(frozen=True)
class Bound:
    """What is said to an attack, and the most that it may cost."""

    said: str
    grown: int = 96 * MIB
    seconds: float = SECONDS


BOUNDS = {
    "packed_thrice": Bound("content encoding 'gzip, gzip, gzip'; only gzip is read, once"),
    "unknown_packing": Bound("content encoding 'br'; only gzip is read, once"),
    "packed_for_the_way": Bound("gzip of more than 20,000,000 bytes"),
    "packed_file": Bound("gzip of more than 20,000,000 bytes"),
    "packed_file_for_the_way": Bound("packed with gzip twice; unpack it once"),
    "packed_for_longer_than_the_deadline": Bound(
        "gave no complete answer within 0.5 s", grown=2_000 * MIB, seconds=3.0
    ),
    "page_of_an_error_that_is_packed": Bound("answered 400"),
    "redirect_with_a_body": Bound("read 1 rows"),
    "wide_letters": Bound("read 1000001 rows", grown=45 * 17_000_000),
    "files_that_are_packed": Bound("a line of more than 33,554,432 characters"),
    "lines_without_end": Bound("a line of more than 33,554,432 characters", grown=250 * MIB),
    "packed_rows": Bound("more than 10,000,000 rows", grown=1_600 * MIB, seconds=40.0),
    "gzip_of_many_members": Bound("gzip of more than 100,000 members"),
    "other_keys_in_each_row_of_a_page": Bound("give all rows the same columns"),
    "other_keys_in_each_row_of_a_file": Bound("give all rows the same columns"),
    "other_keys_in_each_row_to_check": Bound("give all rows the same columns"),
    "other_keys_in_each_line_to_check": Bound("give all rows the same columns"),
    "other_keys_in_each_line_of_a_reference": Bound("give all rows the same columns"),
    "other_keys_within_a_column_to_check": Bound("drift"),
    "empty_objects": Bound("give all rows the same columns"),
    "empty_lists_in_a_row": Bound("a value of more than 4,000,000 characters", grown=160 * MIB),
    "members_around_the_rows": Bound("more than 1,000 keys in the object around the rows"),
    "deep_lists": Bound("nested too deeply"),
    "rather_deep_lists": Bound("a value nested more than 64 deep"),
    "long_numbers": Bound("read 0 rows, set 1 aside"),
    "long_cells": Bound("read 0 rows, set 3 aside"),
    "wide_header_of_short_rows": Bound("give all rows the same columns"),
    "wide_header_without_names": Bound("give all rows the same columns"),
    "texts_of_refusals": Bound("a table with two columns named", grown=400 * MIB),
    "report_that_is_a_bomb": Bound("published None"),
    "report_of_many_numbers": Bound("published None", grown=500 * MIB),
    "report_of_too_many_numbers": Bound("published None"),
}


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_it_costs_no_more_than_its_bound(name: str) -> None:
    command = [sys.executable, "-m", "tests.security.attacks", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2_000:])
    found = json.loads(done.stdout.splitlines()[-1])
    bound = BOUNDS[name]
    assert bound.said in found["said"]
    assert found["grown"] < bound.grown, f"{found['grown'] / MIB:,.0f} MiB"
    assert found["seconds"] < bound.seconds


def test_every_attack_has_its_bound() -> None:
    assert BOUNDS.keys() == ATTACKS.keys()


@pytest.mark.parametrize("kind", [WillPass, WillNotPass])
def test_the_text_of_a_failure_is_bounded_where_it_arises(kind: type[Exception]) -> None:
    long = "begin" + "x" * 18_000_000 + "end"
    said = str(kind(long))
    assert len(said) <= LONGEST_REASON
    assert said.startswith("begin")
    assert said.endswith("end")
    assert str(kind("as it is")) == shortened("as it is") == "as it is"


def pause(stage: Any, schedule: str, asked: float) -> float:
    """Seconds of pause that a pipeline's source or channel gets."""
    pipeline = load_pipeline(AIR_QUALITY).model_copy(update={"schedule": schedule})
    resources = SimpleNamespace(
        pipelines={pipeline.name: pipeline}, store=None, work=None, settings=None
    )
    runtime = StageRuntime(stage, cast("Resources", resources))
    due = IngestionDue(**first_event_fields(pipeline.name, "test"), slot=datetime.now(UTC))
    return runtime._granted(due, WillPass("busy", retry_after=asked).retry_after)


def test_a_source_is_left_alone_until_the_next_reading_at_most() -> None:
    day = timedelta(days=1).total_seconds()
    assert 0 < pause("ingest", "every 60s", day) <= 60
    assert 0 < pause("ingest", "* * * * *", day) <= 60
    assert pause("ingest", "0 0 1 1 *", day) <= LONGEST_ASKED_PAUSE
    assert pause("ingest", "0 0 1 1 *", 7.0) == 7.0


def test_a_channel_or_host_is_left_alone_for_an_hour_at_most() -> None:
    assert pause("notifier", "every 60s", 86_400.0) == LONGEST_ASKED_PAUSE == 3_600
    assert pause("publisher", "every 60s", 300.0) == 300.0
