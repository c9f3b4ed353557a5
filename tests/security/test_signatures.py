"""Signed tags: people can tell our models from those of others who may push."""

import io
import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import pytest
import structlog
from sklearn.dummy import DummyRegressor

from services.publisher.bundle import bundle
from services.publisher.repository import Commit, ModelRepository
from services.publisher.signing import Signer, signer_of
from shared.failures import WillNotPass
from shared.pipeline import Pipeline, Publish
from shared.settings import Settings, SettingsError, read_settings
from tests.integration.publisher.bare import Bare, git
from tests.integration.publisher.promotions import model_version
from tests.integration.publisher.test_repository import commit_of
from tests.integration.publisher.test_smart_http import command_lines
from tests.keys import EVENT_KEY


def ssh_keygen(*arguments: str) -> str:
    done = subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    ssh_keygen("-q", "-t", kind, "-N", passphrase, "-C", "a test", "-f", str(path))
    return path


def settings(key: Path | None, **more: Any) -> Settings:
    return read_settings(
        redis_url="redis://broker",
        mongodb_uri="mongodb://store",
        git_signing_key_file=key,
        git_committer_email="models@example.org",
        **more,
    )


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "signing key")


@pytest.fixture
def signer(key: Path) -> Signer:
    found = signer_of(settings(key))
    assert found
    return found


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare.make(tmp_path / "models.git")


@pytest.fixture
def signers(signer: Signer, tmp_path: Path) -> Path:
    file = tmp_path / "allowed signers"
    file.write_text(f"{signer.allowed}\n")
    return file


def repository(bare: Bare, signer: Signer | None, cache: str = "cache") -> ModelRepository:
    return ModelRepository(str(bare.path), "main", bare.path.parent / cache, None, None, signer)


def verified(bare: Bare, signers: Path, command: str, name: str) -> str:
    """The words of `git verify-tag` or `git verify-commit`; it raises if the signature is wrong."""
    option = f"gpg.ssh.allowedSignersFile={signers}"
    command_line = ["git", "-c", option, command, name]
    done = subprocess.run(command_line, cwd=bare.path, check=True, capture_output=True, text=True)
    return done.stderr


def test_tag_and_commit_are_signed(bare: Bare, signer: Signer, signers: Path) -> None:
    published = repository(bare, signer).publish(commit_of())
    for command, name in (("verify-tag", "air_quality/v1"), ("verify-commit", published.commit)):
        said = verified(bare, signers, command, name)
        assert (
            f'Good "git" signature for models@example.org with ED25519 key {signer.fingerprint}'
            in said
        )
    assert bare.git("rev-parse", "air_quality/v1^{commit}") == published.commit
    assert bare.git("cat-file", "-t", "air_quality/v1") == "tag"
    assert bare.files() == commit_of().files
    message = bare.git("log", "-1", "--format=%B", "main")
    assert message.strip() == commit_of().message.strip()
    layout = "--format=%an <%ae> %cn <%ce> %aI %cI"
    who, when = "Trimtab <trimtab@localhost>", "2026-01-01T12:30:01+00:00"
    assert bare.git("log", "-1", layout, "main") == f"{who} {who} {when} {when}"
    bare.git("fsck", "--strict")


def test_signed_models_follow_one_another_and_are_found_again(
    bare: Bare, signer: Signer, signers: Path
) -> None:
    bare.commit({"other": b"1"})
    first = repository(bare, signer).publish(commit_of(1))
    second = repository(bare, signer).publish(commit_of(2))
    again = repository(bare, signer, "another cache").publish(commit_of(1))
    assert (again.commit, again.already_there) == (first.commit, True)
    assert bare.git("rev-parse", f"{second.commit}^") == first.commit
    assert bare.subjects()[-1] == "Other"
    verified(bare, signers, "verify-tag", "air_quality/v2")


def test_the_same_commit_is_signed_alike(bare: Bare, signer: Signer) -> None:
    """So a publication that was cut short is taken up where it ended."""
    first = repository(bare, signer).publish(commit_of())
    tag = bare.git("rev-parse", "air_quality/v1")
    bare.git("update-ref", "-d", "refs/heads/main")
    bare.git("tag", "-d", "air_quality/v1")
    assert repository(bare, signer, "another cache").publish(commit_of()).commit == first.commit
    assert bare.git("rev-parse", "air_quality/v1") == tag


def test_a_model_whose_tag_went_missing_gets_a_signed_one(
    bare: Bare, signer: Signer, signers: Path
) -> None:
    repository(bare, signer).publish(commit_of())
    bare.git("tag", "-d", "air_quality/v1")
    repository(bare, signer).publish(commit_of())
    verified(bare, signers, "verify-tag", "air_quality/v1")


def test_a_key_that_others_have_does_not_pass_for_ours(
    bare: Bare, signer: Signer, signers: Path, tmp_path: Path
) -> None:
    other = signer_of(settings(make_key(tmp_path / "other")))
    repository(bare, other).publish(commit_of())
    with pytest.raises(subprocess.CalledProcessError):
        verified(bare, signers, "verify-tag", "air_quality/v1")


def test_without_a_key_nothing_is_signed(bare: Bare, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert signer_of(settings(None)) is None
    assert signer_of(settings(empty)) is None
    repository(bare, None).publish(commit_of())
    tag = bare.git("cat-file", "tag", "air_quality/v1")
    assert "SIGNATURE" not in tag
    assert "gpgsig" not in bare.git("cat-file", "commit", "main")


# The card's lines, run as a reader runs them.


class Runs:
    """What a hostile pickle runs when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def dumped(content: object) -> bytes:
    stream = io.BytesIO()
    joblib.dump(content, stream)
    return stream.getvalue()


def publication(
    pipeline: Pipeline, signer: Signer | None, model: object, version: int = 3
) -> Commit:
    folder = pipeline.publish.directory
    data = dumped(model)
    files = bundle(model_version(version), data, None, pipeline, signer=signer)
    return Commit(
        pipeline=pipeline.name,
        version=version,
        run="a" * 32,
        files={f"{folder}/{name}" if folder != "." else name: files[name] for name in files},
        model_file="model.joblib" if folder == "." else f"{folder}/model.joblib",
        subject="Publish",
        body="why",
        at=commit_of().at,
        committer="Trimtab <models@example.org>",
    )


GOOD = DummyRegressor(strategy="constant", constant=7.0).fit([[0]], [7])


def cloned(bare: Bare, signers: Path) -> Path:
    clone = bare.path.parent / "clone"
    git(bare.path.parent, "clone", "--quiet", str(bare.path), str(clone))
    (clone / "trimtab.signers").write_bytes(signers.read_bytes())
    return clone


def run_card(card: bytes, folder: Path) -> "subprocess.CompletedProcess[str]":
    found = re.search(r"```python\n(.*?)```", card.decode(), re.DOTALL)
    assert found
    script = f"import numpy\nrows = numpy.zeros((2, 1))\n{found[1]}\nprint(predictions.tolist())"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("directory", [".", "air/models"])
def test_the_cards_lines_verify_and_load(
    bare: Bare, signer: Signer, signers: Path, air_quality: Pipeline, directory: str
) -> None:
    pipeline = air_quality.model_copy(update={"publish": Publish(directory=directory)})
    commit = publication(pipeline, signer, GOOD)
    repository(bare, signer).publish(commit)
    card = next(content for path, content in commit.files.items() if path.endswith("README.md"))
    done = run_card(card or b"", cloned(bare, signers))
    assert done.stdout.startswith("[7.0, 7.0]"), done.stderr
    assert signer.fingerprint in (card or b"").decode()


def attack_branch(bare: Bare, evil: Commit) -> None:
    """Model and manifest replaced together on the branch, by somebody who may push."""
    bare.commit({path: content for path, content in evil.files.items() if content})


def attack_tag(bare: Bare, evil: Commit) -> None:
    attack_branch(bare, evil)
    bare.git("update-ref", f"refs/tags/{evil.tag}", "main")


def attack_annotated(bare: Bare, evil: Commit) -> None:
    attack_branch(bare, evil)
    bare.git("tag", "-f", "-a", "-m", "ours", evil.tag, "main")


def attack_other_key(bare: Bare, evil: Commit) -> None:
    bare.git("tag", "-d", evil.tag)
    bare.git("update-ref", "-d", "refs/heads/main")
    other = signer_of(settings(make_key(bare.path.parent / "their key")))
    repository(bare, other, "their cache").publish(evil)


def attack_older(bare: Bare, evil: Commit) -> None:
    """An earlier version's tag, signed by us, under this version's name."""
    bare.git("update-ref", f"refs/tags/{evil.tag}", bare.git("rev-parse", "air_quality/v2"))


@pytest.mark.parametrize(
    "attack", [attack_branch, attack_tag, attack_annotated, attack_other_key, attack_older]
)
def test_who_may_push_cannot_have_their_model_loaded(
    bare: Bare, signer: Signer, signers: Path, air_quality: Pipeline, attack: Any
) -> None:
    older = DummyRegressor(strategy="constant", constant=2.0).fit([[0]], [2])
    repository(bare, signer).publish(publication(air_quality, signer, older, 2))
    ours = publication(air_quality, signer, GOOD)
    repository(bare, signer).publish(ours)
    attack(bare, publication(air_quality, signer, Runs()))
    clone = cloned(bare, signers)
    done = run_card(ours.files["README.md"] or b"", clone)
    assert not (clone / "owned").exists()
    if attack is attack_branch:
        assert done.stdout.splitlines() == ["[7.0, 7.0]"], done.stderr
    else:
        assert done.returncode != 0
        assert done.stdout == ""


def test_without_a_signature_who_may_push_decides_what_is_run(
    bare: Bare, signers: Path, air_quality: Pipeline
) -> None:
    """Why the card says that it is not signed."""
    ours = publication(air_quality, None, GOOD)
    repository(bare, None).publish(ours)
    attack_branch(bare, publication(air_quality, None, Runs()))
    clone = cloned(bare, signers)
    run_card(ours.files["README.md"] or b"", clone)
    assert (clone / "owned").exists()


def test_an_unsigned_card_says_so(air_quality: Pipeline) -> None:
    card = publication(air_quality, None, GOOD).files["README.md"] or b""
    assert b"**This model is not signed.**" in card
    assert b"verify-tag" not in card


# The key: what is refused at the start, and where it never gets to.


def missing(tmp_path: Path) -> Path:
    return tmp_path / "canary-missing"


def unreadable(tmp_path: Path) -> Path:
    return tmp_path  # a folder: root may read every file


def encrypted(tmp_path: Path) -> Path:
    return make_key(tmp_path / "canary-encrypted", passphrase="a passphrase")


def open_to_all(tmp_path: Path) -> Path:
    file = make_key(tmp_path / "canary-open")
    file.chmod(0o644)
    return file


def of_another_kind(tmp_path: Path) -> Path:
    return make_key(tmp_path / "canary-ecdsa", kind="ecdsa")


def no_key(tmp_path: Path) -> Path:
    file = tmp_path / "canary-text"
    file.write_text("canary of a key")
    file.chmod(0o600)
    return file


WRONG = {
    missing: "cannot be read: No such file",
    unreadable: "cannot be read: Is a directory",
    encrypted: "has a passphrase",
    open_to_all: "others can read the key",
    of_another_kind: "not of the kind Ed25519",
    no_key: "no private key",
}


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_a_wrong_key_is_named_by_its_setting_alone(make: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"^GIT_SIGNING_KEY_FILE: .*{WRONG[make]}") as refused:
        signer_of(settings(make(tmp_path)))
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("make", [missing, encrypted], ids=lambda make: make.__name__)
def test_the_publisher_does_not_start_with_a_wrong_key(make: Any, tmp_path: Path) -> None:
    given = {
        "REDIS_URL": "redis://127.0.0.1:1",
        "MONGODB_URI": "mongodb://127.0.0.1:1",
        "MODEL_REPOSITORY": str(tmp_path),
        "EVENT_KEY": EVENT_KEY,
        "MODEL_SIGNING_KEY": "a signing key for tests only",
        "GIT_SIGNING_KEY_FILE": str(make(tmp_path)),
    }
    command = [sys.executable, "-m", "celery", "-A", "services.publisher.tasks", "worker"]
    done = subprocess.run(
        command, env=os.environ | given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert f"GIT_SIGNING_KEY_FILE: {'the' if make is missing else 'the key has a'}" in (
        done.stdout + done.stderr
    )


def test_without_ssh_keygen_the_error_says_what_to_install(
    key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="ssh-keygen is not on PATH"):
        signer_of(settings(key))


def test_a_key_that_is_gone_when_it_is_needed_is_a_failure_that_names_the_setting(
    bare: Bare, signer: Signer, key: Path
) -> None:
    key.unlink()
    with pytest.raises(WillNotPass, match=r"^GIT_SIGNING_KEY_FILE: git commit-tree could not sign"):
        repository(bare, signer).publish(commit_of())
    assert bare.refs() == {}


def test_the_key_gets_nowhere(
    bare: Bare,
    signer: Signer,
    key: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    bare.hook("post-receive", "sleep 0.5")
    secret = [line.encode() for line in key.read_text().splitlines()[1:-1]]
    seen: list[bytes] = []
    with ThreadPoolExecutor(1) as pool, structlog.testing.capture_logs() as logs:
        push = pool.submit(repository(bare, signer).publish, commit_of())
        while not push.done():
            seen += command_lines()
    push.result()

    def holds(content: bytes) -> bool:
        return any(line in content for line in secret)

    printed = capfd.readouterr()
    said = f"{caplog.text}{logs}{printed.out}{printed.err}".encode()
    assert holds(key.read_bytes())
    assert not holds(said)
    assert not any(map(holds, seen))
    others = [path for path in bare.path.parent.rglob("*") if path.is_file() and path != key]
    assert not [path for path in others if holds(path.read_bytes())]
    objects = bare.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    for name in objects:
        kind = bare.git("cat-file", "-t", name)
        assert not holds(git(bare.path, "cat-file", kind, name))
