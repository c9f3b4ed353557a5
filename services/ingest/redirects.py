"""Where a server may send a reader: to public addresses, not into the network that we run in.

A feed that answers with a redirect chooses what this machine asks next. Its own host is what the
pipeline names, wherever that is. Any other host is looked up first, and the connection goes to the
address that was looked at, so that a name cannot mean something else a moment later.
"""

import asyncio
import ipaddress
import socket
from typing import Final

import httpx

from shared.failures import WillNotPass

_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses as networks that have IPv6 alone write them (RFC 6052)."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PublicRedirects(httpx.AsyncHTTPTransport):
    """Connects to the host of a pipeline's address, and from there to public addresses only."""

    def __init__(self, url: httpx.URL, verify: object) -> None:
        super().__init__(verify=verify)  # type: ignore[arg-type]
        self._url = url

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request of the chain.

        Raises:
            WillNotPass: it leads to an address that is not public, or from HTTPS to HTTP.
            httpx.ConnectError: its host has no address, or cannot be reached.
        """
        is_http = request.url.scheme in ("http", "https")
        if not is_http or is_at_home(request.url, self._url):
            return await super().handle_async_request(request)
        if self._url.scheme == "https" and request.url.scheme == "http":
            raise WillNotPass(f"{self._url.host} redirects from https:// to http://")
        addresses = await _addresses(request.url.host)
        if hidden := [address for address in addresses if not is_public(address)]:
            raise WillNotPass(
                f"{self._url.host} redirects to {request.url.host}, which is at {hidden[0]}, not a "
                "public address; if that is meant, set source.private_redirects"
            )
        return await super().handle_async_request(_pinned(request, addresses[0]))


def is_at_home(url: httpx.URL, home: httpx.URL) -> bool:
    """Whether an address is on the host that the pipeline names, if need be with more security."""
    same = (url.scheme, url.port) == (home.scheme, home.port)
    secured = url.scheme == "https" and url.port is None
    return url.host == home.host and (same or secured)


def _pinned(request: httpx.Request, address: _Address) -> httpx.Request:
    """The request, to an address instead of a name; certificates are still those of the name."""
    host = request.url.host
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions | {"sni_hostname": host},
    )


async def _addresses(host: str) -> list[_Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host}: {error}") from None
    return [ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in found]


def is_public(address: _Address) -> bool:
    """Whether an address is one of the open Internet, also where it stands within another."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if within := address.ipv4_mapped or address.sixtofour:
            return is_public(within)
        if address.is_site_local or address.teredo:
            return False
    return address.is_global and not address.is_multicast
