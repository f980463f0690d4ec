"""A canary for passwords: whatever happens to a run, what was typed shows up nowhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.http_servers import MjpegServer
from tests.rig.rtsp import RtspServer, missing_rtsp
from tests.rig.titles import watch_titles

ROOT = Path(__file__).parent.parent
CANARY = "hunter2canary"
needs_rtsp = pytest.mark.skipif(missing_rtsp() is not None, reason=str(missing_rtsp()))


def canaries(source: str, *more: str) -> str:
    """Run for some seconds; what of the canary was seen in output and process titles."""
    run = subprocess.Popen(
        [sys.executable, "run_stream.py", "--source", source, "--duration", "2", *more],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    titles, parts = watch_titles(run, CANARY)
    assert run.stdout is not None
    with run.stdout:
        output = run.stdout.read()
    assert parts >= 2 and "127.0.0.1" in output, output
    seen = [text for text in (output, *titles) if CANARY in text]
    return "\n".join(seen)


@pytest.mark.parametrize("form", ["--json", "--fps=25", "--log-json"])
def test_a_source_that_is_not_there_tells_no_password(form: str) -> None:
    assert canaries(f"rtsp://admin:{CANARY}@127.0.0.1:1/live?token={CANARY}", form) == ""


def test_a_source_that_is_lost_tells_no_password() -> None:
    with MjpegServer() as server:
        url = server.url.replace("http://", f"http://admin:{CANARY}@") + f"?api_key={CANARY}"
        server.status(500)
        assert canaries(url, "--json") == ""
        server.status(200)
        assert canaries(url, "--json") == ""


@needs_rtsp
def test_a_wrong_password_is_not_told() -> None:
    with RtspServer(user="admin", password="right") as camera:
        assert canaries(f"rtsp://admin:{CANARY}@127.0.0.1:{camera.port}/live", "--json") == ""
