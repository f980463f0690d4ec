"""The log as JSON, one object a line on stderr, for programs that collect it."""

import json
import logging
import queue
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TextIO

from sources.redact import safe_url
from sources.status import SourceCondition
from stream.events import Event, SourceState
from ui.process_title import without_secrets

# More than are ever waiting, but when nobody reads them.
MAX_WAITING = 10_000
END_WITHIN_S = 1.0
_TROUBLES = (SourceCondition.STALLED, SourceCondition.RECONNECTING, SourceCondition.FAILED)
_ADDRESS = re.compile(r"\S*(?:://|\?)\S*")

_log = logging.getLogger("stream")


class JsonFormatter(logging.Formatter):
    """A record as one line: time, level, logger, message, and if there are any stream, exception.

    Addresses lose their passwords, wherever they come from.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            arguments: of the command line, whose secrets may be repeated in what is logged.
        """
        super().__init__()
        self._arguments = arguments

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._safe(record.getMessage()),
        }
        if (stream := getattr(record, "stream", None)) is not None:
            line["stream"] = stream
        if record.exc_info:
            line["exception"] = self._safe(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)

    def _safe(self, text: str) -> str:
        text = without_secrets(text, self._arguments)
        return _ADDRESS.sub(lambda match: safe_url(match[0]), text)


class _Lines(logging.Handler):
    """Formats records at once, for another to write: who logs must not wait for who reads."""

    def __init__(self, waiting: queue.Queue[str | None]) -> None:
        super().__init__()
        self._waiting = waiting

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.put_nowait(self.format(record))
        except queue.Full:
            pass  # nobody reads them
        except Exception:
            self.handleError(record)


@contextmanager
def json_log(arguments: Sequence[str] = (), stream: TextIO | None = None) -> Iterator[None]:
    """Log so meanwhile, from INFO on, also warnings and what ends a thread.

    Args:
        arguments: of the command line, as in JsonFormatter.
        stream: where to; stderr by default.
    """
    waiting: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
    handler = _Lines(waiting)
    handler.setFormatter(JsonFormatter(arguments))
    to = stream or sys.stderr
    writer = threading.Thread(target=_write, args=(waiting, to), name="log", daemon=True)
    root, level, hook = logging.getLogger(), logging.getLogger().level, threading.excepthook
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread
    writer.start()
    try:
        yield
    finally:
        threading.excepthook = hook
        logging.captureWarnings(False)
        root.setLevel(level)
        root.removeHandler(handler)
        with suppress(queue.Full):
            waiting.put(None, timeout=END_WITHIN_S)
        writer.join(END_WITHIN_S)


def _write(waiting: queue.Queue[str | None], stream: TextIO) -> None:
    with suppress(OSError):  # whoever read it has gone
        while (line := waiting.get()) is not None:
            stream.write(line + "\n")
            stream.flush()


def log_event(event: Event) -> None:
    """Log what a source is doing whenever that changes; of other events there are too many."""
    if isinstance(event, SourceState):
        level = logging.WARNING if event.condition in _TROUBLES else logging.INFO
        of = {"stream": event.stream}
        _log.log(level, "source %s: %s", event.condition, event.detail, extra=of)


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    name = "a thread" if ended.thread is None else f"the thread {ended.thread.name}"
    _log.error("%s has failed", name, exc_info=ended.exc_value)
