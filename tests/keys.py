"""The keys of the systems that tests make."""

from typing import Final

from pydantic import SecretStr

from shared.authentication import Authenticator

EVENT_KEY: Final = "an event key for tests only"
AUTHENTICATOR: Final = Authenticator(SecretStr(EVENT_KEY))
STRANGER: Final = Authenticator(SecretStr("a key that nobody has given away"))
