"""Runs the RTSP camera of rtsp_server.py as a process that tests can freeze, kill and restart."""

import functools
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Self

PYTHON = "/usr/bin/python3"
# Isolated: with its folder on the path, the server would import our modules for its own.
COMMAND = [PYTHON, "-I", str(Path(__file__).with_name("rtsp_server.py"))]
START_S = 20.0


@functools.cache
def missing_rtsp() -> str | None:
    """Return what keeps the RTSP camera from running here, or None if nothing does."""
    if not Path(PYTHON).exists():
        return f"the RTSP camera needs {PYTHON}, as Debian has it"
    check = subprocess.run([*COMMAND, "--check"], capture_output=True, text=True, timeout=60.0)
    if check.returncode:
        return f"the RTSP camera can't run: {check.stderr.strip()[-200:]}"
    if packages := check.stdout.strip():
        return (
            "the RTSP camera needs Debian packages: "
            f"apt-get install --no-install-recommends {packages}"
        )
    return None


class RtspServer:
    """An RTSP camera at `url` from entering to leaving; its process may die and come back.

    Pictures carry their number (tests.rig.barcode), unless an H.264 MP4 `file` is served.
    With a `user`, it asks for the password, as a digest if `digest`.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (320, 240),
        fps: int = 25,
        gop: int = 25,
        file: Path | None = None,
        user: str = "",
        password: str = "",
        digest: bool = False,
    ) -> None:
        self.port = 0
        # The monotonic clock at picture 0: picture n is due n / fps later.
        self.started_s = 0.0
        self._options = ["--fps", str(fps), "--gop", str(gop)]
        if file:
            self._options += ["--file", str(file)]
        if user:
            self._options += ["--user", user, "--password", password]
        if digest:
            self._options += ["--digest"]
        self._size = size
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The stream's URL, without a password."""
        return f"rtsp://127.0.0.1:{self.port}/live"

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End the process with SIGKILL, stopped or not; nothing happens if it has ended."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def stop(self) -> None:
        """Freeze the process: its connections stay, and nothing comes."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let a frozen process go on."""
        self._signal(signal.SIGCONT)

    def restart(self, size: tuple[int, int] | None = None) -> None:
        """Kill the process and start it on the same port, with pictures of another `size`."""
        self.kill()
        self._size = size or self._size
        self._start()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the RTSP camera does not run")
        os.killpg(self._process.pid, number)

    def _start(self) -> None:
        width, height = self._size
        self._process = subprocess.Popen(
            [*COMMAND, *self._options, "--size", f"{width}x{height}", "--port", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout
        ready = select.select([self._process.stdout], [], [], START_S)[0]
        line = self._process.stdout.readline() if ready else "nothing came"
        if not line.startswith("PORT "):
            rest = self._process.stdout.read() if ready else ""
            self.kill()
            raise RuntimeError(f"the RTSP camera did not start: {line}{rest}")
        _, port, _, started = line.split()
        self.port, self.started_s = int(port), float(started)
