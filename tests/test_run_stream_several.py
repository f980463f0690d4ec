"""The program with several streams: each is watched and answered for itself."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import run_stream
from sources.errors import SourceError
from tests.stream_helpers import ScriptedSource, scripted, video_frame

TINY = ["--model", "random:tiny", "--pace", "max", "--max-tokens", "4"]


def run(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and all lines of JSON."""
    code = run_stream.main([*argv, *TINY, "--json"])
    captured = capfd.readouterr()
    assert captured.err == ""
    return code, [json.loads(line) for line in captured.out.splitlines()]


def asking(*questions: str) -> list[str]:
    return [part for question in questions for part in ("--ask", question)]


def answers(lines: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    done = [line for line in lines if line["type"] == "AnswerDone"]
    return sorted((line["stream"], line["question"], line["status"]) for line in done)


def test_two_streams_are_answered_independently(capfd: pytest.CaptureFixture[str]) -> None:
    """Every frame and question counts for its own stream, and each has its summary."""
    code, lines = run(
        capfd,
        *("--stream", "door=synthetic:112x112@25#12", "--stream", "yard=synthetic:56x84@25#7"),
        *asking("end: First?", "@yard 0.1s: Second?", "@yard 0.4s: Never?", "@door 0.4s: Late?"),
    )
    assert code == 0
    assert answers(lines) == [
        ("door", "First?", "incomplete"),
        ("door", "Late?", "incomplete"),
        ("yard", "Never?", "cancelled"),
        ("yard", "Second?", "incomplete"),
    ]
    frames = Counter(line["stream"] for line in lines if line["type"] == "FrameDone")
    assert frames == {"door": 12, "yard": 7}
    last = [line for line in lines if line["type"] == "AnswerDone" and line["question"] == "First?"]
    assert last[0]["num_frames"] == 12
    assert [(s["type"], s["stream"], s["processed"]) for s in lines[-2:]] == [
        ("Summary", "door", 12),
        ("Summary", "yard", 7),
    ]


def test_streams_of_a_file(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each as its table says."""
    file = tmp_path / "streams.toml"
    file.write_text(
        "[door]\nsource = 'synthetic:56x56@25#9'\nduration = 0.2\n"
        "[yard]\nsource = 'synthetic:56x56@25#4'\n"
    )
    code, lines = run(capfd, "--streams", str(file), *asking("@yard end: What?"))
    assert code == 0 and answers(lines) == [("yard", "What?", "incomplete")]
    assert [(s["stream"], s["processed"]) for s in lines[-2:]] == [("door", 5), ("yard", 4)]


def test_one_stream_that_fails_is_exit_code_1_and_the_others_go_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To their last frame and question."""
    sources = {
        "bad": ScriptedSource([video_frame(0), SourceError("It was unplugged.")]),
        "good": scripted(40),
    }
    monkeypatch.setattr(run_stream, "open_source", lambda uri, _: sources[uri])
    code, lines = run(
        capfd,
        *("--stream", "bad=bad", "--stream", "good=good"),
        *asking("@good end: What?", "@bad 1s: What?"),
    )
    assert code == 1
    assert answers(lines) == [("bad", "What?", "cancelled"), ("good", "What?", "incomplete")]
    states = [line for line in lines if line["type"] == "SourceState"]
    ends = {s["stream"]: s["condition"] for s in states if s["condition"] in ("ended", "failed")}
    assert ends == {"bad": "failed", "good": "ended"}
    assert [(s["stream"], s["processed"]) for s in lines[-2:]] == [("bad", 1), ("good", 40)]


def test_source_remains_the_stream_named_stream(capfd: pytest.CaptureFixture[str]) -> None:
    """As one stream always was."""
    code, lines = run(capfd, "--source", "synthetic:56x56@25#3")
    assert code == 0 and {line["stream"] for line in lines} == {"stream"}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (asking("@dor 5s: What?"), "there is no stream 'dor'; known: door, yard"),
        (asking("5s: @yard What?"), "comes before the time"),
        (asking("@yard 5s:"), "the question is empty"),
        (["--stream", "door=1"], "two streams named 'door'"),
        (["--stream", "shed=/no/such.mp4"], "stream shed: There is no file /no/such.mp4"),
        (["--source", "0"], "not allowed with"),
    ],
)
def test_bad_input_is_one_line(
    capfd: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    """With exit code 2, before anything is watched."""
    try:
        code: Any = run_stream.main(
            ["--stream", "door=synthetic#1", "--stream", "yard=synthetic#1", *argv]
        )
    except SystemExit as leave:
        code = leave.code
    captured = capfd.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert says in captured.err
