"""Names that Git takes: its own judgement of branches, its own spelling of committers."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from shared.events import Name
from shared.git_names import is_branch_name, require_committer
from shared.pipeline import PipelineError, load_pipeline
from shared.settings import SettingsError, read_settings
from tests.conftest import AIR_QUALITY

TAKEN = [
    *("main", "release+1", "feature#3", "müll", "a@b", "@", "v1.0", "(x)", "it's", "a/b/c"),
    *("1", "a,b", "a\u200bb"),
]
REFUSED = [
    *("", "a b", "a\nb", "a\0b", "\x7f", "\ud800", "x" * 201, "a?", "a*", "a[", "a\\b"),
    *("HEAD", "-x", "--force", "@{-1}", "a@{0}", "a..b", "a.lock", "a.lock/b", ".a", "a/.b"),
    *("a//b", "/a", "a/", "a.", "a~1", "a^", "a:b"),
]


@pytest.mark.parametrize("name", TAKEN)
def test_what_git_takes_is_taken(name: str) -> None:
    assert is_branch_name(name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_git_refuses_is_refused(name: str) -> None:
    assert not is_branch_name(name)


letters = st.text(alphabet="ab./-@{}~^:?*[\\ #+ü1", min_size=1, max_size=8)


@hypothesis_settings(max_examples=150, deadline=None)
@given(letters)
@example("HEAD")
def test_what_passes_can_be_a_branch(name: str) -> None:
    """`git check-ref-format` without `--branch` looks at whole refs, so it is a second opinion."""
    if is_branch_name(name):
        ref = ["git", "check-ref-format", f"refs/heads/{name}"]
        assert subprocess.run(ref, timeout=10, check=False).returncode == 0


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True), st.integers(1, 10**9 - 1))
def test_every_models_tag_is_one_that_git_takes(pipeline: str, version: int) -> None:
    TypeAdapter(Name).validate_python(pipeline)
    ref = ["git", "check-ref-format", f"refs/tags/{pipeline}/v{version}"]
    assert subprocess.run(ref, timeout=10, check=False).returncode == 0


def test_the_repository_around_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a repository with a former branch @{-1} stands for its name."""
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
    for command in (
        ["init", "-q", "."],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "x"],
        ["checkout", "-q", "-b", "other"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, env=environment, timeout=10, check=True)
    monkeypatch.chdir(tmp_path)
    is_branch_name.cache_clear()
    assert not is_branch_name("@{-1}")
    assert is_branch_name("other")


def test_without_git_the_publisher_alone_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    is_branch_name.cache_clear()
    assert is_branch_name("a..b")
    is_branch_name.cache_clear()


def test_the_pipelines_file_names_the_key_and_the_line(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(AIR_QUALITY.read_text().replace("branch: main", "branch: HEAD"))
    with pytest.raises(
        PipelineError, match=r"p\.yaml:\d+: publish\.branch: 'HEAD' is not a branch"
    ):
        load_pipeline(file)


@given(st.text(min_size=1, max_size=12))
@example("a <b>")
def test_a_committer_that_passes_is_written_down_as_it_stands(name: str) -> None:
    try:
        require_committer(name)
    except ValueError:
        return
    ident = f"{name} <{name}> 1 +0000".encode()
    assert b"\n" not in ident
    assert ident.count(b"<") == ident.count(b">") == 1
    assert name == name.strip()


def test_the_default_committer_is_that_of_earlier_versions() -> None:
    settings = read_settings(redis_url="redis://unused")
    assert settings.committer == "Trimtab <trimtab@localhost>"


def test_an_empty_committer_is_refused() -> None:
    with pytest.raises(SettingsError, match="GIT_COMMITTER_NAME: may have 1 to 200 bytes"):
        read_settings(redis_url="redis://unused", git_committer_name="")
