"""Makes an address safe to print, log and show.

Better to hide too much than too little: a password may hold / ? or @ that its owner forgot to
escape, so where the address does not parse cleanly, everything before the last @ goes.
"""

import re

_SCHEME = re.compile(r"([^:/?#@]*://+|[A-Za-z][A-Za-z0-9+.-]+:/*)(.*)", re.DOTALL)
_HOST = re.compile(r"([^@:\[\]]*|\[[0-9A-Fa-f:.]+\])(:\d+)?")
# Some cameras take what is asked for in the path, and call a password `pass`, `loginpas` or `p`.
_SECRET_VALUE = re.compile(
    r"([?&;#/=](?:[^=&;#/]*(?:token|ticket|key|auth|pas|psw|pw|jwt|secret|sig|cred)[^=&;#/]*"
    r"|p|login|code)=)[^&;#]*",
    re.IGNORECASE,
)


def safe_url(uri: str) -> str:
    """Return `uri` without user name and password, and with `***` for secret query values."""
    match = _SCHEME.fullmatch(uri)
    if match is None:
        return _SECRET_VALUE.sub(r"\1***", uri)
    scheme, rest = match.groups()
    head = re.split(r"[?#]", rest, maxsplit=1)[0]
    query = rest[len(head) :]
    authority = _authority(rest)
    odd = not authority or not _HOST.fullmatch(authority)
    if "@" in rest and (odd or "@" in head or (":" in authority and "/" not in head)):
        rest = rest.rpartition("@")[2]
    elif "@" in query:
        rest = f"{head}{query[0]}***"
    authority = _authority(rest)
    if not _HOST.fullmatch(authority):
        rest = authority.partition(":")[0] + ":***" + rest[len(authority) :]
    return scheme + _SECRET_VALUE.sub(r"\1***", rest)


def _authority(rest: str) -> str:
    return re.split(r"[/?#]", rest, maxsplit=1)[0]
