"""What all tests share."""

import io
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from stream.engine import Engine, EngineConfig
from stream.steps import Steps
from tests.browser import browser_page
from tests.stream_helpers import FRAME_TOKENS, loaded, running

__all__ = ["browser_page"]  # a fixture of every test that names it


def pytest_configure(config: pytest.Config) -> None:
    # The suite runs many small products: one thread is fastest, and repeatable.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, torch sees none here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Every test starts alike, whatever the one before, or the program in it, has set."""
    torch.manual_seed(42)
    torch.set_grad_enabled(True)
    threads = torch.get_num_threads()
    handlers = [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    yield
    torch.set_num_threads(threads)
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One that runs, with room for two streams."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=2))
    with running(engine):
        yield engine


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where a terminal that takes itself for a real one draws."""
    from rich.console import Console  # which machines that only measure may lack

    drawn = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(
        "ui.terminal.Console",
        lambda **more: Console(file=drawn, force_terminal=True, width=200, **more),
    )
    return drawn


@pytest.fixture
def slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token takes so long that answers can be watched and stopped."""
    decode = Steps.decode

    def slowly(self: Steps, ids: Sequence[int], slots: Sequence[int]) -> Any:
        time.sleep(0.03)
        return decode(self, ids, slots)

    monkeypatch.setattr(Steps, "decode", slowly)
