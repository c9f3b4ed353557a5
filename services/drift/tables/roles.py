"""Which columns of a table are compared and as what: read off the data, or stated by a pipeline."""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.drift.report.model import ColumnRole
from services.drift.tables.clocks import clock_of, counts_rows
from services.drift.tables.frame import Frame, Numbers
from services.drift.tables.numbers import (
    NUMBER_SHARE,
    PLAIN,
    Writing,
    as_numbers,
    is_negative_of_bookkeepers,
    is_number,
    is_text,
    number,
    one_of_each_mark,
)
from shared.drift_report import NumberStyle
from shared.tables.spelling import FALSE, FLAG_WORDS, TRUE, alike, difference

if TYPE_CHECKING:
    from shared.pipeline import Pipeline

MOST_CATEGORIES: Final = 1000
"""A text column with more different values is an identifier or free text."""

_NO_REPETITION_ROWS: Final = 50
_LEAST_REPETITION: Final = 2
_TIMES_LOOKED_AT: Final = 1000

_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE: Final = (
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{1,2}[-/]\d{1,2}[-/]\d{2}"
    rf"|\d{{1,2}}[- /]{_MONTH}[- /,]+\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}"
)
_YEAR: Final = r"(?:19|20)\d{2}"
_PERIOD: Final = (
    rf"{_YEAR}[-/_](?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])/{_YEAR}|{_MONTH}[- /,]+{_YEAR}"
    rf"|{_YEAR}[- ]?(?:q[1-4]|w[0-5]\d(?:-?[1-7])?)|(?:q[1-4]|w[0-5]\d)[- /]?{_YEAR}"
)
"""A month, quarter or week of a year."""
_CLOCK: Final = (
    r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]m)?(?: ?(?:z|utc|gmt|[+-]\d{2}(?::?\d{2})?))?"
)
_TIME: Final = re.compile(
    rf"(?:[a-z]{{3,9}},? )?(?:{_DATE})(?:(?:t|,? +){_CLOCK})?|{_CLOCK}|{_PERIOD}", re.IGNORECASE
)
_LONGEST_TIME: Final = 100
"""Characters; a longer text is no time."""
_IDENTIFIER: Final = re.compile(
    r"(?:.*[\W_])?(?:id|uid|index|idx|key|row|rowid|nr|no|number)[\W_]*|unnamed: \d+|\s*",
    re.IGNORECASE,
)
_CAMEL_IDENTIFIER: Final = re.compile(r".*[a-z0-9](?:ID|Id|Index|Idx|Key|Nr|No|Number)")


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are used for."""

    numbers: tuple[str, ...]
    """Columns compared as numbers."""
    categories: tuple[str, ...]
    """Columns compared as categories."""
    segment: str | None
    cluster: tuple[str, ...]
    target: str | None
    columns: tuple[ColumnRole, ...]
    """All columns, as a report shows them."""


def infer_roles(
    frame: Frame,
    *,
    columns: tuple[str, ...] = (),
    segment: str | None = None,
    cluster: tuple[str, ...] = (),
    target: str | None = None,
) -> Roles:
    """Read off the data which columns can be compared, and as what.

    - Numbers are of a numeric type, or texts of which 95 % spell numbers; a text that does not
      counts as missing, as do '', 'NA', 'N/A', 'NaN' and 'null'. A column whose texts can only be
      numbers with decimal commas or separated thousands is read as such; one that may be either is
      left out.
    - Categories are flags (true and false) and texts with few different values.
    - Times, by type or by spelling, are left out: new rows are later ones. So are numbers that show
      a clock (`clocks.clock_of`).
    - So are texts with more than 1,000 different values, or, in more than 50 rows, with more than
      half as many as rows: identifiers and free text.
    - So are whole numbers that are all different in a column named like an identifier ('id',
      'order_id', 'index', 'Unnamed: 0'), or that number the rows (`clocks.counts_rows`).
    - So is the index that pandas wrote, by the metadata of the table.

    All of that but a type is a guess, and `ColumnRole.questionable` says so.

    A segment column is read as a category. A cluster column says which rows belong together and is
    compared only if it is among `columns`.

    Args:
        frame: the reference.
        columns: to compare, also if they look like identifiers; none: the target and all that can
            be compared.
        segment, cluster, target: see `Profile.fit`.

    Raises:
        ValueError: a named column does not exist or does not fit, or nothing is left to compare.
    """
    _require(frame.names, columns=columns, segment=segment, cluster=cluster, target=target)
    stated = frozenset(columns) | ({target} if target and not columns else frozenset())
    found = []
    index = _index_of_pandas(frame.table)
    for name in frame.names:
        reading = _AN_INDEX if name in index else _read(frame, name)
        if name in index and name in stated:
            reading = _read(frame, name)
        if name == segment:
            found.append(_segment_role(frame, name, reading))
        elif name in cluster:
            found.append(ColumnRole(name=name, type=reading.type, role="cluster", inferred=True))
        elif columns and name not in stated:
            found.append(_not_stated(name, reading))
        else:
            found.append(_role(name, reading, is_stated=name in stated))
    return _roles(found, frozenset(columns), segment, cluster, target)


def roles_of(pipeline: "Pipeline") -> Roles:
    """What a pipeline's file states: its schema's types, and what `drift` and `training` name."""
    drift, training = pipeline.drift, pipeline.training
    compared = frozenset(drift.columns or (training.target, *training.features))
    reason = "not in drift.columns" if drift.columns else "neither the target nor a feature"
    found = []
    for name, column in pipeline.data.columns.items():
        role: Literal["compared", "segment", "cluster", "left out"] = "left out"
        if name == drift.segment:
            role = "segment"
        elif name in drift.cluster:
            role = "cluster"
        elif name in compared:
            role = "compared"
        note = reason if role == "left out" else None
        found.append(ColumnRole(name=name, type=column.type, role=role, inferred=False, note=note))
    time = pipeline.data.event_time
    cluster = (*drift.cluster, time) if drift.cluster and time else drift.cluster
    return _roles(found, frozenset(drift.columns), drift.segment, cluster, training.target)


def with_flags(roles: Roles, reference: Frame) -> Roles:
    """The roles, with those categories known for flags that are true and false in the reference."""
    columns = tuple(
        column.model_copy(update={"flags": True})
        if column.type == "category" and _are_flags(reference.rows_by_text(column.name))
        else column
        for column in roles.columns
    )
    return replace(roles, columns=columns)


def _are_flags(texts: Collection[str]) -> bool:
    return bool(texts) and _FLAGS.issuperset(texts)


def _roles(
    found: list[ColumnRole],
    stated: frozenset[str],
    segment: str | None,
    cluster: tuple[str, ...],
    target: str | None,
) -> Roles:
    used = [
        column
        for column in found
        if column.role == "compared" or (column.role == "cluster" and column.name in stated)
    ]
    if not used and segment is None:
        reasons = "; ".join(f"{column.name}: {column.note or column.role}" for column in found)
        raise ValueError(f"no column can be compared ({reasons or 'there are none'})")
    return Roles(
        numbers=tuple(column.name for column in used if column.type == "number"),
        categories=tuple(column.name for column in used if column.type == "category"),
        segment=segment,
        cluster=cluster,
        target=target,
        columns=tuple(_with_target(column, target) for column in found),
    )


def _with_target(column: ColumnRole, target: str | None) -> ColumnRole:
    if column.name != target:
        return column
    note = "; ".join(filter(None, ["the target", column.note]))
    return column.model_copy(update={"note": note})


def nearest(name: str, names: Iterable[str]) -> str:
    """'; did you mean …?' if one of the names is close, else nothing."""
    folded = {other.casefold(): other for other in names}
    near = get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def _require(
    names: list[str],
    columns: tuple[str, ...],
    segment: str | None,
    cluster: tuple[str, ...],
    target: str | None,
) -> None:
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        raise ValueError(f"two columns are named {', '.join(map(repr, repeated))}")
    named = [("columns", name) for name in columns] + [("cluster", name) for name in cluster]
    named += [(role, name) for role, name in (("segment", segment), ("target", target)) if name]
    for role, name in named:
        if name not in names:
            raise ValueError(f"{role}: there is no column {name!r}{nearest(name, names)}")
    if segment in cluster:
        raise ValueError(f"{segment!r} cannot be the segment and in the cluster")


@dataclass(frozen=True)
class _Reading:
    """A column as its values look."""

    type: Literal["number", "category", "time", "text"]
    note: str | None = None
    use: Literal["compare", "if stated", "never"] = "compare"
    questionable: bool = False
    flags: bool = False
    flag_words: tuple[str, str] | None = None
    number_style: NumberStyle | None = None


def _role(name: str, reading: _Reading, *, is_stated: bool) -> ColumnRole:
    if not is_stated and reading.use != "compare":
        return _left_out(name, reading)
    if reading.use == "never":
        raise ValueError(f"column {name!r} cannot be compared: {reading.note}")
    return ColumnRole(
        name=name,
        type=_COMPARED_AS.get(reading.type, reading.type),
        role="compared",
        inferred=True,
        note=reading.note,
        questionable=reading.questionable and reading.use == "compare",
        flags=reading.flags,
        flag_words=reading.flag_words,
        number_style=reading.number_style,
    )


def _left_out(name: str, reading: _Reading) -> ColumnRole:
    return ColumnRole(
        name=name,
        type=reading.type,
        role="left out",
        inferred=True,
        note=reading.note,
        questionable=reading.questionable,
    )


def _not_stated(name: str, reading: _Reading) -> ColumnRole:
    note = "not among the columns to compare"
    return ColumnRole(name=name, type=reading.type, role="left out", inferred=True, note=note)


def _segment_role(frame: Frame, name: str, reading: _Reading) -> ColumnRole:
    if reading.use == "never":
        raise ValueError(f"segment: column {name!r} is no category: {reading.note}")
    rows = frame.rows_by_text(name)
    if _hardly_repeats(rows):
        raise ValueError(f"segment: column {name!r} is no category: {_different(rows)}")
    return ColumnRole(
        name=name,
        type="category",
        role="segment",
        inferred=False,
        flags=reading.flags,
        flag_words=reading.flag_words if reading.type == "category" else None,
    )


def _index_of_pandas(table: pa.Table) -> frozenset[str]:
    """The columns that are the index of a data frame, by what pandas wrote about the table."""
    try:
        about = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
        return frozenset(name for name in about["index_columns"] if isinstance(name, str))
    except (ValueError, LookupError, TypeError):
        return frozenset()


def _read(frame: Frame, name: str) -> _Reading:
    kind = frame.table.schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return _NO_VALUE
    if pa.types.is_temporal(kind):
        return _A_TIME
    if pa.types.is_boolean(kind) or is_text(kind):
        return _read_texts(frame, name)
    if is_number(kind):
        return _read_numbers(name, frame.numbers(name))
    note = f"neither numbers nor texts but {kind}; give each of its values a column of its own"
    return _Reading("text", note, "never", questionable=True)


def _read_numbers(name: str, values: Numbers) -> _Reading:
    values = values[np.isfinite(values)]
    if not len(values):
        return _NO_VALUE
    if clock := clock_of(name, values):
        return _Reading("time", f"times ({clock}): new rows are later", "if stated", True)
    if (values == values[0]).all():
        return _Reading("number", "constant")
    if _is_identifier(name, values):
        return _Reading("number", "an identifier: all values differ", "if stated", True)
    if counts_rows(values):
        return _Reading(
            "number", "it numbers the rows: new rows have other numbers", "if stated", True
        )
    is_flag = len(different := np.unique(values)) == len(_BITS) and (different == _BITS).all()
    return _Reading("number", flag_words=("1", "0") if is_flag else None)


def _is_identifier(name: str, values: Numbers) -> bool:
    named = _IDENTIFIER.fullmatch(name) or _CAMEL_IDENTIFIER.fullmatch(name)
    whole = bool(named) and bool((values == np.floor(values)).all())
    return whole and len(np.unique(values)) == len(values)


def _is_time(text: str) -> bool:
    return len(text) <= _LONGEST_TIME and _TIME.fullmatch(text) is not None


def _read_texts(frame: Frame, name: str) -> _Reading:
    column = as_numbers(frame.table.column(name))
    if is_number(column.type) and _mostly_finite(column):
        return _read_numbers(name, Frame(pa.table({name: column})).numbers(name))
    rows = frame.rows_by_text(name)
    if not rows:
        return _NO_VALUE
    if _are_flags(rows):
        note = "constant" if len(rows) == 1 else None
        return _Reading("category", note, flags=True, flag_words=(TRUE, FALSE))
    writing = frame.writing(name)
    if writing and not writing.has_marks:
        return _read_spelt_numbers(frame, name, writing, rows)
    some = list(rows)[:_TIMES_LOOKED_AT]
    times = sum(_is_time(text.strip()) for text in some)
    if times >= NUMBER_SHARE * len(some):
        return replace(_A_TIME, questionable=True)
    if writing and (writing.mark or _hardly_repeats(rows)):
        return _read_spelt_numbers(frame, name, writing, rows)
    if _hardly_repeats(rows):
        note = f"{_different(rows)}: an identifier or free text"
        return _Reading("text", note, "if stated", questionable=True)
    if mixed := _mixed(rows) or _spelt_twice(rows):
        return _Reading("category", mixed, questionable=True)
    note = "constant" if len(rows) == 1 else None
    return _Reading("category", note, flag_words=_flag_words(rows))


def _read_spelt_numbers(
    frame: Frame, name: str, writing: Writing, rows_by_text: dict[str, int]
) -> _Reading:
    """A column of texts that spell numbers, not all of them plainly."""
    read = {text: number(text, writing) for text in rows_by_text}
    plainly = {text for text in rows_by_text if math.isfinite(number(text, PLAIN))}
    if writing.style == "unclear":
        example = next(text for text in rows_by_text if text not in plainly)
        note = f"numbers such as '{example}': with a decimal comma, or with separated thousands"
        return _Reading("text", note, "if stated", questionable=True)
    if writing.style == "different marks":
        some = " and ".join(f"'{text}'" for text in one_of_each_mark(rows_by_text)[:2])
        note = f"numbers with different signs or units, such as {some}"
        return _Reading("text", note, "if stated", questionable=True)
    reading = _read_numbers(name, frame.numbers(name))
    notes = [reading.note] if reading.note else []
    if how := writing.in_words():
        example = next(text for text in read if text not in plainly and math.isfinite(read[text]))
        notes.append(f"{how}, such as '{example}', read as {read[example]:.15g}")
    negative = next(
        (text for text in read if read[text] < 0 and is_negative_of_bookkeepers(text)), None
    )
    if negative:
        notes.append(f"'{negative}' is read as {read[negative]:.15g}")
    unread = {text: rows for text, rows in rows_by_text.items() if not math.isfinite(read[text])}
    foreign = next(
        (text for text in rows_by_text if not text.isascii() and text not in unread), None
    )
    if foreign and writing == PLAIN:
        notes.append(f"numbers in characters that are not ASCII, such as '{foreign}'")
    if unread:
        notes.append(
            f"{sum(unread.values()):,} of {sum(rows_by_text.values()):,} values are no numbers, "
            f"such as '{next(iter(unread))}', and count as missing"
        )
    said = len(notes) > (reading.note is not None)
    questionable = reading.questionable or said
    style = None if writing.style == "plain" else writing.style
    return replace(
        reading,
        note="; ".join(notes) or None,
        questionable=questionable,
        number_style=style,
    )


def _mixed(rows_by_text: dict[str, int]) -> str | None:
    """What is to be said of categories of which many are numbers."""
    total = sum(rows_by_text.values())
    others = [
        text for text in rows_by_text if text in _FLAGS or not math.isfinite(number(text, PLAIN))
    ]
    numbers = total - sum(map(rows_by_text.__getitem__, others))
    if not others or numbers < (1 - NUMBER_SHARE) * total:
        return None
    return f"{numbers:,} of {total:,} values are numbers, the others are not, such as '{others[0]}'"


def _spelt_twice(texts: Iterable[str]) -> str | None:
    """What is to be said of categories that differ only in their spelling."""
    known: dict[str, str] = {}
    for text in texts:
        other = known.setdefault(alike(text), text)
        if other != text:
            return (
                f"values that differ only in {difference(text, other)}, such as {other!r} and "
                f"{text!r}, count as different"
            )
    return None


def _flag_words(texts: Collection[str]) -> tuple[str, str] | None:
    """The texts for true and for false, if there is one for each and they belong together."""
    by_word = {text.lower(): text for text in texts}
    for true, false in FLAG_WORDS:
        if len(texts) == len(by_word) and by_word.keys() == {true, false}:
            return by_word[true], by_word[false]
    return None


def _mostly_finite(column: pa.ChunkedArray) -> bool:
    finite = pc.sum(pc.is_finite(column)).as_py() or 0
    return bool(finite >= NUMBER_SHARE * (len(column) - column.null_count))


def _hardly_repeats(rows_by_text: dict[str, int]) -> bool:
    different, rows = len(rows_by_text), sum(rows_by_text.values())
    return different > MOST_CATEGORIES or (
        rows > _NO_REPETITION_ROWS and different * _LEAST_REPETITION > rows
    )


def _different(rows_by_text: dict[str, int]) -> str:
    return f"{len(rows_by_text):,} different values"


_FLAGS: Final = frozenset({TRUE, FALSE})
_BITS: Final = (0.0, 1.0)
_NO_VALUE: Final = _Reading("number", "no value in the reference", questionable=True)
_A_TIME: Final = _Reading("time", "times: new rows are later", "never")
_AN_INDEX: Final = _Reading("number", "the index that pandas wrote", "if stated", questionable=True)
_COMPARED_AS: Final[dict[str, Literal["number", "category"]]] = {
    "text": "category",
    "time": "number",
}
"""What is left out unless a person says that it is to be compared."""
