"""The readers of everything from outside. Each target takes one input, and has three duties.

What comes out is a result, or an error of ours whose text says what was wrong. Of a table, every
row is kept or refused with a reason. And it is done within two seconds, on any input of this size.
The model repository has duties of its own.
"""

import base64
import json
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from services.cli.check import BadInput, Stated, check_files
from services.ingest.data_gov_in import _read_page
from services.ingest.rows import validate_rows
from services.ingest.tables import read_file
from shared.broker import _event_of
from shared.events import Stage, parse_event
from shared.failures import WillNotPass, WillPass
from shared.pipeline import PipelineError, load_pipeline
from shared.settings import SettingsError, read_settings
from shared.tables.content import UnreadableTable, unpacked
from shared.transport import admitted
from tests.conftest import AIR_QUALITY
from tests.fuzz import inputs, model_repository
from tests.keys import AUTHENTICATOR

LONGEST_SECONDS = 2.0
"""Of the processor's time, so that other processes do not count."""
LONGEST_CHECK_SECONDS = 10.0
"""Of comparing two files, which also fits and simulates."""
MOST_GROWN_MIB = 400
"""What one input may add to the most memory that the process has had."""
MOST_UNPACKED = 10_000_000
NOW = datetime(2026, 5, 1, tzinfo=UTC)
SCHEMA = load_pipeline(AIR_QUALITY).data
REFERENCE = "station,pollutant_id,pollutant_min,pollutant_avg,value,kind\n" + "".join(
    f"Station {n % 9},{('PM2.5', 'CO')[n % 2]},{n % 7},{n % 31},{n % 17}.5,{'abc'[n % 3]}\n"
    for n in range(150)
)


@dataclass(frozen=True)
class Target:
    """A reader, and what is thrown at it."""

    name: str
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], str]
    """Returns what became of the input, in a word or two; raises if a duty is not done."""
    weight: int = 50
    """How many of the cases it gets, beside the others: few if one takes long."""


@contextmanager
def in_time(most: float = LONGEST_SECONDS) -> Iterator[None]:
    began = time.process_time()
    yield
    seconds = time.process_time() - began
    assert seconds < most, f"took {seconds:.1f} s"


def peak_mib() -> float:
    """The most memory that this process, or any that it has started, has had."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(usage.ru_maxrss for usage in usages) / 1024


def says_something(error: BaseException) -> str:
    assert str(error).strip(), f"{type(error).__name__} says nothing"
    assert len(str(error)) < 5_000, f"{type(error).__name__} says too much"
    return "refused"


def _sorted_out(table: Any) -> str:
    """Every row is kept or refused with a reason."""
    try:
        rows = validate_rows(table, SCHEMA, NOW)
    except WillNotPass as error:
        return says_something(error)
    assert len(rows.valid) + len(rows.refused) == len(table)
    assert sum(rows.reasons.values()) == len(rows.refused)
    assert len(rows.faults) == len(rows.refused)
    assert not len(rows.faults) or all(rows.faults["reason"])
    return "rows set aside" if len(rows.refused) else "read"


def _feed(format_: str) -> Callable[[bytes], str]:
    def read(answer: bytes) -> str:
        with in_time():
            try:
                text = answer.decode("utf-8").removeprefix("\ufeff")
            except UnicodeDecodeError:
                return "not UTF-8"
            try:
                page = _read_page(text, {"format": format_}, 0, SCHEMA.spellings)
            except (WillPass, WillNotPass) as error:
                return says_something(error)
            return _sorted_out(page.rows)

    return read


def _file_to_ingest(given: tuple[str, bytes]) -> str:
    with in_time(), tempfile.NamedTemporaryFile(suffix=given[0]) as file:
        Path(file.name).write_bytes(given[1])
        try:
            table = read_file(Path(file.name), SCHEMA.spellings)
        except UnreadableTable as error:
            return says_something(error)
        return _sorted_out(table)


def _file_to_check(given: tuple[str, bytes]) -> str:
    with in_time(LONGEST_CHECK_SECONDS), tempfile.TemporaryDirectory() as folder:
        reference, current = Path(folder, "reference.csv"), Path(folder, f"current{given[0]}")
        reference.write_text(REFERENCE)
        current.write_bytes(given[1])
        try:
            report = check_files(reference, current, Stated())
        except BadInput as error:
            return says_something(error)
    assert json.loads(report.model_dump_json())
    return report.verdict


def _packed(given: bytes) -> str:
    with in_time():
        try:
            content = unpacked(given, MOST_UNPACKED)
        except UnreadableTable as error:
            return says_something(error)
    assert len(content) <= MOST_UNPACKED or content is given
    return "as it is" if content is given else "unpacked"


def _pipeline(content: bytes) -> str:
    with in_time(), tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        Path(file.name).write_bytes(content)
        try:
            load_pipeline(Path(file.name))
        except PipelineError as error:
            return says_something(error)
    return "read"


def _message(given: tuple[Stage, bytes]) -> str:
    stage, lying = given
    with in_time():
        _event_of(lying)  # as `trimtab status` looks at it; it may be none
        envelope = json.loads(admitted(stage, lying, AUTHENTICATOR))
        (_, called_with, _) = json.loads(base64.b64decode(envelope["body"]))
        if envelope["headers"]["task"].endswith(".bury"):
            assert called_with["reason"]
            return "kept as foreign"
        try:
            parse_event(called_with.get("event"))
        except ValueError as error:
            return says_something(error)
    return "handled"


def _settings(environment: dict[str, str]) -> str:
    needed = {"REDIS_URL": "redis://host", "MONGODB_URI": "mongodb://host"}
    with in_time(), mock.patch.dict(os.environ, needed | environment, clear=True):
        try:
            read_settings()
        except SettingsError as error:
            return _names_a_setting(str(error), environment)
    return "read"


def _names_a_setting(text: str, environment: dict[str, str]) -> str:
    assert "a-secret" not in text
    assert any(name.removesuffix("_FILE") in text for name in environment), text
    return "refused"


TARGETS = (
    Target("feed, JSON", inputs.feed_json, _feed("json")),
    Target("feed, CSV", inputs.feed_csv, _feed("csv")),
    Target("file to ingest", inputs.files, _file_to_ingest),
    Target("file to check", inputs.files, _file_to_check),
    Target("packed bytes", inputs.packed, _packed),
    Target("pipeline file", inputs.pipelines, _pipeline),
    Target("message", inputs.messages(), _message),
    Target("settings", inputs.settings, _settings),
    Target("model repository", model_repository.places(), model_repository.publish_to, weight=7),
)


def throw(target: Target, given: Any, outcomes: Counter[str]) -> None:
    """Throw one input at a target and count what became of it."""
    before = peak_mib()
    outcomes[target.read(given)] += 1
    grown = peak_mib() - before
    assert grown < MOST_GROWN_MIB, f"took {grown:,.0f} MiB more than anything before"
