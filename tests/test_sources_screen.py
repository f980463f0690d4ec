"""A screen is watched as a camera is: a real X server, here without a monitor."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sources.frame import VideoFrame
from sources.live import LiveSource
from sources.open import open_source
from sources.status import SourceCondition, SourceStatus
from tests.stream_helpers import PATIENCE_S

pytestmark = pytest.mark.skipif(
    shutil.which("Xvfb") is None, reason="the screen needs Debian's package xvfb"
)


@contextmanager
def screen(display: int | None = None) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A white screen of 320 x 240; its number and process."""
    theirs, ours = os.pipe()
    numbered = [f":{display}"] if display is not None else []
    options = ["-displayfd", str(ours), "-screen", "0", "320x240x24", "-wr", "-nolisten", "tcp"]
    server = subprocess.Popen(
        ["Xvfb", *numbered, *options], pass_fds=[ours], stderr=subprocess.DEVNULL
    )
    os.close(ours)
    try:
        with os.fdopen(theirs) as said:
            yield int(said.readline()), server
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def until_frame(source: LiveSource) -> tuple[VideoFrame, list[SourceCondition]]:
    conditions = []
    while not isinstance(item := source.read(), VideoFrame):
        assert item is not None
        if isinstance(item, SourceStatus):
            conditions.append(item.condition)
    return item, conditions


def test_a_screen_is_seen_lost_and_found_again() -> None:
    with screen() as (number, server):
        source = open_source(f"screen::{number}@10")
        assert isinstance(source, LiveSource)
        frame, conditions = until_frame(source)
        assert frame.image.shape == (240, 320, 3) and frame.image[:, :100].min() == 255
        assert conditions == [SourceCondition.CONNECTING, SourceCondition.LIVE]
        server.send_signal(signal.SIGKILL)
        server.wait(PATIENCE_S)
        while not isinstance(item := source.read(), SourceStatus):
            assert item is not None
        assert item.condition is SourceCondition.RECONNECTING
    with screen(number):
        frame, conditions = until_frame(source)
        assert conditions[-1] is SourceCondition.LIVE and frame.epoch == 1
        source.close()
