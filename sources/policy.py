"""Which addresses clients may have us watch: none, unless the operator allows some.

An address that a client gives is a request to connect from inside the operator's network, so it
is judged three times: its scheme and host before anything is looked up, every address that the
host's name stands for, and every further address that a playlist leads to. The connection is made
to the address that was judged, not to the name, which may stand for another one a moment later.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from sources.errors import SourceRefusedError
from sources.redact import safe_url

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_DEFAULT_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
# Never, whatever the operator lists: link-local with the metadata services of clouds, the
# metadata addresses that are elsewhere, "this network", local translation, multicast, broadcast.
_NEVER = [
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",
        "fe80::/10",
        "fec0::/10",
        "fd00:ec2::/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "0.0.0.0/8",
        "::/128",
        "64:ff9b:1::/48",
        "224.0.0.0/4",
        "ff00::/8",
        "255.255.255.255/32",
    )
]
_LOOPBACK = ipaddress.IPv6Address("::1")
# Their last 32 bits are an IPv4 address.
_EMBEDDING = [ipaddress.ip_network(network) for network in ("64:ff9b::/96", "::/96")]


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """What clients may ask for; as it is made, nothing.

    Attributes:
        schemes: of http, https, rtsp and rtsps.
        hosts: names or addresses; `*.example.org` is all below it, `*` any host.
        networks: such as 192.168.1.0/24 or 192.168.1.7: allowed though they are not public.
    """

    schemes: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would allow nothing, or not what was meant, with a ValueError."""
        for scheme in self.schemes:
            if scheme not in _DEFAULT_PORTS:
                raise ValueError(f"scheme {scheme!r}: choose from {', '.join(_DEFAULT_PORTS)}")
        for network in self.networks:
            ipaddress.ip_network(network)

    def to_dict(self) -> dict[str, Any]:
        """For another process, in what JSON can say."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ClientPolicy":
        """The policy that `to_dict` was told of."""
        return cls(**{name: tuple(values) for name, values in fields.items()})


def check_url(url: str, policy: ClientPolicy) -> SplitResult:
    """Return the parts of an address whose scheme and host are allowed; nothing is looked up.

    Raises SourceRefusedError for any other.
    """
    if not policy.schemes or not policy.hosts:
        raise SourceRefusedError("Clients may not name sources here; ask for a stream by its name.")
    parts = _split(url)
    if parts is None:
        raise SourceRefusedError(f"{safe_url(url)} is not an address that is taken from clients.")
    if parts.scheme not in policy.schemes:
        allowed = ", ".join(f"{scheme}://" for scheme in policy.schemes)
        raise SourceRefusedError(f"{safe_url(url)}: only {allowed} may be asked for by clients.")
    assert parts.hostname is not None
    if not any(_matches(parts.hostname, pattern) for pattern in policy.hosts):
        raise SourceRefusedError(
            f"{safe_url(url)}: this host may not be asked for by clients; ask the operator."
        )
    return parts


def allowed_address(
    parts: SplitResult,
    policy: ClientPolicy,
    resolve: Callable[..., Sequence[Any]] = socket.getaddrinfo,
) -> tuple[str, int]:
    """Look a host up and return the one address and port to connect to.

    Every address that it stands for must be allowed: one that is not refuses it. Raises
    SourceRefusedError, or OSError if the host is not known.
    """
    assert parts.hostname is not None
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    found = resolve(parts.hostname, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(entry[4][0].partition("%")[0]) for entry in found]
    if not addresses or not all(_is_allowed(address, policy) for address in addresses):
        raise SourceRefusedError(
            "The host is at an address that clients may not ask for; the operator can list its "
            "network."
        )
    return str(addresses[0]), port


def _split(url: str) -> SplitResult | None:
    """The parts of an address that every parser reads alike; None for any other."""
    # Spaces, backslashes and control characters are where parsers part ways.
    if len(url) > 2048 or not re.fullmatch(r"[!-\[\]-~]+", url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if not host or parts.scheme not in _DEFAULT_PORTS or port == 0 or "@" in (parts.password or ""):
        return None
    if parts.netloc.rpartition("@")[2].startswith("["):
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return None
    elif not _HOST.fullmatch(host):
        return None
    return parts


def _matches(host: str, pattern: str) -> bool:
    host, pattern = host.rstrip(".").lower(), pattern.rstrip(".").lower()
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return pattern in ("*", host)


def _is_allowed(address: IPAddress, policy: ClientPolicy) -> bool:
    forms = _forms(address)
    if any(_within(form, network) for form in forms for network in _NEVER):
        return False
    listed = [ipaddress.ip_network(network) for network in policy.networks]
    return all(
        form.is_global or any(_within(form, network) for network in listed) for form in forms
    )


def _forms(address: IPAddress) -> list[IPAddress]:
    """The address, or the IPv4 addresses that an IPv6 address leads to in the end."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address != _LOOPBACK and any(address in network for network in _EMBEDDING):
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [form for form in inner if form is not None] or [address]


def _within(address: IPAddress, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return address.version == network.version and address in network
