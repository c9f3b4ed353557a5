"""Publishing over HTTP with credentials, which reach Git and nobody else."""

import base64
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.publisher import isolated_git
from services.publisher.repository import ModelRepository, Published
from shared.failures import WillNotPass, WillPass
from tests.integration.publisher.bare import Bare
from tests.integration.publisher.smart_http import Host, serving
from tests.integration.publisher.test_repository import commit_of

USER = "publisher"
TOKEN = "ghp_f3a9c1e7b5d2a8c4e6f0"
IN_BASE64 = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
SECRETS = (TOKEN, IN_BASE64, base64.b64encode(TOKEN.encode()).decode().rstrip("="))


@pytest.fixture
def host(bare: Bare) -> Iterator[Host]:
    bare.git("config", "uploadpack.allowFilter", "true")
    with serving(bare.path.parent, f"{USER}:{TOKEN}") as host:
        yield host


def repository(
    host: Host, token: str | None = TOKEN, name: str = "models.git", user: str | None = USER
) -> ModelRepository:
    secret = SecretStr(token) if token else None
    return ModelRepository(f"{host.url}/{name}", "main", host.folder / "cache", user, secret)


def command_lines() -> list[bytes]:
    """The arguments of all processes of this machine that can be seen."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:  # it has ended meanwhile
            continue
    return lines


def holds_secret(content: bytes) -> bool:
    return any(secret.encode() in content for secret in SECRETS)


def test_the_token_is_seen_by_the_host_and_nowhere_else(
    bare: Bare,
    host: Host,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_CURL_VERBOSE", "1")
    monkeypatch.setenv("GIT_TRACE_CURL", str(bare.path.parent / "trace"))
    monkeypatch.setenv("GIT_TRACE_REDACT", "0")
    caplog.set_level(logging.DEBUG)
    bare.hook("post-receive", "sleep 0.7")
    seen: list[bytes] = []
    with ThreadPoolExecutor(1) as pool:
        push = pool.submit(repository(host).publish, commit_of())
        while not push.done():
            seen += command_lines()
    published = push.result()

    assert bare.refs()["refs/heads/main"] == published.commit
    assert host.authorizations[-1] == f"Basic {IN_BASE64}"
    assert any(b"git\0push" in line for line in seen), "the push was never looked at"
    assert any(b"remote-http" in line for line in seen), "its child was never looked at"
    assert not any(map(holds_secret, seen))
    files = [path for path in bare.path.parent.rglob("*") if path.is_file()]
    assert {"config", "main"} <= {path.name for path in files}
    assert not [path for path in files if holds_secret(path.read_bytes())]
    assert "push" in caplog.text
    said = capfd.readouterr()
    assert not holds_secret(f"{caplog.text} {said.out} {said.err} {published}".encode())


def test_every_step_works_with_credentials_and_contents_left_at_the_host(
    bare: Bare, host: Host
) -> None:
    first = repository(host).publish(commit_of(1))
    bare.commit({"other": b"1"}, times=60)
    second = repository(host).publish(commit_of(2))
    assert repository(host).publish(commit_of(1)) == Published(first.commit, already_there=True)
    assert bare.refs()["refs/heads/main"] == second.commit
    assert len(bare.subjects()) == 62
    assert set(host.authorizations) == {f"Basic {IN_BASE64}"}


def test_a_token_without_a_name_goes_as_x_access_token(bare: Bare) -> None:
    with serving(bare.path.parent, f"x-access-token:{TOKEN}") as host:
        assert not repository(host, user=None).publish(commit_of()).already_there


def test_a_branch_that_moved_before_the_push_is_built_on(bare: Bare, host: Host) -> None:
    bare.commit({"other": b"1"})

    def be_faster() -> None:
        host.before_push = lambda: None
        bare.commit({"other": b"2"}, message="Faster")

    host.before_push = be_faster
    repository(host).publish(commit_of())
    assert bare.subjects() == ["Publish air_quality v1: why", "Faster", "Other"]


def test_a_commit_that_was_dropped_before_the_push_does_not_come_back(
    bare: Bare, host: Host
) -> None:
    bare.commit({"other": b"1"})
    bare.commit({"other": b"2"}, message="To be dropped")

    def drop() -> None:
        host.before_push = lambda: None
        bare.git("update-ref", "refs/heads/main", "main~1")

    host.before_push = drop
    repository(host).publish(commit_of())
    assert bare.subjects() == ["Publish air_quality v1: why", "Other"]


@pytest.mark.parametrize("token", [None, "ghp_wrong"])
def test_wrong_credentials_are_an_error_that_names_the_settings(
    bare: Bare, host: Host, token: str | None
) -> None:
    with pytest.raises(WillNotPass, match=r"GITHUB_USERNAME and GITHUB_TOKEN") as refusal:
        repository(host, token).publish(commit_of())
    assert "ghp_wrong" not in str(refusal.value)
    assert bare.refs() == {}


def test_a_repository_that_is_not_there(host: Host) -> None:
    with pytest.raises(WillNotPass, match="MODEL_REPOSITORY"):
        repository(host, name="nothing.git").publish(commit_of())


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (403, WillNotPass),
        (413, WillNotPass),
        (418, WillNotPass),
        (429, WillPass),
        (500, WillPass),
        (503, WillPass),
    ],
)
def test_what_the_host_answers_decides_whether_to_try_again(
    host: Host, status: int, failure: type[Exception]
) -> None:
    host.fault = (status, f"no: {TOKEN}")
    with pytest.raises(failure) as raised:
        repository(host).publish(commit_of())
    assert not holds_secret(str(raised.value).encode())


def test_a_push_that_the_host_ends_early_is_tried_again_later(bare: Bare, host: Host) -> None:
    host.before_push = lambda: setattr(host, "fault", (502, "bad gateway"))
    with pytest.raises(WillPass):
        repository(host).publish(commit_of())
    host.fault, host.before_push = None, lambda: None
    assert not repository(host).publish(commit_of()).already_there
    assert len(bare.subjects()) == 1


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_host_that_is_down_is_tried_again_later(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{closed_port()}/models.git"
    with pytest.raises(WillPass, match=r"127\.0\.0\.1"):
        ModelRepository(address, "main", tmp_path, None, None).publish(commit_of())


def test_a_host_that_never_answers_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated_git, "_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/models.git"
        with pytest.raises(WillPass, match="did not complete"):
            ModelRepository(address, "main", tmp_path, None, None).publish(commit_of())
