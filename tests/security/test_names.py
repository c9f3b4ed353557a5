"""Names that people and messages give: none leads out of its place or is taken for an option."""

import subprocess
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.events import Identifier, Name, Sha256
from shared.pipeline import DataGovInSource, HttpSource, PipelineError, Publish, load_pipeline
from tests.conftest import AIR_QUALITY

HOSTILE = [
    "../secrets",
    "/etc/passwd",
    "a/../../b",
    "..",
    "-rf",
    "--upload-pack=touch /tmp/x",
    "a\n",
    "a\nb",
    "a\x00b",
    "a b",
    "a;b",
    "$(id)",
    "ä",
    "",
    "a" * 500,
    "CON\\x",
    ".git",
    "a/.git/config",
]


@pytest.mark.parametrize("name", [*HOSTILE, "A", "1a", "_a", "a/b", "a.b"])
def test_no_such_name_for_a_pipeline(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


@pytest.mark.parametrize("identifier", [*HOSTILE, "0" * 31, "0" * 33, "G" * 32])
def test_no_such_id(identifier: str) -> None:
    for kind in (Identifier, Sha256):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(identifier)


HARMLESS = {"directory": {"a" * 500}, "branch": {"a;b", "$(id)", "ä"}}
"""Long names, and what only a shell would act on: none is given to one."""


@pytest.mark.parametrize("place", ["branch", "directory"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_such_branch_or_directory(place: str, name: str) -> None:
    if name in HARMLESS[place]:
        assert Publish(**{place: name})
        return
    with pytest.raises(ValidationError, match=place):
        Publish(**{place: name})


@pytest.mark.parametrize(
    "branch",
    ["a..b", "a//b", "a/.b", "a.lock", "a.lock/b", "a/", "a.", "a@{1}", "a~1", "a^", "a:b"],
)
def test_no_branch_that_git_would_read_as_something_else(branch: str) -> None:
    with pytest.raises(ValidationError, match="branch"):
        Publish(branch=branch)


NEAR_MISSES = st.text(alphabet="ab/.-_@~\n\0 A1", max_size=12)


@given(NEAR_MISSES)
@example("main")
@example("models/india")
def test_a_branch_that_is_accepted_is_one_for_git(name: str) -> None:
    try:
        branch = Publish(branch=name).branch
    except ValidationError:
        return
    assert not branch.startswith("-")
    checked = subprocess.run(
        ["git", "check-ref-format", f"refs/heads/{branch}"], check=False, capture_output=True
    )
    assert checked.returncode == 0, branch


@given(NEAR_MISSES)
@example(".")
@example("india/air")
def test_a_directory_that_is_accepted_stays_in_the_repository(name: str) -> None:
    try:
        directory = PurePosixPath(Publish(directory=name).directory)
    except ValidationError:
        return
    assert not directory.is_absolute()
    assert ".." not in directory.parts
    assert not any(part.startswith((".", "-")) for part in directory.parts)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/t.csv",
        "gopher://host/",
        "-o/x",
        "//host/t.csv",
        "javascript:0",
    ],
)
def test_a_source_is_at_an_http_address(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        HttpSource(kind="http", url=url)


@pytest.mark.parametrize("resource", ["../x", "a" * 36 + "/..", "x?api-key=1", "3b01bcb8\n"])
def test_a_resource_is_an_id(resource: str) -> None:
    with pytest.raises(ValidationError, match="resource"):
        DataGovInSource(kind="data_gov_in", resource=resource)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("name",), "../secrets"),
        (("publish", "branch"), "--force"),
        (("publish", "directory"), "../.git"),
        (("source", "resource"), "../x"),
    ],
)
def test_a_pipeline_file_is_refused_with_the_place_named(
    where: tuple[str, ...], value: str, tmp_path: Any
) -> None:
    content = yaml.safe_load(AIR_QUALITY.read_text(encoding="utf-8"))
    inner = content
    for key in where[:-1]:
        inner = inner.setdefault(key, {})
    inner[where[-1]] = value
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(PipelineError, match=where[-1]):
        load_pipeline(path)
