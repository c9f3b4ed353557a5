"""The files of an earlier commit, read back from the host as they were published."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from services.publisher.repository import ModelRepository
from shared.failures import WillPass
from tests.integration.publisher.bare import Bare
from tests.integration.publisher.smart_http import Host, serving
from tests.integration.publisher.test_repository import commit_of, publish

CONTENT = b"\x78\x9c\x00\xff\r\n no text\n\n"
PATHS = ("model.joblib", "plots/error-dark.png", "none.json")


@pytest.fixture
def host(bare: Bare) -> Iterator[Host]:
    """The repository behind HTTP; contents of files are fetched when they are asked for."""
    bare.git("config", "uploadpack.allowFilter", "true")
    with serving(bare.path.parent, "publisher:secret") as host:
        yield host


def over_http(host: Host, cache: str = "cache") -> ModelRepository:
    return ModelRepository(
        f"{host.url}/models.git", "main", host.folder / cache, "publisher", SecretStr("secret")
    )


def on_disk(bare: Bare) -> ModelRepository:
    return ModelRepository(str(bare.path), "main", bare.path.parent / "other cache", None, None)


FIRST = replace(
    commit_of(),
    files={"model.joblib": CONTENT, "plots/error-dark.png": b"png", "LICENSE": b"free"},
)


def first_commit(bare: Bare, others_later: int = 0) -> str:
    """A publication, and what others did to the branch after it."""
    commit = publish(bare, FIRST).commit
    if others_later:
        bare.commit({"model.joblib": b"other"}, times=others_later)
    return commit


def test_bytes_come_back_as_they_are(bare: Bare) -> None:
    commit = first_commit(bare)
    assert on_disk(bare).files_of(commit, PATHS) == {
        "model.joblib": CONTENT,
        "plots/error-dark.png": b"png",
    }


@pytest.mark.parametrize("others_later", [0, 1, 60])
def test_over_http_however_old_the_commit(bare: Bare, host: Host, others_later: int) -> None:
    commit = first_commit(bare, others_later)
    assert over_http(host).files_of(commit, PATHS) == {
        "model.joblib": CONTENT,
        "plots/error-dark.png": b"png",
    }


def test_a_model_is_published_after_an_old_commit_was_read(bare: Bare, host: Host) -> None:
    """Reading leaves a second shallow end in the cache, which has to disturb nothing."""
    commit = first_commit(bare, others_later=60)
    repository = over_http(host)
    repository.publish(commit_of(version=2))
    assert repository.files_of(commit, PATHS)
    published = repository.publish(commit_of(version=3))
    assert bare.refs()["refs/heads/main"] == published.commit
    assert bare.git("rev-list", "--count", "main") == "63"
    first_again = over_http(host, "another").publish(commit_of(version=3))
    assert (first_again.commit, first_again.already_there) == (published.commit, True)
    oldest = repository.publish(FIRST)
    assert (oldest.commit, oldest.already_there) == (commit, True)


def test_a_commit_that_the_host_does_not_have(bare: Bare, host: Host) -> None:
    first_commit(bare)
    assert over_http(host).files_of("0123456789" * 4, PATHS) is None
    assert on_disk(bare).files_of("0123456789" * 4, PATHS) is None


def test_a_host_out_of_reach_is_asked_again_later(bare: Bare, host: Host) -> None:
    commit = first_commit(bare)
    host.fault = (503, "busy")
    with pytest.raises(WillPass):
        over_http(host).files_of(commit, PATHS)


def test_only_files_are_read(bare: Bare) -> None:
    commit = first_commit(bare)
    assert on_disk(bare).files_of(commit, ["plots"]) == {}
