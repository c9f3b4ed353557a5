"""Every regular expression takes time in proportion to the text, whatever the text is.

The patterns are found in the source, so that a new one is tried too. What is thrown at them is made
of their own parts: long runs of what they look for, with an end that does not fit.
"""

import ast
import importlib
import re
import re._constants as sre
import re._parser as sre_parser  # type: ignore[import-not-found]
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for folder in ("services", "shared") for path in sorted((ROOT / folder).rglob("*.py"))
]
METHODS = ("fullmatch", "match", "search", "findall", "finditer", "split", "sub", "subn")
OF_PANDAS = {"contains": "search", "match": "match", "fullmatch": "fullmatch", "replace": "sub"}
MADE_IN_FUNCTIONS = {
    "shared.tables.csv_text._well_quoted": (",",),
    "shared.tables.csv_text._no_value": (",",),
    "services.publisher.host_answers._gives_up": None,  # whose patterns are in _MEANINGS
    "services.publisher.host_answers._tries_again": None,
}
"""Functions that make a pattern, with arguments for which it is tried."""
MOST_TOKENS = 24
WORST = 4
LEAST_SECONDS = 0.001
MOST_RATIO = 30.0
"""Between ten times the text and the text. It is 10 if the time is linear, and 100 if quadratic."""


@dataclass(frozen=True)
class Tried:
    """A pattern, and how the source uses it."""

    name: str
    pattern: re.Pattern[Any]
    method: str

    def seconds(self, characters: str) -> float:
        """How long it takes, in time of this thread's processor."""
        is_text = isinstance(self.pattern.pattern, str)
        text = characters if is_text else characters.encode("latin-1", "replace")
        began = time.thread_time()
        match self.method:
            case "sub" | "subn":
                getattr(self.pattern, self.method)("" if is_text else b"", text)
            case "finditer":
                list(self.pattern.finditer(text))
            case _:
                getattr(self.pattern, self.method)(text)
        return time.thread_time() - began


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


TREES = {module_name(path): ast.parse(path.read_text()) for path in SOURCES}
IMPORTING = {
    name
    for name, tree in TREES.items()
    if any(
        isinstance(node, ast.Import) and any(alias.name == "re" for alias in node.names)
        for node in ast.walk(tree)
    )
}


def patterns_in(value: Any) -> Iterator[re.Pattern[Any]]:
    """The patterns of a module's value, also those within it."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from (each for part in value.values() for each in patterns_in(part))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (each for part in value for each in patterns_in(part))
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from patterns_in(getattr(value, field.name))


def uses(tree: ast.AST) -> dict[str, set[str]]:
    """Name of a pattern -> the methods that a module calls on it, also by pandas.

    Under the empty name are those that it calls on anything, such as a pattern in a tuple.
    """
    found: dict[str, set[str]] = {"": set()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            found[""].add(node.attr)
            owner = node.value
            name = getattr(owner, "id", None) or getattr(owner, "attr", None)
            if name:
                found.setdefault(name, set()).add(node.attr)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in OF_PANDAS
            and node.args
            and isinstance(node.args[0], ast.Name)
        ):
            found.setdefault(node.args[0].id, set()).add(OF_PANDAS[node.func.attr])
    return found


def made(module: ModuleType) -> Iterator[tuple[str, re.Pattern[Any]]]:
    for qualified, arguments in MADE_IN_FUNCTIONS.items():
        owner, _, name = qualified.rpartition(".")
        if owner == module.__name__ and arguments is not None:
            yield name, getattr(module, name)(*arguments)


def all_patterns() -> list[Tried]:
    found: dict[tuple[str | bytes, str], Tried] = {}
    for owner in sorted(IMPORTING):
        module, used = importlib.import_module(owner), uses(TREES[owner])
        for name, value in [*vars(module).items(), *made(module)]:
            for each in patterns_in(value):
                for method in sorted(used.get(name) or used[""] or {"search"}):
                    tried = Tried(f"{owner}.{name}", each, method)
                    found.setdefault((each.pattern, method), tried)
    return list(found.values())


CATEGORIES = {
    sre.CATEGORY_DIGIT: "1",
    sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_WORD: "a",
    sre.CATEGORY_NOT_WORD: "-",
    sre.CATEGORY_NOT_SPACE: "b",
    sre.CATEGORY_NOT_DIGIT: "c",
}


def tokens_of(pattern: re.Pattern[Any]) -> list[str]:
    """Characters and words that the pattern looks for."""
    parsed = sre_parser.parse(pattern.pattern, pattern.flags)
    found = list(dict.fromkeys(tokens_in(parsed)))
    words = [token for token in found if len(token) > 1]
    return list(dict.fromkeys([*words[:8], *found]))[:MOST_TOKENS]


def tokens_in(parsed: Any) -> Iterator[str]:
    word = ""
    for op, argument in parsed:
        if op is sre.LITERAL:
            word += chr(argument)
            yield chr(argument)
            continue
        yield from filter(None, [word])
        word = ""
        yield from tokens_of_part(op, argument)
    yield from filter(None, [word])


def tokens_of_part(op: Any, argument: Any) -> Iterator[str]:
    match op:
        case sre.LITERAL:
            yield chr(argument)
        case sre.NOT_LITERAL | sre.ANY | sre.NEGATE:
            yield "a"
        case sre.RANGE:
            yield chr(argument[0])
        case sre.CATEGORY:
            yield CATEGORIES.get(argument, "a")
        case sre.IN:
            for part in argument:
                yield from tokens_of_part(*part)
        case _:
            yield from tokens_inside(argument)


def tokens_inside(argument: Any) -> Iterator[str]:
    if isinstance(argument, sre_parser.SubPattern):
        yield from tokens_in(argument)
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from tokens_inside(part)


def hostile(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """A beginning, what is repeated, and an end."""
    tokens = tokens_of(pattern)
    for token in tokens:
        yield from (("", token, end) for end in ("\0", "", "!\n"))
    for first, second in product(tokens, tokens):
        yield "", first + second, "\0"
        yield first, second, "\0"


def text_of(parts: tuple[str, str, str], size: int) -> str:
    begin, repeated, end = parts
    return begin + repeated * (size // len(repeated)) + end


@pytest.fixture(scope="module")
def patterns() -> list[Tried]:
    """Found when they are needed: it imports much."""
    return all_patterns()


@pytest.mark.timeout(300)
def test_the_time_is_in_proportion_to_the_text(patterns: list[Tried]) -> None:
    slow = [
        f"{tried.name}, {tried.method}: {said}" for tried in patterns for said in too_slow(tried)
    ]
    assert slow == []


def too_slow(tried: Tried) -> Iterator[str]:
    """The hostile texts on which a pattern takes more time than is in proportion."""
    first = {parts: tried.seconds(text_of(parts, 1_000)) for parts in hostile(tried.pattern)}
    for parts in sorted(first, key=lambda parts: -first[parts])[:WORST]:
        before = min(tried.seconds(text_of(parts, 1_000)) for _ in range(2))
        for size in (10_000, 100_000):
            seconds = min(tried.seconds(text_of(parts, size)) for _ in range(2))
            if seconds >= MOST_RATIO * max(before, LEAST_SECONDS / MOST_RATIO * 3):
                yield (
                    f"{parts!r} repeated to {size:,} characters takes {seconds:.4f} s, "
                    f"a tenth of it {before:.4f} s"
                )
                break
            before = seconds


def test_the_list_of_patterns_is_not_empty(patterns: list[Tried]) -> None:
    assert len(patterns) > 30
    assert any(tried.name.endswith("numbers._NUMBER") for tried in patterns)


def _calls(tree: ast.AST) -> Iterator[tuple[str | None, ast.Call]]:
    """The calls of the module `re`, with the function that they are in."""

    def walk(node: ast.AST, function: str | None) -> Iterator[tuple[str | None, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef) else function
            if (
                isinstance(child, ast.Call)
                and isinstance(child.func, ast.Attribute)
                and isinstance(child.func.value, ast.Name)
                and child.func.value.id == "re"
            ):
                yield function, child
            yield from walk(child, inner)

    yield from walk(tree, None)


def test_every_pattern_is_one_that_the_test_above_finds() -> None:
    for owner, tree in TREES.items():
        for function, call in _calls(tree):
            assert isinstance(call.func, ast.Attribute)
            where = f"{owner}:{call.lineno}"
            if call.func.attr == "escape":
                continue
            assert call.func.attr == "compile", f"{where}: name the pattern at the module's top"
            if function is not None:
                assert f"{owner}.{function}" in MADE_IN_FUNCTIONS, f"{where}: add the function here"


def test_pandas_is_given_patterns_with_a_name() -> None:
    for owner, tree in TREES.items():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Attribute)
                and node.func.value.attr == "str"
                and node.func.attr in OF_PANDAS
            ):
                module = importlib.import_module(owner)
                given = node.args[0]
                assert isinstance(given, ast.Name), f"{owner}:{node.lineno}"
                assert isinstance(getattr(module, given.id), re.Pattern), f"{owner}:{node.lineno}"


def test_the_test_finds_what_is_not_linear() -> None:
    for pattern in (r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", r"[ab]*a[ab]*c"):
        tried = Tried("quadratic", re.compile(pattern), "fullmatch")
        assert "repeated to" in next(too_slow(tried))
