"""The log as JSON: a record a line, without secrets, and never in anybody's way."""

import io
import json
import logging
import threading
import warnings
from typing import Any

import pytest

from sources.status import SourceCondition
from stream.events import SourceState
from tests.stream_helpers import PATIENCE_S
from ui import json_log as module
from ui.json_log import json_log, log_event

LOG = logging.getLogger("some.where")


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    written = io.StringIO()
    with json_log(stream=written):
        LOG.info("two\nlines of %s", "größe")
        LOG.debug("nobody wants to know")
    (line,) = lines(written)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "logger": "some.where", "message": "two\nlines of größe"}


def test_failures_come_with_their_traceback() -> None:
    """Also those that end a thread, which would print it otherwise."""
    written = io.StringIO()

    def fail() -> None:
        raise RuntimeError("at rtsp://me:hunter2@camera/live")

    with json_log(stream=written):
        try:
            fail()
        except RuntimeError:
            LOG.exception("it failed")
        thread = threading.Thread(target=fail, name="reader")
        thread.start()
        thread.join(PATIENCE_S)
    caught, ended = lines(written)
    assert (caught["level"], caught["message"]) == ("error", "it failed")
    assert ended["message"] == "the thread reader has failed"
    for line in (caught, ended):
        assert "RuntimeError: at rtsp://camera/live" in line["exception"]
    assert "hunter2" not in written.getvalue()


@pytest.mark.parametrize(
    "said",
    [
        "cannot open rtsp://me:hunter2@camera/live",
        "(rtsp://camera/live?password=hunter2)",
        "GET /v1/stream?ticket=hunter2 HTTP/1.1",
        "the option --source=rtsp://me:hunter2 with space@camera/live",
    ],
)
def test_secrets_are_not_logged(said: str) -> None:
    written = io.StringIO()
    with json_log(["--source=rtsp://me:hunter2 with space@camera/live"], written):
        LOG.warning(said)
        LOG.warning("it was %s", said)
    assert len(lines(written)) == 2 and "hunter2" not in written.getvalue()


def test_warnings_are_logged_and_all_is_as_before_when_it_ends() -> None:
    def how_it_is() -> tuple[object, ...]:
        root = logging.getLogger()
        return root.level, list(root.handlers), threading.excepthook, warnings.showwarning

    before, written = how_it_is(), io.StringIO()
    with json_log(stream=written):
        warnings.showwarning("old-fashioned", UserWarning, "file.py", 1)
    (line,) = lines(written)
    assert line["level"] == "warning" and "old-fashioned" in line["message"]
    assert how_it_is() == before


@pytest.mark.parametrize(
    ("condition", "level"),
    [(SourceCondition.LIVE, "info"), (SourceCondition.RECONNECTING, "warning")],
)
def test_what_a_source_is_doing_is_logged(condition: SourceCondition, level: str) -> None:
    written = io.StringIO()
    with json_log(stream=written):
        log_event(SourceState("door", condition, "because", 1.0))
    (line,) = lines(written)
    assert (line["level"], line["stream"]) == (level, "door")
    assert line["message"] == f"source {condition}: because"


def test_nobody_waits_for_whoever_reads_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for is forgotten."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    reads = threading.Event()

    class Unread(io.StringIO):
        def write(self, text: str) -> int:
            assert reads.wait(PATIENCE_S)
            return super().write(text)

    written = Unread()
    with json_log(stream=written):
        for number in range(100):
            LOG.info("number %d", number)
        reads.set()
    assert 3 <= len(lines(written)) <= 4


def test_a_log_that_is_never_read_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    monkeypatch.setattr(module, "END_WITHIN_S", 0.01)
    read_at_last = threading.Event()

    class Unread(io.StringIO):
        def write(self, text: str) -> int:
            assert read_at_last.wait(PATIENCE_S)
            return super().write(text)

    written = Unread()
    with json_log(stream=written):
        for _ in range(3):
            LOG.info("x")
    assert written.getvalue() == ""
    read_at_last.set()


def test_who_reads_the_log_may_go(capfd: pytest.CaptureFixture[str]) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with json_log(stream=Gone()):
        for _ in range(3):
            LOG.info("x")
    assert capfd.readouterr().err == ""
