"""The headers that a request for a source carries; some hold secrets, for that host alone."""

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import httpx
from pydantic import SecretStr

from services.ingest.redirects import is_at_home
from shared.addresses import is_exposed
from shared.failures import WillNotPass
from shared.pipeline import DataGovInSource, FromEnvironment, HeaderValue, HttpSource, Pipeline
from shared.settings import Settings, SettingsError

USER_AGENT: Final = f"trimtab/{version('trimtab')}"

OnRequest = Callable[[httpx.Request], Awaitable[None]]


def require_secrets_over_tls(settings: Settings, pipelines: Iterable[Pipeline]) -> None:
    """Let pipelines pass whose secret headers nobody reads on the way.

    Raises:
        SettingsError: a header with a value of the environment would be sent over http:// to
            another machine, which PLAIN_HTTP_HOSTS does not name.
    """
    for pipeline in pipelines:
        source = pipeline.source
        if isinstance(source, HttpSource):
            address, where = source.url, "source.url"
        elif isinstance(source, DataGovInSource):
            address, where = settings.feed_url, "FEED_URL"
        else:
            continue
        secret = [name for name, value in source.headers.items() if not isinstance(value, str)]
        if secret and is_exposed(address, settings.plain_http_hosts):
            raise SettingsError(
                f"pipeline {pipeline.name}: the header {secret[0]} holds a secret and would be "
                f"sent over http://. Use https:// in {where}, or put the host into PLAIN_HTTP_HOSTS"
            )


def headers_of(stated: Mapping[str, HeaderValue]) -> dict[str, SecretStr]:
    """The values of a source's headers.

    Raises:
        WillNotPass: a variable of the environment is not set, or its value cannot be in a header.
    """
    return {name: SecretStr(_value(name, value)) for name, value in stated.items()}


def _value(name: str, stated: HeaderValue) -> str:
    if isinstance(stated, str):
        return stated
    value = _from_environment(name, stated)
    if not value.isascii() or not value.isprintable():
        raise WillNotPass(
            f"source.headers: the value of {stated.environment} for {name} holds characters that "
            "a header cannot have"
        )
    return value


def _from_environment(name: str, stated: FromEnvironment) -> str:
    variable = stated.environment
    if value := os.environ.get(variable):
        return value
    if path := os.environ.get(f"{variable}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):  # whose text may hold the secret, given as the path
            raise WillNotPass(
                f"source.headers: the file that {variable}_FILE names for {name} cannot be read"
            ) from None
    raise WillNotPass(
        f"source.headers: {name} needs the environment variable {variable}, or {variable}_FILE "
        "with the path of a file; neither is set where the ingest worker runs"
    )


def kept_at_home(home: httpx.URL, stated: Mapping[str, HeaderValue]) -> OnRequest:
    """What takes the source's headers from a request that goes to another host.

    A User-Agent that stands in the pipeline's file is no secret, and goes everywhere.
    """

    async def take_away(request: httpx.Request) -> None:
        if is_at_home(request.url, home):
            return
        for name, value in stated.items():
            is_agent = name.lower() == "user-agent"
            if is_agent and not isinstance(value, str):
                request.headers[name] = USER_AGENT
            elif not is_agent:
                request.headers.pop(name, None)

    return take_away
