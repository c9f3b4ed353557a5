"""Which addresses may be a model repository, and where a commit can be looked at."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.publisher.isolated_git import checked_address
from services.publisher.publish import commit_url
from services.publisher.repository import ModelRepository
from shared.failures import WillNotPass

SHA = "a" * 40


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/owner/models.git",
        "http://127.0.0.1:8080/models.git",
        "ssh://git@host:2222/owner/models.git",
        "file:///srv/models.git",
    ],
)
def test_an_address_of_a_known_scheme_is_taken_as_it_is(address: str) -> None:
    assert checked_address(address) == address


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked_address("some where/models.git") == str(tmp_path / "some where/models.git")


@pytest.mark.parametrize(
    "address",
    [
        "ext::sh -c touch% /tmp/x",
        "ext::https://host/x",
        "--upload-pack=touch /tmp/x",
        "-u",
        "git@github.com:owner/models.git",
        "git://host/models.git",
        "ftp://host/models.git",
        "ssh://-oProxyCommand=x/models.git",
        "https://host/models.git?private_token=hidden",
        "https://host/models.git#hidden",
        "https://[::1/models.git",
    ],
)
def test_what_could_do_something_else_is_refused(address: str) -> None:
    with pytest.raises(WillNotPass, match="MODEL_REPOSITORY") as refusal:
        checked_address(address)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hidden@host/models.git",
        "https://hidden@host/models.git",
        "http://x:hidden@127.0.0.1/models.git",
        "ssh://git:hidden@host/models.git",
        "https://:hidden@host/models.git",
    ],
)
def test_credentials_in_it_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(WillNotPass, match="GITHUB_TOKEN") as refusal:
        checked_address(address)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("http://models.example/models.git", True),
        ("http://127.0.0.1.example/models.git", True),
        ("http://127.0.0.1:8080/models.git", False),
        ("http://[::1]:8080/models.git", False),
        ("http://localhost/models.git", False),
        ("https://models.example/models.git", False),
        ("ssh://git@models.example/models.git", False),
    ],
)
def test_the_token_is_not_sent_in_the_clear(address: str, refused: bool, tmp_path: Path) -> None:
    token = SecretStr("hidden")
    if refused:
        with pytest.raises(WillNotPass, match="https://"):
            ModelRepository(address, "main", tmp_path, None, token)
    else:
        ModelRepository(address, "main", tmp_path, None, token)
    ModelRepository(address, "main", tmp_path, None, None)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://github.com/owner/models.git", f"https://github.com/owner/models/commit/{SHA}"),
        ("https://github.com/owner/models/", f"https://github.com/owner/models/commit/{SHA}"),
        ("https://github.com/owner", None),
        ("https://github.com/a/b/c", None),
        ("https://github.com.example/owner/models", None),
        ("https://gitlab.com/owner/models", None),
        ("ssh://git@github.com/owner/models", None),
        ("/srv/models.git", None),
    ],
)
def test_commits_on_github_have_a_page(address: str, url: str | None) -> None:
    assert commit_url(address, SHA) == url
