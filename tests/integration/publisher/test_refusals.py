"""What hosts refuse, and how: real repositories, hooks and disks, and what is told of each."""

import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme
from pydantic import SecretStr

from services.publisher.host_answers import FULL_DISK_SECONDS
from services.publisher.repository import ModelRepository
from shared.failures import WillNotPass, WillPass
from tests.faults.small_disk import SmallDisk
from tests.integration.publisher.bare import Bare
from tests.integration.publisher.smart_http import Host, serving
from tests.integration.publisher.test_repository import commit_of, publish

TOKEN = "ghp_f3a9c1e7b5d2a8c4e6f0"


@pytest.fixture
def host(bare: Bare) -> Iterator[Host]:
    with serving(bare.path.parent, f"publisher:{TOKEN}") as host:
        yield host


def over_http(host: Host) -> ModelRepository:
    cache, token = host.folder / "cache", SecretStr(TOKEN)
    return ModelRepository(f"{host.url}/models.git", "main", cache, "publisher", token)


HOOKS = {
    "a large file": (
        """echo "error: File model.joblib is 123.00 MB; this exceeds GitHub's file size limit"
echo "error: GH001: Large files detected. You may want to try Git Large File Storage"
""",
        WillNotPass,
        "make the model smaller",
        "GH001: Large files detected",
    ),
    "a secret": (
        """echo "error: GH013: Repository rule violations found for refs/heads/main."
echo "- Push cannot contain secrets"
echo "  - path: drift_report.json:12"
""",
        WillNotPass,
        "says that a file holds a secret",
        "path: drift_report.json:12",
    ),
    "a rule": (
        """echo "error: GH013: Repository rule violations found for refs/heads/main."
echo "- Changes must be made through a pull request."
""",
        WillNotPass,
        "exempt the publisher's account",
        "through a pull request",
    ),
    "a protected branch": (
        'echo "GitLab: You are not allowed to push code to protected branches on this project."',
        WillNotPass,
        "set publish.branch",
        "not allowed to push code",
    ),
    "a host out of order": (
        'echo "GitLab: Internal API unreachable"',
        WillPass,
        "It is tried again",
        "Internal API unreachable",
    ),
    "no reason": ("", WillNotPass, "a hook of the host refuses", "hook declined"),
}
"""Case -> what the host's hook says, and what is told."""


@pytest.mark.parametrize("way", ["on disk", "over HTTP"])
@pytest.mark.parametrize("case", HOOKS)
def test_what_a_hook_says_decides(bare: Bare, host: Host, case: str, way: str) -> None:
    script, kind, remedy, words = HOOKS[case]
    bare.hook("pre-receive", f"{script}\nexit 1")
    on_disk = ModelRepository(str(bare.path), "main", host.folder / "cache", None, None)
    with pytest.raises(kind) as refused:
        (on_disk if way == "on disk" else over_http(host)).publish(commit_of())
    assert remedy in str(refused.value)
    assert words in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert bare.refs() == {}


@pytest.mark.parametrize("unpack_limit", ["1", "100"])
def test_a_push_above_the_hosts_limit_is_given_up(bare: Bare, unpack_limit: str) -> None:
    bare.git("config", "receive.maxInputSize", "100")
    bare.git("config", "receive.unpackLimit", unpack_limit)
    with pytest.raises(WillNotPass, match=r"make the model smaller by training\.parameters"):
        publish(bare, commit_of())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk.mounted(tmp_path / "disk")
    if disk is None:
        pytest.skip("this machine does not let us mount a disk")
    yield disk
    disk.unmount()


def test_a_full_disk_of_the_host_is_waited_for(small_disk: SmallDisk) -> None:
    bare = Bare.make(small_disk.folder / "models.git")
    small_disk.fill()
    cache = small_disk.folder.parent
    repository = ModelRepository(str(bare.path), "main", cache / "cache", None, None)
    with pytest.raises(WillPass, match="the host's disk is full; make room there") as waits:
        repository.publish(commit_of())
    assert waits.value.retry_after == FULL_DISK_SECONDS
    small_disk.clear()
    assert not repository.publish(commit_of()).already_there


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_of_the_publisher_is_waited_for(
    bare: Bare, small_disk: SmallDisk, known: bool
) -> None:
    repository = ModelRepository(str(bare.path), "main", small_disk.folder / "c", None, None)
    if known:
        repository.publish(commit_of(1))
    small_disk.fill()
    with pytest.raises(WillPass, match="no room on the disk of GIT_CACHE") as waits:
        repository.publish(commit_of(2))
    assert waits.value.retry_after == FULL_DISK_SECONDS
    small_disk.clear()
    assert not repository.publish(commit_of(2)).already_there


PAGES = (
    "<!DOCTYPE html><title>Sign in</title><form action=/login>",
    "<!DOCTYPE html>\n<html>\n<head><title>Sign in</title></head>\n<body>Who are you?</body>\n",
    "",
)


@pytest.mark.parametrize("page", PAGES)
def test_a_login_page_is_told_from_a_git_host(host: Host, page: str) -> None:
    host.fault, host.fault_headers = (200, page), {"Content-Type": "text/html"}
    with pytest.raises(WillNotPass, match="not as a Git host does: it may be a login page"):
        over_http(host).publish(commit_of())


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("location", ["/login", "/models.git/info/refs/../login"])
def test_a_way_to_a_login_page_is_told_from_a_git_host(
    host: Host, page: str, location: str
) -> None:
    host.fault, host.fault_headers = (302, page), {"Location": location}
    with pytest.raises(WillNotPass, match="it may be a login page"):
        over_http(host).publish(commit_of())


@pytest.mark.parametrize("page", PAGES[:2])
def test_a_login_page_at_the_push_too(host: Host, page: str) -> None:
    host.before_push = lambda: setattr(host, "fault", (200, page))
    host.fault_headers = {"Content-Type": "text/html"}
    with pytest.raises(WillNotPass, match="may be a login page"):
        over_http(host).publish(commit_of())


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (403, WillNotPass, "contents: write"),
        (404, WillNotPass, "check MODEL_REPOSITORY"),
        (413, WillNotPass, "make the model smaller"),
        (429, WillPass, "overloaded"),
        (502, WillPass, "overloaded"),
    ],
)
def test_each_status_has_a_sentence(
    host: Host, status: int, kind: type[Exception], remedy: str
) -> None:
    host.before_push = lambda: setattr(host, "fault", (status, f"no: {TOKEN}"))
    with pytest.raises(kind, match=remedy) as refused:
        over_http(host).publish(commit_of())
    assert TOKEN not in str(refused.value)


class _Silent(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("secured", "kind", "remedy"),
    [(True, WillNotPass, "GIT_SSL_CAINFO"), (False, WillPass, "serves HTTPS")],
)
def test_without_trust_or_without_tls(
    tmp_path: Path, secured: bool, kind: type[Exception], remedy: str
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    if secured:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"https://127.0.0.1:{server.server_port}/models.git"
    try:
        with pytest.raises(kind, match=remedy):
            ModelRepository(address, "main", tmp_path / "c", None, None).publish(commit_of())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
