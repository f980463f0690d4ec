"""Tokens: which are right, what they allow, and files of them that are refused."""

from pathlib import Path

import pytest

from stream.doors import Doors, DoorsError, read_tokens, server_tls
from stream.tickets import Caller

QUERY, BOTH = "query-only-token-1", "everything-token-22"


def written(folder: Path, text: str) -> Path:
    file = folder / "tokens"
    file.write_text(text)
    return file


def test_a_token_opens_what_its_scopes_say(tmp_path: Path) -> None:
    doors = read_tokens(written(tmp_path, f"# ours\n\n{QUERY}\n  {BOTH} query, admin\n"))
    assert doors.caller(f"Bearer {QUERY}") == Caller(1, frozenset({"query"}))
    assert doors.caller(f"bearer {BOTH}") == Caller(2, frozenset({"query", "admin"}))
    for wrong in (None, "", QUERY, f"Basic {QUERY}", f"Bearer {QUERY}x", "Bearer ", "Bearer é"):
        assert doors.caller(wrong) == Caller()


def test_without_tokens_all_is_open() -> None:
    assert Doors().caller(None).scopes == {"query", "ingest", "admin"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no token"),
        ("# none\n", "holds no token"),
        ("short\n", "line 1: a token has at least 16"),
        (f"{QUERY}\nlong-enough-token-é\n", "line 2"),
        (f"{QUERY} query,nonsense\n", "no scope 'nonsense'"),
    ],
)
def test_bad_files_are_refused_without_their_tokens(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DoorsError, match=says) as refused:
        read_tokens(written(tmp_path, text))
    assert QUERY not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DoorsError, match="cannot be read"):
        read_tokens(tmp_path / "none")
    with pytest.raises(DoorsError, match="certificate"):
        server_tls(tmp_path / "none.pem", None)
    with pytest.raises(DoorsError, match="--tls-cert"):
        server_tls(None, tmp_path / "key.pem")
    assert server_tls(None, None) is None


def test_tokens_are_not_shown() -> None:
    assert QUERY not in repr(Doors({QUERY: frozenset({"query"})}))
