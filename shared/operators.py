"""Operators: the people whose requests workers carry out, known by the keys that they sign with.

An operator's private key is an SSH key of the kind Ed25519. It stays with the person: no worker, no
broker and no store has it. Workers have the public keys (OPERATORS).
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import SecretStr

from shared.settings import SettingsError

_FORM: Final = "`name ssh-ed25519 AAAA…`"


class NotSigned(ValueError):
    """A signature is not that of an operator; the text says why."""


@dataclass(frozen=True)
class Operator:
    """Somebody whose requests are carried out, or were."""

    name: str
    public_key: Ed25519PublicKey
    is_former: bool
    """What they signed is known as theirs, and nothing more is carried out."""


class Operators:
    """Those that OPERATORS lists, one key a line. A person may have several keys."""

    def __init__(self, listed: str) -> None:
        """Read the list: `name ssh-ed25519 AAAA…` a line, as in Git's file of allowed signers.

        A minus sign before the name says that the person is no operator any more.

        Raises:
            SettingsError: a line is something else, or has a key that stands above. The text has
                its number.
        """
        self._by_fingerprint: dict[str, Operator] = {}
        for number, line in enumerate(listed.removeprefix("\ufeff").splitlines(), start=1):
            words = line.split()
            if words and not words[0].startswith("#"):
                operator = _operator(words, number)
                key = fingerprint(operator.public_key)
                if key in self._by_fingerprint:
                    raise SettingsError(
                        f"OPERATORS: line {number} repeats a key of an earlier line; remove one of "
                        "the two"
                    )
                self._by_fingerprint[key] = operator

    def of(self, key: str) -> Operator:
        """The operator, or former one, whose key has a fingerprint.

        Raises:
            NotSigned: nobody's has.
        """
        try:
            return self._by_fingerprint[key]
        except KeyError:
            raise NotSigned(f"OPERATORS lists no key {key}") from None

    def require_active(self, key: str) -> str:
        """The name of the operator who has a key and may ask for something.

        Raises:
            NotSigned: nobody has it, or who has it is no operator any more.
        """
        operator = self.of(key)
        if operator.is_former:
            raise NotSigned(f"OPERATORS lists the key {key} as that of a former operator")
        return operator.name

    def require_signed(self, said: bytes, signature: str, key: str) -> None:
        """Let pass what the operator with a key has signed.

        Args:
            signature: base64.
            key: the fingerprint.

        Raises:
            NotSigned: the operator has not, or there is none with this key.
        """
        public_key = self.of(key).public_key
        try:
            signed = base64.b64decode(signature, validate=True)
            public_key.verify(signed, said)
        except (InvalidSignature, ValueError):  # the second: it is no base64
            raise NotSigned(
                f"the key {key} did not make its signature: the entry was altered, or somebody "
                "else signed it"
            ) from None
        if base64.b64encode(signed).decode() != signature:  # spare bits would change its hash
            raise NotSigned(
                "the signature has another form than this system writes: the entry was altered"
            )


def _operator(words: list[str], number: int) -> Operator:
    try:
        name, kind, key, *_ = words
        public = serialization.load_ssh_public_key(f"{kind} {key}".encode())
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"OPERATORS: line {number} is not {_FORM}") from None
    if not isinstance(public, Ed25519PublicKey):
        raise SettingsError(
            f"OPERATORS: the key in line {number} is not of the kind Ed25519; "
            "`ssh-keygen -t ed25519` makes one"
        )
    return Operator(name.removeprefix("-"), public, is_former=name.startswith("-"))


class OperatorKey:
    """The private key of an operator."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def read(cls, key: SecretStr, passphrase: Callable[[], str]) -> "OperatorKey":
        """Read a private key as `ssh-keygen` writes it.

        Args:
            passphrase: asks a person for it; called for a key that has one.

        Raises:
            SettingsError: it is no such key, or the passphrase is wrong.
        """
        text = key.get_secret_value().encode()
        try:
            return cls._loaded(text, b"")
        except TypeError:  # it has a passphrase
            given = passphrase().encode()
        if not given:
            raise SettingsError("OPERATOR_KEY: the key needs its passphrase, and none was given")
        return cls._loaded(text, given)

    @classmethod
    def _loaded(cls, text: bytes, passphrase: bytes) -> "OperatorKey":
        try:
            loaded = serialization.load_ssh_private_key(text, passphrase or None)
        except ValueError:  # whose text may quote the key
            what = (
                "the passphrase is wrong"
                if passphrase
                else "this is not a private SSH key; `ssh-keygen -t ed25519` makes one"
            )
            raise SettingsError(f"OPERATOR_KEY: {what}") from None
        except UnsupportedAlgorithm:
            raise SettingsError(
                "OPERATOR_KEY: the key is encrypted in a way that is not known here; "
                "`ssh-keygen -p -Z aes256-ctr` encrypts it anew"
            ) from None
        if not isinstance(loaded, Ed25519PrivateKey):
            raise SettingsError(
                "OPERATOR_KEY: the key is not of the kind Ed25519; `ssh-keygen -t ed25519` makes "
                "one"
            )
        return cls(loaded)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        return fingerprint(self._key.public_key())

    def sign(self, said: bytes) -> str:
        """The signature of some bytes, in base64. The same bytes give the same one."""
        return base64.b64encode(self._key.sign(said)).decode()


def make_key(name: str) -> tuple[str, str]:
    """A new private key without a passphrase, and the line for OPERATORS that lists it."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return private.decode(), f"{name} {_line(key.public_key())}\n"


def fingerprint(key: Ed25519PublicKey) -> str:
    """A key's fingerprint as `ssh-keygen -l` shows it."""
    digest = hashlib.sha256(base64.b64decode(_line(key).split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _line(key: Ed25519PublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()
