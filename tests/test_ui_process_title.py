"""What is shown of a command line, by `ps` and by our own sentences, holds no password."""

import subprocess
import sys
from pathlib import Path

import pytest

import run_stream
from tests.rig.titles import watch_titles
from ui.arguments import parse_args
from ui.process_title import safe_argument

ROOT = Path(run_stream.__file__).parent
CANARY = "hunter2canary"
URL = f"rtsp://admin:{CANARY}@127.0.0.1:1/live?token={CANARY}"


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("door=rtsp://u:p@h/live", "door=rtsp://h/live"),
        ("--stream=door=rtsp://u:p@h/live", "--stream=door=rtsp://h/live"),
        ("door=rtsp:u:p@h/live", "door=rtsp:h/live"),
        ("--source=rtsp:u:p@h/live", "--source=rtsp:h/live"),
        ("door=http://h/?a=b&token=t", "door=http://h/?a=b&token=***"),
        ("front door=rtsp://u:p=q@h", "front door=rtsp://h"),
        ("--ask=@door 5s: What?", "--ask=@door 5s: What?"),
        ("assets/a=b.mp4", "assets/a=b.mp4"),
        ("", ""),
    ],
)
def test_names_before_an_address_are_seen_through(argument: str, shown: str) -> None:
    """The option's and the stream's stay, the password goes."""
    assert safe_argument(argument) == shown


@pytest.mark.parametrize(
    "argv",
    [
        ["--source", "0", URL],
        ["--source", "0", "--stream", f"door={URL}"],
        ["--strea", f"door={URL}"],
        [f"--strea=door={URL}"],
        ["--source", "0", f"--fps={URL}"],
        ["--source", "0", "--pace", f"rtsp://u:a'b\"c\\d e{CANARY}@h"],
        ["--source", "0", "--frame-size", f"rtsp://u:a'b\"c\\d e{CANARY}@h"],
        ["--stream", f"door={URL}", "--nonsense", f"yard={URL}"],
    ],
)
def test_refused_options_tell_no_password(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever on the line an address was written by mistake."""
    with pytest.raises(SystemExit):
        parse_args(argv)
    assert CANARY not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["apart", "joined", "file"])
def test_streams_that_are_not_there_tell_no_password(form: str, tmp_path: Path) -> None:
    """Neither in what is printed nor in the titles of the processes."""
    file = tmp_path / "streams.toml"
    file.write_text(f"[door]\nsource = '{URL}'\n")
    argv = {
        "apart": ["--stream", f"door={URL}"],
        "joined": [f"--stream=door={URL}"],
        "file": ["--streams", str(file)],
    }[form]
    run = subprocess.Popen(
        [sys.executable, "run_stream.py", *argv, "--duration", "1", "--model", "random:tiny"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    titles, _ = watch_titles(run, CANARY)
    assert run.stdout is not None
    with run.stdout:
        output = run.stdout.read()
    assert run.returncode == 0 and "127.0.0.1" in output
    assert [text for text in (output, *titles) if CANARY in text] == []


@pytest.mark.parametrize(
    "uri", [f"gopher://u:{CANARY}@h", f"rtsp://u:{CANARY}@h: /x", f"rtsp:u:{CANARY}@h"]
)
def test_source_that_cannot_be_opened_is_told_with_its_stream(
    uri: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The sentence names the stream and what is safe of the address."""
    file = tmp_path / "streams.toml"
    file.write_text(f"[door]\nsource = 'synthetic'\n[yard]\nsource = '{uri}'\n")
    for argv in (
        ["--stream", "door=synthetic", "--stream", f"yard={uri}"],
        ["--streams", str(file)],
    ):
        assert run_stream.main(argv) == 2
        error = capfd.readouterr().err
        assert error.startswith("error: stream yard: ") and error.count("\n") == 1
        assert CANARY not in error
