"""Signatures on tags and commits, by Git's own way with SSH keys.

Git and `ssh-keygen` read the key from its file. This process never does, so the key cannot get into
a log, an argument or a record.
"""

import base64
import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.settings import Settings, SettingsError

_NAME: Final = "GIT_SIGNING_KEY_FILE"
_SECONDS: Final = 20
_PUBLIC: Final = re.compile(r"(ssh-ed25519) ([A-Za-z0-9+/=]{1,1000})(?: |$)")
_ENCRYPTED: Final = re.compile(r"passphrase", re.IGNORECASE)
_TOO_OPEN: Final = re.compile(r"unprotected|bad permissions", re.IGNORECASE)


@dataclass(frozen=True)
class Signer:
    """Whose signature is on what is published."""

    key_file: Path
    public_key: str
    """`ssh-ed25519 AAAA…`"""
    principal: str
    """The e-mail address of the committer, under which people list the key."""

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint as `ssh-keygen -l` shows it."""
        digest = hashlib.sha256(base64.b64decode(self.public_key.split()[1])).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    @property
    def allowed(self) -> str:
        """The line for a file of allowed signers that lets this key sign Git's objects alone."""
        return f'{self.principal} namespaces="git" {self.public_key}'


def signer_of(settings: Settings) -> Signer | None:
    """Who signs; none if no key is set, or an empty file as of a secret that nobody has.

    Raises:
        SettingsError: the key is missing, cannot be read, has a passphrase, or is of another kind
            than Ed25519. The text names the setting, not its value.
    """
    file = settings.git_signing_key_file
    if file is None or _is_empty(file):
        return None
    return Signer(file.absolute(), _public_key(file), settings.git_committer_email)


def _is_empty(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return not content.read(1)
    except OSError as error:
        raise SettingsError(f"{_NAME}: the file cannot be read: {error.strerror}") from None


def _public_key(file: Path) -> str:
    """The public half of a private key, which needs no passphrase."""
    try:
        done = subprocess.run(
            ["ssh-keygen", "-y", "-P", "", "-f", str(file.absolute())],
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise SettingsError(
            f"{_NAME}: ssh-keygen is not on PATH; install OpenSSH's client"
        ) from None
    except subprocess.TimeoutExpired:
        raise SettingsError(f"{_NAME}: ssh-keygen did not answer in {_SECONDS} s") from None
    if done.returncode != 0:
        raise SettingsError(f"{_NAME}: {_meaning(done.stderr)}")
    found = _PUBLIC.match(done.stdout)
    if not found:
        raise SettingsError(
            f"{_NAME}: the key is not of the kind Ed25519; `ssh-keygen -t ed25519` makes one"
        )
    return f"{found[1]} {found[2]}"


def _meaning(said: str) -> str:
    if _TOO_OPEN.search(said):
        return "others can read the key; `chmod 600` it"
    if _ENCRYPTED.search(said):
        return (
            "the key has a passphrase, which nobody could type; make one without "
            "(`ssh-keygen -t ed25519 -N ''`) and keep its file to the publisher"
        )
    return (
        "this is no private key that ssh-keygen can read; `ssh-keygen -t ed25519 -N ''` makes one"
    )
