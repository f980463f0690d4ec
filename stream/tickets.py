"""Tickets: what lets a web page in where it cannot send a header, once and soon.

Whoever has a token gets a ticket for it and hands it to a page, which connects with
`?ticket=...`. A ticket may be seen in an address, so it is worth nothing once it was used.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qs

VALID_S = 30.0
# Of each caller, so that none can take those of others.
MAX_TICKETS = 256


class TooManyTicketsError(Exception):
    """There are as many as may be; one is free again in `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"{MAX_TICKETS} tickets have not been used yet")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Caller:
    """Who came in: the number of the token from 1, 0 where none is needed, and what it allows."""

    number: int = 0
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Pass:
    """A text that stands for a caller until a time: a ticket, or a login."""

    text: str
    caller: Caller
    until_s: float


AnyPass = TypeVar("AnyPass", bound=Pass)


def new_text() -> str:
    """One that cannot be guessed."""
    return secrets.token_urlsafe(32)


def find_pass(given: Sequence[AnyPass], text: str) -> AnyPass | None:
    """The one with this text."""
    found = None
    # All are compared, each in constant time: how long it takes tells nothing of a text.
    for one in given:
        if hmac.compare_digest(one.text.encode(), text.encode(errors="replace")):
            found = one
    return found


class Tickets:
    """Those that were given and not used, oldest first; used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: list[Pass] = []

    def give(self, caller: Caller) -> str:
        """A new ticket that lets in once, as `caller`; raises TooManyTicketsError."""
        self._forget_old()
        now_s = self._clock()
        own = [ticket for ticket in self._given if ticket.caller == caller]
        if len(own) >= MAX_TICKETS:
            raise TooManyTicketsError(own[0].until_s - now_s)
        ticket = Pass(new_text(), caller, now_s + VALID_S)
        self._given.append(ticket)
        return ticket.text

    def take(self, text: str) -> Caller:
        """Whom a ticket stands for, who can do nothing if it is none; it is used up."""
        self._forget_old()
        ticket = find_pass(self._given, text)
        if ticket is None:
            return Caller()
        self._given.remove(ticket)
        return ticket.caller

    def _forget_old(self) -> None:
        now_s = self._clock()
        self._given = [ticket for ticket in self._given if now_s < ticket.until_s]


def ticket_of(query: str) -> str | None:
    """What `ticket=` says in the query of an address, the one way for a web page to name itself."""
    given = parse_qs(query).get("ticket", [])
    return given[0] if len(given) == 1 else None
