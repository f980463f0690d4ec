"""What clients may ask for: nothing by default, and never more than the operator listed."""

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from sources.errors import SourceRefusedError
from sources.open import open_client_source
from sources.policy import ClientPolicy, allowed_address, check_url

OPEN = ClientPolicy(("http", "https"), ("*",))
NAMED = ClientPolicy(
    ("http", "rtsp"), ("cam.example.org", "*.lan", "192.168.1.7", "::1"), ("192.168.1.0/24",)
)


def resolved(*addresses: str) -> Any:
    """A look-up that finds these addresses for every name."""

    def resolve(host: str, port: int, **_: object) -> Sequence[Any]:
        return [(socket.AF_INET, 0, 0, "", (address, port)) for address in addresses]

    return resolve


def test_clients_may_ask_for_nothing_unless_allowed() -> None:
    for policy in (ClientPolicy(), ClientPolicy(("http",)), ClientPolicy((), ("*",))):
        with pytest.raises(SourceRefusedError, match="may not name sources"):
            check_url("http://example.org/a", policy)
        with pytest.raises(SourceRefusedError):
            open_client_source("http://example.org/a", policy)


@pytest.mark.parametrize(
    "url", ["http://cam.example.org/x", "rtsp://u:p@Cam.Example.org:8554/x?y=1", "http://a.b.lan"]
)
def test_what_is_listed_passes(url: str) -> None:
    assert check_url(url, NAMED).geturl()


@pytest.mark.parametrize(
    "url",
    [
        "https://cam.example.org/x",
        "file:///etc/passwd",
        "/etc/passwd",
        "concat:http://cam.example.org/a|http://cam.example.org/b",
        "http://example.org/",
        "http://cam.example.org.evil.net/",
        "http://evilcam.example.org/",
        "http://lan/",
        "http://cam.example.org@evil.net/",
        "http://evil.net#@cam.example.org/",
        "http://evil.net\\@cam.example.org/",
        "http://evil.net/@cam.example.org/",
        "http://cam.example.org:0/",
        "http://cam.example.org:99999/",
        "http://cam.example.org:port/",
        "http://cam.example.org /",
        "http://cam.example.org/\n",
        "http://c\u00e4m.lan/",
        "http://[::1%eth0]/",
        "http://[::1",
        "http://a..lan/",
        "http:///x",
        "http://",
        "",
        "http://cam.example.org/" + "a" * 3000,
    ],
)
def test_what_is_not_listed_or_not_plain_is_refused(url: str) -> None:
    with pytest.raises(SourceRefusedError):
        check_url(url, NAMED)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.2.1",
        "100.64.0.1",
        "::1",
        "fd12::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2001:0:7f00:1::",
    ],
)
def test_private_addresses_are_refused_unless_listed(address: str) -> None:
    parts = check_url("http://example.org/", OPEN)
    with pytest.raises(SourceRefusedError, match="address"):
        allowed_address(parts, OPEN, resolved(address))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
def test_metadata_and_link_local_are_refused_even_if_listed(address: str) -> None:
    everything = ClientPolicy(("http",), ("*",), ("0.0.0.0/0", "::/0"))
    parts = check_url("http://example.org/", everything)
    with pytest.raises(SourceRefusedError, match="address"):
        allowed_address(parts, everything, resolved(address))


def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    parts = check_url("http://example.org/", OPEN)
    with pytest.raises(SourceRefusedError):
        allowed_address(parts, OPEN, resolved("93.184.216.34", "10.0.0.1"))
    with pytest.raises(SourceRefusedError):
        allowed_address(parts, OPEN, resolved())
    assert allowed_address(parts, OPEN, resolved("93.184.216.34", "1.1.1.1"))[0] == "93.184.216.34"


def test_the_judged_address_is_what_is_connected_to() -> None:
    """Numbers in other writings stand for the same addresses, and ports have their defaults."""
    parts = check_url("http://cam.example.org/", NAMED)
    assert allowed_address(parts, NAMED, resolved("192.168.1.9")) == ("192.168.1.9", 80)
    parts = check_url("rtsp://192.168.1.7/", NAMED)
    assert allowed_address(parts, NAMED) == ("192.168.1.7", 554)
    for loopback in ("2130706433", "0x7f.1", "127.1", "0177.0.0.1"):
        with pytest.raises(SourceRefusedError, match="address"):
            allowed_address(check_url(f"http://{loopback}/", OPEN), OPEN)


def test_a_policy_survives_the_way_to_another_process() -> None:
    assert ClientPolicy.from_dict(NAMED.to_dict()) == NAMED


def test_a_policy_that_means_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="ftp"):
        ClientPolicy(("ftp",), ("*",))
    with pytest.raises(ValueError, match="lan"):
        ClientPolicy(("http",), ("*",), ("lan",))
