"""Logins of people: what lets a browser in that cannot send a header with what it opens.

Whoever has shown a token is given a cookie that stands in for it, for half a day or until the
program ends.
"""

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from stream.tickets import Caller

COOKIE = "ivl_login"
VALID_S = 12 * 3600.0
MAX_LOGINS = 1024


@dataclass(frozen=True, slots=True)
class _Login:
    text: str
    caller: Caller
    until_s: float


class Logins:
    """Those that hold, oldest first; used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: list[_Login] = []

    def give(self, caller: Caller) -> str:
        """A new login for `caller`; of more than MAX_LOGINS the oldest no longer holds."""
        login = _Login(secrets.token_urlsafe(32), caller, self._clock() + VALID_S)
        self._given = [*self._given[1 - MAX_LOGINS :], login]
        return login.text

    def caller(self, text: str) -> Caller:
        """Whom a login stands for, who can do nothing if it is none."""
        now_s, caller = self._clock(), Caller()
        self._given = [login for login in self._given if now_s < login.until_s]
        # All are compared, each in constant time: how long it takes tells nothing of a login.
        for login in self._given:
            if hmac.compare_digest(login.text.encode(), text.encode(errors="replace")):
                caller = login.caller
        return caller
