"""Which addresses are public."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.redirects import is_public

PRIVATE = (
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 "
    "255.255.255.255 ::1 :: fe80::1 fc00::1 fec0::1 ff02::1 ::ffff:10.0.0.1 64:ff9b::7f00:1 "
    "64:ff9b::a9fe:a9fe 2002:7f00:1:: 2001:0:0:0:0:0:f5ff:fffe"
)


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses_and_those_that_hide_one(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_within_another_is_judged_as_itself(address) -> None:  # type: ignore[no-untyped-def]
    mapped = ip_address("::ffff:0:0")
    translated = ip_address("64:ff9b::")
    for prefix in (mapped, translated):
        assert is_public(ip_address(int(prefix) + int(address))) == is_public(address)
