"""What a command asks of the system: signed with the operator's key, and kept in the audit log."""

import sys
from collections.abc import Mapping
from getpass import getpass

from shared.audit import Request, append, in_words_of_one_line, required_operators
from shared.failures import WillNotPass
from shared.operators import NotSigned, OperatorKey
from shared.records import Action, AuditEntry
from shared.settings import SettingsError
from shared.stage import Resources


class Asking:
    """An operator at the command line."""

    def __init__(self, resources: Resources) -> None:
        """Have the operator's key at hand, before anything is done.

        Raises:
            SettingsError: there is no usable key.
            WillNotPass: OPERATORS does not list it.
        """
        self.resources, settings = resources, resources.settings
        if settings.operator_key is None:
            raise SettingsError(
                "OPERATOR_KEY is not set. This command signs your request with your private key. "
                "Put the path of your key file into OPERATOR_KEY_FILE"
            )
        self._operators = required_operators(settings)
        self._key = OperatorKey.read(settings.operator_key, _passphrase)
        try:
            self._operators.require_active(self._key.fingerprint)
        except NotSigned as error:
            raise WillNotPass(
                f"your OPERATOR_KEY may not ask for this: {error}. Put its public key into "
                "OPERATORS, for the workers and for this command"
            ) from None

    def ask(
        self,
        action: Action,
        pipeline: str,
        trace_id: str,
        subject: Mapping[str, str],
        because: str,
    ) -> AuditEntry:
        """Sign a request, and write it into the audit log; the workers look there."""
        request = Request(action, pipeline, trace_id, subject, because)
        try:
            return append(request, self.resources.store, self._key, self._operators)
        except NotSigned as error:
            raise WillNotPass(
                f"the newest entry of the audit log is not genuine: {error}. Nothing was done. If "
                "OPERATORS lacks a line, put it back; otherwise restore the store from a backup"
            ) from None


def require_reason(because: str) -> None:
    """Let a reason pass that says something.

    Raises:
        WillNotPass: it does not.
    """
    if not in_words_of_one_line(because):
        raise WillNotPass('say why, for the audit log: --because "…"')


def _passphrase() -> str:
    if not sys.stdin.isatty():
        raise SettingsError(
            "OPERATOR_KEY has a passphrase, and there is no terminal to ask for it; run the "
            "command in a terminal"
        )
    return getpass("Passphrase of OPERATOR_KEY: ")
