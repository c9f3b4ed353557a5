"""Operators' keys, read as OpenSSH writes them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.operators import NotSigned, OperatorKey, Operators, make_key
from shared.settings import SettingsError
from tests.asking import never_asked
from tests.keys import OPERATOR_KEY, OPERATORS, STRANGERS_OPERATOR_KEY


def key_of(text: str, passphrase: str | None = None) -> OperatorKey:
    return OperatorKey.read(SecretStr(text), lambda: passphrase or never_asked())


ADA = key_of(OPERATOR_KEY)


def test_what_an_operator_signed_passes_and_nothing_else() -> None:
    operators, signature = Operators(OPERATORS), ADA.sign(b"asked")
    operators.require_signed(b"asked", signature, ADA.fingerprint)
    assert operators.of(ADA.fingerprint).name == "ada"
    others = ((b"asked for more", signature), (b"asked", f"{signature[:-8]}AAAA"))
    for said, given_signature in others:
        with pytest.raises(NotSigned, match="did not make its signature"):
            operators.require_signed(said, given_signature, ADA.fingerprint)


@given(st.text(max_size=200))
def test_no_text_is_a_signature(text: str) -> None:
    with pytest.raises(NotSigned):
        Operators(OPERATORS).require_signed(b"asked", text, ADA.fingerprint)


def test_a_key_that_is_not_listed_signs_nothing() -> None:
    stranger = key_of(STRANGERS_OPERATOR_KEY)
    with pytest.raises(NotSigned, match=re.escape(f"no key {stranger.fingerprint}")):
        Operators(OPERATORS).require_signed(b"a", stranger.sign(b"a"), stranger.fingerprint)


def test_a_key_that_was_made_is_listed_by_its_line() -> None:
    private, line = make_key("grace")
    key = key_of(private)
    listed = Operators(f"# our people\n\n{OPERATORS}\n{line}")
    assert listed.of(key.fingerprint).name == "grace"
    assert listed.of(ADA.fingerprint).name == "ada"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ada", "line 2 is not `name ssh-ed25519"),
        ("ada ssh-ed25519", "line 2 is not"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEsu+i3R", "line 2 is not"),
        ("ada ssh-ed25519 AAAA", "line 2 is not"),
        ("ada ssh-ed25519 \N{SNOWMAN}", "line 2 is not"),
        ("ada garbage line", "line 2 is not"),
        (
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEsu+i3RhIP3EeoSI4WCyzC+qef+lLIUs2kND+/ce6ML a@b",
            "line 2 is not",
        ),
        ('ada namespaces="git" ssh-ed25519 AAAA', "line 2 is not"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "line 2 is not"),
    ],
)
def test_a_line_that_lists_nobody_is_named(line: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Operators(f"# two lines\n{line}")


def test_a_key_is_listed_once() -> None:
    again = OPERATORS.replace("ada", "grace", 1)
    with pytest.raises(SettingsError, match="line 2 repeats a key of an earlier line"):
        Operators(f"{OPERATORS}\n{again}")


def test_marks_and_spaces_that_editors_leave_mean_nothing() -> None:
    listed = Operators(f"\ufeff# our people\r\n  # and more\r\n\r\n  {OPERATORS}\r\n")
    assert listed.of(ADA.fingerprint).name == "ada"


def test_a_former_operator_is_known_and_asks_for_nothing() -> None:
    operators = Operators(f"-{OPERATORS}")
    operators.require_signed(b"asked", ADA.sign(b"asked"), ADA.fingerprint)
    with pytest.raises(NotSigned, match="as that of a former operator"):
        operators.require_active(ADA.fingerprint)


@pytest.mark.parametrize("text", ["", "a key", OPERATORS, OPERATOR_KEY[:200]])
def test_what_is_no_private_key_is_told_without_its_text(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        key_of(text)
    assert (
        str(refused.value)
        == "OPERATOR_KEY: this is not a private SSH key; `ssh-keygen -t ed25519` makes one"
    )


class TestOpenSSH:
    """Keys made by `ssh-keygen`."""

    @pytest.fixture(autouse=True)
    def _needs_ssh_keygen(self) -> None:
        assert shutil.which("ssh-keygen"), "install OpenSSH's client (openssh-client)"

    @staticmethod
    def make(folder: Path, *arguments: str) -> Path:
        file = folder / "key"
        command = ["ssh-keygen", "-q", "-C", "grace@host", "-f", str(file), *arguments]
        subprocess.run(command, check=True, timeout=20)
        return file

    @pytest.mark.parametrize("passphrase", ["", "a passphrase"])
    def test_they_sign(self, passphrase: str, tmp_path: Path) -> None:
        file = self.make(tmp_path, "-t", "ed25519", "-N", passphrase)
        key = key_of(file.read_text().strip(), passphrase)
        shown = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(file)], capture_output=True, text=True, check=True
        )
        assert key.fingerprint == shown.stdout.split()[1]
        public = file.with_suffix(".pub").read_text()
        Operators(f"grace {public}").require_signed(b"a", key.sign(b"a"), key.fingerprint)

    def test_a_wrong_passphrase_is_told(self, tmp_path: Path) -> None:
        file = self.make(tmp_path, "-t", "ed25519", "-N", "a passphrase")
        with pytest.raises(SettingsError, match=r"^OPERATOR_KEY: the passphrase is wrong$"):
            key_of(file.read_text(), "another one")

    def test_no_passphrase_is_told(self, tmp_path: Path) -> None:
        file = self.make(tmp_path, "-t", "ed25519", "-N", "a passphrase")
        with pytest.raises(SettingsError, match="needs its passphrase, and none was given"):
            OperatorKey.read(SecretStr(file.read_text()), lambda: "")

    def test_another_cipher_is_told(self, tmp_path: Path) -> None:
        cipher = ("-Z", "chacha20-poly1305@openssh.com")
        file = self.make(tmp_path, "-t", "ed25519", "-N", "a passphrase", *cipher)
        with pytest.raises(SettingsError, match="encrypted in a way that is not known here"):
            key_of(file.read_text(), "a passphrase")

    def test_another_kind_is_told(self, tmp_path: Path) -> None:
        file = self.make(tmp_path, "-t", "ecdsa", "-N", "")
        with pytest.raises(SettingsError, match=r"OPERATOR_KEY: .* not of the kind Ed25519"):
            key_of(file.read_text())
        with pytest.raises(SettingsError, match="line 1 is not of the kind Ed25519"):
            Operators(f"grace {file.with_suffix('.pub').read_text()}")
