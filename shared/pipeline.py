"""A pipeline's definition: one YAML file, parsed strictly.

An unknown key, a wrong type or a contradiction is an error that names the file, the line, the key
and, for a misspelt key, the nearest known one.
"""

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from yaml.constructor import ConstructorError

from shared.drift import ColumnTest, Drift
from shared.events import Name
from shared.git_names import is_branch_name
from shared.training import Gate, Search, Training

if TYPE_CHECKING:
    from celery.schedules import crontab

EVERY_SECONDS = re.compile(r"^every (\d+)s$")


_LONGEST_TEXT: Final = 300


class PipelineError(ValueError):
    """A pipeline file is not usable; the text says where and why."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FromEnvironment(Strict):
    """A value that does not stand in the file: that of a variable of the worker's environment."""

    environment: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    """Its name; NAME_FILE may hold the path of a file with the value instead."""

    @field_validator("environment")
    @classmethod
    def _not_ours(cls, name: str) -> str:
        from shared.settings import Settings  # slow: only who names a variable waits

        if name.removesuffix("_FILE").lower() in Settings.model_fields:
            raise ValueError(f"{name} is a setting of Trimtab's own; name another variable")
        return name


HeaderValue = Annotated[str, Field(pattern=r"^[\x20-\x7e]+$", max_length=1000)] | FromEnvironment
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OUR_HEADERS: Final = {"host", "connection", "accept-encoding", "content-length"}
_SECRET_HEADER: Final = re.compile(r"auth|cookie|token|secret|key|password|session", re.IGNORECASE)


def _usable_headers(headers: dict[str, HeaderValue]) -> dict[str, HeaderValue]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"{name} is set by Trimtab itself")
        if isinstance(value, str) and _SECRET_HEADER.search(name):
            raise ValueError(
                f"{name} may hold a secret, which has no place in this file; write "
                f"{name}: {{environment: NAME}}, and set the variable NAME for the ingest worker"
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header stands twice")
    return headers


Headers = Annotated[dict[str, HeaderValue], AfterValidator(_usable_headers)]


class DataGovInSource(Strict):
    """A resource of data.gov.in, read page by page."""

    kind: Literal["data_gov_in"]
    resource: str = Field(pattern=r"^[0-9a-f-]{36}$")
    format: Literal["json", "csv"] = "json"
    page_size: int = Field(300, ge=1, le=10_000)
    max_rows: int = Field(20_000, ge=1)
    """More rows than this in all is an error, not an endless read."""
    page_deadline_seconds: float = Field(60, gt=0)
    """With all its tries, a page is given up after this time."""
    deadline_seconds: float = Field(300, gt=0)
    """While rows are missing, the table is read again until this time has passed."""
    filters: dict[str, str] = {}
    headers: Headers = {}
    """Sent with each request; for some hosts a User-Agent of its own."""


class HttpSource(Strict):
    """Any HTTP(S) address that answers a table as CSV or JSON."""

    kind: Literal["http"]
    url: str = Field(pattern=r"^https?://")
    format: Literal["json", "csv"] = "csv"
    records: str | None = None
    """The key of the list in a JSON answer; none if the answer is the list, or has it under
    'records'."""
    deadline_seconds: float = Field(60, gt=0)
    max_bytes: int = Field(200_000_000, ge=1)
    headers: Headers = {}
    """Sent with each request to this host, and to no other."""
    private_redirects: bool = False
    """Whether the address may redirect to other hosts of a private network."""


class FilesSource(Strict):
    """A file, or a folder watched for new files; oldest first."""

    kind: Literal["files"]
    path: Path
    pattern: str = "*"


class ManualSource(Strict):
    """Nothing is read on a schedule; batches come by `trimtab ingest FILE`."""

    kind: Literal["manual"]


Source = Annotated[
    DataGovInSource | HttpSource | FilesSource | ManualSource, Field(discriminator="kind")
]


class NumberColumn(Strict):
    """A finite number, in the source's own unit."""

    type: Literal["number"]
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False
    """A row without a value is set aside; otherwise it is kept with a missing value."""
    aliases: tuple[str, ...] = ()


class CategoryColumn(Strict):
    """A text, compared for equality only."""

    type: Literal["category"]
    required: bool = False
    aliases: tuple[str, ...] = ()


NAMED_TIME_FORMATS: Final = ("ISO8601", "epoch_seconds", "epoch_milliseconds", "excel_days")


class TimeColumn(Strict):
    """A point in time. Rows with a time in the future are set aside."""

    type: Literal["time"]
    formats: tuple[str, ...] = Field(("ISO8601",), min_length=1)
    """Tried in order: `strptime` formats, and ISO8601, epoch_seconds, epoch_milliseconds, or
    excel_days (serial days from 1900 on). 24:00 is the midnight that ends its day."""
    timezone: str = "UTC"
    """The zone of times that state none."""
    clock_change: Literal["earlier", "later", "set_aside"] = "earlier"
    """What a local time means that a change of the clocks repeats: the earlier or the later of two
    points in time. A skipped local time is counted on from before the change, or with `later` back
    from after it."""
    required: bool = True
    aliases: tuple[str, ...] = ()

    @field_validator("formats")
    @classmethod
    def _known_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for form in formats:
            if "%" not in form and form not in NAMED_TIME_FORMATS:
                raise ValueError(
                    f"{form!r} is no format of a time; use a strptime format such as "
                    f"'%d.%m.%Y %H:%M', or {', '.join(NAMED_TIME_FORMATS)}"
                )
        return formats

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones is an OSError
            raise ValueError(f"{zone!r} is no time zone; use a name such as Asia/Kolkata") from None
        return zone


Column = Annotated[NumberColumn | CategoryColumn | TimeColumn, Field(discriminator="type")]


class Schema(Strict):
    """What a row is, and which rows are refused."""

    columns: dict[str, Column] = Field(min_length=1)
    key: tuple[str, ...] = ()
    """With the event time, what makes a row the same row; none: all its columns."""
    event_time: str | None = None
    missing: tuple[str, ...] = ("", "NA")
    """Texts that mean a missing value."""
    not_above: tuple[tuple[str, str], ...] = ()
    """Pairs of number columns: the first may not exceed the second."""
    max_bad_share: float = Field(0.5, ge=0, le=1)
    """A batch with a larger share of rows set aside fails as a whole."""

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        for role, name in self._references():
            _require_column(role, name, self.columns)
        if self.event_time and not isinstance(self.columns[self.event_time], TimeColumn):
            raise ValueError(f"event_time: column {self.event_time!r} is not of type time")
        for name in (name for pair in self.not_above for name in pair):
            if not isinstance(self.columns[name], NumberColumn):
                raise ValueError(f"not_above: column {name!r} is not of type number")
        return self

    @model_validator(mode="after")
    def _names_are_unambiguous(self) -> Self:
        seen: dict[str, str] = {}
        for name, column in self.columns.items():
            for spelling in (name, *column.aliases):
                if spelling in seen:
                    raise ValueError(
                        f"columns: {spelling!r} names both {seen[spelling]!r} and {name!r}"
                    )
                seen[spelling] = name
        return self

    def _references(self) -> Iterator[tuple[str, str]]:
        yield from (("key", name) for name in self.key)
        if self.event_time:
            yield "event_time", self.event_time
        yield from (("not_above", name) for pair in self.not_above for name in pair)

    @property
    def spellings(self) -> frozenset[str]:
        """Every name that a source may use for one of the columns."""
        return frozenset(
            name for own, column in self.columns.items() for name in (own, *column.aliases)
        )

    def of_type(self, kind: type[Strict]) -> tuple[str, ...]:
        """The names of the columns of one class, in the file's order."""
        return tuple(name for name, column in self.columns.items() if isinstance(column, kind))


class Publish(Strict):
    """Where on the model repository a champion goes."""

    branch: str = "main"
    directory: str = Field(
        ".", pattern=r"^(\.|[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)$"
    )
    max_file_bytes: int = Field(100_000_000, ge=1)
    """The host's limit for one file; GitHub refuses more than 100 MB."""

    @field_validator("branch")
    @classmethod
    def _known_to_git(cls, branch: str) -> str:
        if not is_branch_name(branch):
            raise ValueError(
                f"{branch!r} is not a branch name that Git accepts: it has more than 200 bytes, or "
                "`git check-ref-format --branch` refuses it"
            )
        return branch


Notice = Literal[
    "DriftFound",
    "ModelPromoted",
    "ModelRejected",
    "ReviewNeeded",
    "ModelPublished",
    "PublicationAltered",
    "WorkFailed",
]


class Notify(Strict):
    """Which events become messages."""

    events: tuple[Notice, ...] = (
        "DriftFound",
        "ModelPromoted",
        "ReviewNeeded",
        "ModelPublished",
        "PublicationAltered",
        "WorkFailed",
    )


class ReferenceFile(Strict):
    """A first reference that comes with the pipeline."""

    file: Path


class Pipeline(Strict):
    """One pipeline, from source to channel."""

    name: Name
    schedule: str = "0 * * * *"
    """Five cron fields in UTC, or `every Ns`."""
    source: Source
    reference: ReferenceFile | None = None
    data: Schema = Field(alias="schema")
    drift: Drift = Drift()
    training: Training
    gate: Gate = Gate()
    publish: Publish = Publish()
    notify: Notify = Notify()

    @field_validator("schedule")
    @classmethod
    def _readable_schedule(cls, schedule: str) -> str:
        parse_schedule(schedule)
        return schedule

    @model_validator(mode="after")
    def _training_fits_schema(self) -> Self:
        columns = self.data.columns
        for name in self.training.features:
            _require_column("training.features", name, columns)
            if isinstance(columns[name], TimeColumn):
                raise ValueError(f"training.features: {name!r} is a time; use training.time_parts")
        for name in self.training.group:
            _require_column("training.group", name, columns)
        self._check_target()
        self._check_drift()
        self._check_gate()
        if self.training.time_parts and not self.data.event_time:
            raise ValueError("training.time_parts needs schema.event_time")
        if self.training.window.span and not self.data.event_time:
            raise ValueError("training.window: a length of time needs schema.event_time")
        return self

    def _check_target(self) -> None:
        target = self.training.target
        _require_column("training.target", target, self.data.columns)
        if target in self.training.features:
            raise ValueError(f"training.features holds the target {target!r}")
        numeric = isinstance(self.data.columns[target], NumberColumn)
        if self.training.task == "regression" and not numeric:
            raise ValueError(
                f"training.target: {target!r} is not of type number, as regression needs"
            )
        if self.training.task == "classification" and numeric:
            raise ValueError(
                f"training.target: {target!r} is of type number; give it type category"
            )

    def _check_drift(self) -> None:
        columns, drift = self.data.columns, self.drift
        for name in drift.columns:
            _require_column("drift.columns", name, columns)
            if isinstance(columns[name], TimeColumn):
                raise ValueError(f"drift.columns: {name!r} is a time, and times always move on")
        for name in drift.cluster:
            _require_column("drift.cluster", name, columns)
        if drift.segment is None:
            return
        _require_column("drift.segment", drift.segment, columns)
        if not isinstance(columns[drift.segment], CategoryColumn):
            raise ValueError(f"drift.segment: column {drift.segment!r} is not of type category")
        if drift.segment in drift.cluster:
            raise ValueError(f"drift.segment: {drift.segment!r} stands in drift.cluster as well")

    def _check_gate(self) -> None:
        segment = self.gate.segment
        if segment is None:
            return
        _require_column("gate.segment", segment, self.data.columns)
        if not isinstance(self.data.columns[segment], CategoryColumn):
            raise ValueError(f"gate.segment: column {segment!r} is not of type category")

    @property
    def judged_segment(self) -> str | None:
        """The category column within whose values models are judged apart as well."""
        return self.gate.segment or self.drift.segment


def parse_schedule(schedule: str) -> "crontab | float":
    """A schedule as Celery's beat takes it: a crontab in UTC, or seconds.

    Raises:
        ValueError: it is neither.
    """
    from celery import Celery  # slow: only who reads a schedule waits
    from celery.schedules import ParseException, crontab

    if every := EVERY_SECONDS.match(schedule):
        seconds = float(every.group(1))
        if seconds < 1:
            raise ValueError("schedule: 'every 0s' would never rest; use at least 1s")
        return seconds
    try:
        cron = crontab.from_string(schedule)
    except (ParseException, ValueError, TypeError) as error:
        raise ValueError(
            f"schedule {schedule!r} is neither five cron fields nor 'every Ns': {error}"
        ) from None
    cron.app = Celery(set_as_current=False)  # in UTC; the current one would ask for the settings
    return cron


def slots_between(schedule: "crontab | float", after: datetime, until: datetime, most: int) -> int:
    """How many slots of a schedule lie in after < slot <= until; `most` if as many or more do.

    Slots say more than an interval: on a schedule of working days none lies in a weekend.
    """
    if isinstance(schedule, float):
        slots = until.timestamp() // schedule - after.timestamp() // schedule
        return min(max(int(slots), 0), most)
    for passed in range(most):
        after = next_slot(schedule, after)
        if after > until:
            return passed
    return most


def next_slot(schedule: "crontab | float", after: datetime) -> datetime:
    """The first slot of a schedule after a time, in UTC."""
    if isinstance(schedule, float):
        return datetime.fromtimestamp((after.timestamp() // schedule + 1) * schedule, UTC)
    begin, ahead, _ = schedule.remaining_delta(after)
    slot: datetime = begin + ahead
    return slot


def _require_column(role: str, name: str, columns: dict[str, Any]) -> None:
    if name not in columns:
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{role}: no column {name!r} in schema.columns{hint}")


def load_pipeline(path: Path) -> Pipeline:
    """Read one pipeline file.

    Raises:
        PipelineError: with the file, the line and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PipelineError(f"{path}: {error}") from None
    except RecursionError:
        raise PipelineError(f"{path}: a value is nested too deeply, or within itself") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: a pipeline is a mapping of keys, with at least 'name'")
    _refuse_duplicate_keys(path, root)
    try:
        return Pipeline.model_validate(content)
    except ValidationError as error:
        faults = [_fault(path, root, fault) for fault in error.errors(include_url=False)]
        raise PipelineError("\n".join(faults)) from None


def load_pipelines(folder: Path) -> dict[str, Pipeline]:
    """All pipelines of a folder, by name.

    Raises:
        PipelineError: a file is not usable, none is there, or two claim the same name or the same
            place on the model repository.
    """
    pipelines: dict[str, Pipeline] = {}
    places: dict[tuple[str, str], str] = {}
    for path in sorted(folder.glob("*.yaml")):
        pipeline = load_pipeline(path)
        place = (pipeline.publish.branch, pipeline.publish.directory)
        if pipeline.name in pipelines:
            raise PipelineError(f"{path}: a second pipeline named {pipeline.name!r}")
        if place in places:
            raise PipelineError(
                f"{path}: publishes to the same branch and directory as pipeline "
                f"{places[place]!r}; set publish.branch or publish.directory"
            )
        pipelines[pipeline.name] = pipeline
        places[place] = pipeline.name
    if not pipelines:
        raise PipelineError(
            f"{folder}: no pipeline file (*.yaml) here; set PIPELINES to their folder"
        )
    return pipelines


class _Loader(yaml.SafeLoader):
    """YAML's own. A number or time that Python cannot make is an error with its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            problem = f"no value that can be used: {error}"
            raise ConstructorError(None, None, problem, node.start_mark) from None


def _refuse_duplicate_keys(path: Path, root: yaml.Node | None) -> None:
    """Look at each node once: aliases lead to the same one any number of times, or back to it."""
    waiting, known = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in known:
            continue
        known.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _require_different(path, [key for key, _ in node.value])
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _require_different(path: Path, keys: list[yaml.Node]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key.value in seen:
            raise PipelineError(f"{path}:{key.start_mark.line + 1}: key {key.value!r} stands twice")
        seen.add(key.value)


def _fault(path: Path, root: yaml.Node | None, fault: Any) -> str:
    location = tuple(fault["loc"])
    line, known_path = _locate(root, location)
    place = _shortened(".".join(map(str, known_path))) or "the file"
    where = f"{path}:{line}: {place}"
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _known_keys(known_path[:-1]), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{where}: unknown key{hint}"
    if fault["type"] == "missing":
        return f"{where}: the key {location[-1]!r} is missing"
    return f"{where}: {_shortened(fault['msg'].removeprefix('Value error, '))}"


def _shortened(text: str) -> str:
    """The text, cut off where a file holds a page in place of a name or a number."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _locate(root: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int, list[int | str]]:
    """The line of a fault, and its path as the file spells it (Pydantic's adds union tags)."""
    node, line, spelled = root, 1, []
    for step in location:
        if isinstance(node, yaml.MappingNode):
            entry = next((pair for pair in node.value if pair[0].value == str(step)), None)
            if entry is None:
                continue
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value)
        ):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            continue
        spelled.append(step)
    return line, spelled


_MODELS_AT: dict[str, tuple[type[BaseModel], ...]] = {
    "source": (DataGovInSource, HttpSource, FilesSource, ManualSource),
    "reference": (ReferenceFile,),
    "schema": (Schema,),
    "columns": (NumberColumn, CategoryColumn, TimeColumn),
    "drift": (Drift,),
    "column_test": (ColumnTest,),
    "training": (Training,),
    "search": (Search,),
    "gate": (Gate,),
    "publish": (Publish,),
    "notify": (Notify,),
}


def _known_keys(location: list[int | str]) -> set[str]:
    """Every key that may stand at a place of a pipeline file."""
    if not location:
        return {field.alias or name for name, field in Pipeline.model_fields.items()}
    nested = location[:2] in (
        ["schema", "columns"],
        ["drift", "column_test"],
        ["training", "search"],
    )
    place = str(location[1] if nested else location[0])
    return {name for model in _MODELS_AT[place] for name in model.model_fields}
