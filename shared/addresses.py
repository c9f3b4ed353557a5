"""Addresses that secrets and models are sent to: over TLS, or to this machine."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, whatever a name server says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_exposed(address: str, plain_http_hosts: Collection[str]) -> bool:
    """Whether others on the way can read and change what is sent to an address.

    Args:
        plain_http_hosts: hosts besides this machine that plain HTTP is allowed to.

    Raises:
        ValueError: the address cannot be read.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    return parts.scheme == "http" and not is_loopback(host) and host not in plain_http_hosts
