"""Who may come in: tokens with scopes, tickets, and what may be listened on without any.

A file of tokens has one a line, `TOKEN [SCOPE,...]`; scopes are query, ingest and admin, and query
is what a token has that names none. Blank lines and those that begin with # do not count.
"""

import hmac
import ipaddress
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from stream.logins import Logins
from stream.tickets import Caller, Tickets

SCOPES = ("query", "ingest", "admin")
_SHORTEST_TOKEN = 16


class DoorsError(ValueError):
    """Doors that would not be locked as they should; one sentence says why."""


class ShutOutError(Exception):
    """Someone who may not come in; `status` is HTTP's 401 or 403, and one sentence says why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Doors:
    """Tokens with their scopes, tickets and logins; without tokens, all may do everything."""

    tokens: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    tickets: Tickets = field(default_factory=Tickets, repr=False, compare=False)
    logins: Logins = field(default_factory=Logins, repr=False, compare=False)

    def let_in(
        self,
        scope: str | None,
        hosts: Sequence[str],
        authorizations: Sequence[str],
        ticket: str | None = None,
        login: str | None = None,
    ) -> tuple[Caller, str | None]:
        """Who asks to do what `scope` allows, None for anything at all, and by which login, if any.

        Raises ShutOutError.

        Args:
            hosts, authorizations: the values of all headers Host and Authorization.
            ticket: stands in for a token; it is used up.
            login: stands in for a token where none is shown.
        """
        self.check_host(hosts)
        if ticket is not None or authorizations or not self.tokens:
            login = None
        if ticket is not None and self.tokens:
            caller = self.tickets.take(ticket)
        elif login is not None:
            caller = self.logins.caller(login)
        else:
            caller = self.caller(authorizations[0] if len(authorizations) == 1 else None)
        if not caller.scopes or (scope is not None and scope not in caller.scopes):
            raise ShutOutError(401, "give Authorization: Bearer TOKEN")
        return caller, login

    def caller(self, authorization: str | None) -> Caller:
        """Whose value of an Authorization header this is; they may do nothing if it is wrong."""
        if not self.tokens:
            return Caller(0, frozenset(SCOPES))
        scheme, _, given = (authorization or "").partition(" ")
        found = Caller()
        # All are compared, each in constant time: how long it takes tells nothing of a token.
        for number, (token, scopes) in enumerate(self.tokens.items(), 1):
            same = hmac.compare_digest(token.encode(), given.strip().encode())
            if same and scheme.lower() == "bearer":
                found = Caller(number, scopes)
        return found

    def check_host(self, hosts: Sequence[str]) -> None:
        """Raise ShutOutError if these values of Host headers cannot be meant for us."""
        if len(hosts) > 1 or not self.believes(hosts[0] if hosts else None):
            raise ShutOutError(403, "without tokens this is only for this machine, by its own name")

    def believes(self, host: str | None) -> bool:
        """Whether a Host header may be meant for us: without tokens only names of this machine.

        A page from elsewhere may have its own name point here, and would then be let read ours.
        """
        if self.tokens or host is None:
            return True
        try:
            return _is_here(urlsplit(f"//{host}").hostname or "")
        except ValueError:
            return False

    def check_bind(self, host: str) -> None:
        """Raise DoorsError if `host` can be reached from elsewhere and there is no token."""
        if not (self.tokens or _is_here(host)):
            raise DoorsError(
                f"{host} can be reached from other machines: give --token-file, or listen on "
                "127.0.0.1"
            )


def _is_here(host: str) -> bool:
    """Whether only this machine reaches a host of this name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_tokens(file: Path) -> Doors:
    """Read a file of tokens; raises DoorsError, which names lines and never tokens."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DoorsError(f"{file} cannot be read as a file of tokens") from None
    tokens: dict[str, frozenset[str]] = {}
    for number, line in enumerate(lines, 1):
        token, rest = (*line.split(maxsplit=1), "", "")[:2]
        if not token or token.startswith("#"):
            continue
        scopes = [s.strip() for s in rest.split(",") if s.strip()] or ["query"]
        if len(token) < _SHORTEST_TOKEN or not token.isascii():
            raise DoorsError(
                f"{file}, line {number}: a token has at least {_SHORTEST_TOKEN} ASCII characters"
            )
        if unknown := set(scopes) - set(SCOPES):
            raise DoorsError(
                f"{file}, line {number}: there is no scope {min(unknown)!r}; known: "
                f"{', '.join(SCOPES)}"
            )
        tokens[token] = frozenset(scopes)
    if not tokens:
        raise DoorsError(f"{file} holds no token; write one a line")
    return Doors(tokens)


def server_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What encrypts, from files in PEM; None without them. Raises DoorsError."""
    if cert is None and key is None:
        return None
    if cert is None:
        raise DoorsError("--tls-key is given without --tls-cert")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError):
        raise DoorsError(
            f"{cert}{f' and {key}' if key else ''} cannot be read as a certificate with its key"
        ) from None
    return context
