"""What a server refuses to a user who lacks a right, in a sentence that says who lacks which."""

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr
from pymongo.errors import OperationFailure
from redis import Redis
from redis.exceptions import NoPermissionError

from shared.settings import Settings

_NOT_AUTHORIZED: Final = 13
_REFUSED: Final = re.compile(r'not authorized on (\S+) to execute command \{ (\w+): "([^"]*)"')
_WHAT_TO_DO: Final = (
    "docs/operations.md, The users of the servers, says how it gets the rights of this version"
)


class NamesRefusals(Redis):
    """A client whose refusals say who may not do what. The server's own words say half of it."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Run a command; a refusal is told in full."""
        try:
            return super().execute_command(*words, **options)  # type: ignore[no-untyped-call]
        except NoPermissionError:
            raise self._refused(*map(str, words[:2])) from None

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """Read an answer; Kombu sends BRPOP by itself and asks for its answer here."""
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except NoPermissionError:
            raise self._refused(command_name) from None

    def _refused(self, *what: str) -> NoPermissionError:
        user = self.connection_pool.connection_kwargs.get("username") or "default"
        return NoPermissionError(f"the broker's user {user} may not {' '.join(what)}")


def refusal(error: BaseException | None, settings: Settings) -> str | None:
    """What was refused for want of a right; None: the error is of another kind."""
    for each in _behind(error):
        match each:
            case NoPermissionError():
                user = _user(settings.redis_url)
                said = str(each)
                told = "" if "may not" in said else f"the broker refuses to its user {user}: "
                return f"{told}{said}. {_WHAT_TO_DO}"
            case OperationFailure() if each.code == _NOT_AUTHORIZED:
                user = _user(settings.mongodb_uri)
                return f"the store's user {user} may not {_what(str(each))}. {_WHAT_TO_DO}"
    return None


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _what(said: str) -> str:
    """The command, collection and database, without what a document holds."""
    found = _REFUSED.search(said)
    return f"{found[2]} on {found[1]}.{found[3]}" if found else "do what was asked"


def _user(address: SecretStr | None) -> str:
    place = urlsplit(address.get_secret_value() if address else "").netloc
    login, signs_in, _ = place.rpartition("@")
    return unquote(login.partition(":")[0]) if signs_in else "(nobody)"
