"""Logins of people: what lets a browser in that cannot send a header with what it opens.

Whoever has shown a token is given a cookie that stands in for it, for half a day or until the
program ends.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stream.tickets import Caller, Pass, find_pass, new_text

COOKIE = "ivl_login"
VALID_S = 12 * 3600.0
# Of each caller, so that none can end those of others.
MAX_LOGINS = 1024


@dataclass(frozen=True, slots=True)
class Login(Pass):
    """A pass that may be let go of before its time."""

    ended: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Logins:
    """Those that hold, oldest first; used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: list[Login] = []

    def give(self, caller: Caller) -> str:
        """A new login for `caller`; of more than MAX_LOGINS their oldest no longer holds."""
        own = [login for login in self._given if login.caller == caller]
        if len(own) >= MAX_LOGINS:
            self.end(own[0].text)
        self._given.append(Login(new_text(), caller, self._clock() + VALID_S))
        return self._given[-1].text

    def end(self, text: str) -> None:
        """Let a login no longer hold."""
        login = find_pass(self._given, text)
        if login is not None:
            self._given.remove(login)
            login.ended.set()

    def caller(self, text: str) -> Caller:
        """Whom a login stands for, who can do nothing if it is none."""
        now_s = self._clock()
        self._given = [login for login in self._given if now_s < login.until_s]
        login = find_pass(self._given, text)
        return Caller() if login is None else login.caller

    async def wait_end(self, text: str) -> None:
        """Return once a login no longer holds."""
        login = find_pass(self._given, text)
        if login is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(login.ended.wait(), login.until_s - self._clock())
