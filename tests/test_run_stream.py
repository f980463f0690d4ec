"""The program as a user meets it: one sentence for what is wrong, and a clean end for the rest."""

import fcntl
import gc
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import run_stream

ROOT = Path(run_stream.__file__).parent
SHORT = "synthetic:112x112@25#12"
PATIENCE_S = 60.0


def refused(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run with bad input; the one line that is printed, on stderr, with exit code 2."""
    try:
        code: Any = run_stream.main(list(argv))
    except SystemExit as leave:
        code = leave.code
    captured = capfd.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def test_missing_source_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Without --source the program says that it is needed."""
    assert "--source" in refused(capfd)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("/no/such/clip.mp4", "There is no file"),
        ("gopher://camera/live", "not supported"),
        ("synthetic:huge", "not a synthetic source"),
        ("", "No source was named"),
    ],
)
def test_source_that_cannot_be_opened_is_one_line(
    capfd: pytest.CaptureFixture[str], source: str, says: str
) -> None:
    """A missing file, an unknown scheme, a bad pattern, nothing at all."""
    assert says in refused(capfd, "--source", source)


def test_a_missing_camera_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    """It is said what is missing and when it is tried again; the duration still ends the run."""
    assert run_stream.main(["--source", "99", "--duration", "3", "--json"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    states = [line for line in lines if line["type"] == "SourceState"]
    assert [s["condition"] for s in states[:2]] == ["connecting", "reconnecting"]
    assert "camera 99: it is not there" in states[1]["detail"] and states[1]["retry_s"] <= 0.5
    assert states[-1]["condition"] == "ended" and "asked for are over" in states[-1]["detail"]
    assert lines[-1]["processed"] == 0


def test_text_file_is_not_a_video(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file that holds no video is said to be none."""
    text = tmp_path / "notes.log"
    text.write_text("nothing to see\n" * 50)
    assert "not a video" in refused(capfd, "--source", str(text))


def test_bad_model_folder_is_one_line(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A folder without a model, or no folder, is named."""
    assert str(tmp_path) in refused(capfd, "--source", SHORT, "--model", str(tmp_path))
    nowhere = str(tmp_path / "nowhere")
    assert nowhere in refused(capfd, "--source", SHORT, "--model", nowhere)
    assert "random:tiny" in refused(capfd, "--source", SHORT, "--model", "random:huge")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--fps", "-5", "at most 240"),
        ("--fps", "0", "at most 240"),
        ("--fps", "1e9", "at most 240"),
        ("--fps", "nan", "at most 240"),
        ("--fps", "fast", "not a number"),
        ("--ask", "", "empty"),
        ("--ask", "5s:  ", "empty"),
        ("--ask", "x" * 4097, "4097 characters"),
        ("--ask", "what \udcff?", "not valid"),
        ("--frame-size", "big", "not a size"),
        ("--frame-size", "²x²", "not a size"),
        ("--frame-size", "100x100", "multiples of 28"),
        ("--frame-size", "0x0", "multiples of 28"),
        ("--frame-size", "28000x28000", "the limit is"),
        ("--device", "abacus", "known are"),
        ("--precision", "fp8", "needs a GPU"),
        ("--precision", "fp2", "invalid choice"),
        ("--pace", "slow", "slow"),
        ("--on-full", "explode", "explode"),
        ("--duration", "0", "above 0"),
        ("--deadline", "-1", "above 0"),
        ("--max-tokens", "0", "1 to 2048"),
        ("--max-tokens", "many", "many"),
        ("--temperature", "7", "temperature"),
        ("--top-p", "0", "top_p"),
        ("--threads", "-1", "whole number"),
        ("--threads", "99999999999999999999", "whole number"),
        ("--max-answers", "0", "whole number"),
        ("--max-answers", "65", "whole number"),
        ("--max-context", "-3", "whole number"),
        ("--max-context", "0", "whole number"),
        ("--start", "-1", "seconds"),
        ("--start", "inf", "seconds"),
        ("--image-fps", "0", "at most 240"),
        ("--hwaccel", "nonsense", "nonsense"),
        ("--nonsense", "1", "--nonsense"),
    ],
)
def test_bad_option_is_one_line(
    capfd: pytest.CaptureFixture[str], option: str, value: str, says: str
) -> None:
    """An option out of its range is refused in one line that says what is wrong."""
    assert says in refused(capfd, "--source", SHORT, option, value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Asking for a GPU that torch does not see says what to use instead."""
    assert "--device cpu" in refused(capfd, "--source", SHORT, "--device", "cuda")


def test_the_collector_passes_over_what_was_loaded_only_while_streams_run() -> None:
    """Afterwards it is as it was, so that all is taken down in order."""
    before, thresholds = gc.get_freeze_count(), gc.get_threshold()
    with run_stream.collecting_only_new_garbage():
        assert gc.get_freeze_count() > before + 10_000
        # What has grown old since is looked at before there is much of it.
        collections = gc.get_stats()[2]["collections"]
        gc.set_threshold(700, 10, 1)
        kept: list[list[object]] = []
        for _ in range(20_000):
            kept.append([kept])
        gc.set_threshold(*thresholds)
        assert gc.get_stats()[2]["collections"] > collections
    assert gc.get_freeze_count() == 0


def test_more_questions_than_can_wait_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Too many --ask are refused before anything is watched."""
    argv = ["--source", SHORT, "--json"] + ["--ask", "5s: ?"] * 65
    assert run_stream.main(argv) == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1 and "64 questions" in captured.err


def test_json_run_answers_every_question(capfd: pytest.CaptureFixture[str]) -> None:
    """Every line is JSON, each --ask has one end, a summary is last, and the exit code is 0."""
    asks = ["What is it?", "0.2s: And now?", "end: What was it?", "9s: Never?"]
    argv = ["--source", SHORT, "--pace", "max", "--json", "--max-tokens", "4"]
    argv += ["--model", "random:tiny"]
    assert run_stream.main(argv + [part for ask in asks for part in ("--ask", ask)]) == 0
    captured = capfd.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    ends = {line["question"]: line["status"] for line in lines if line["type"] == "AnswerDone"}
    assert ends == {
        "What is it?": "incomplete",
        "And now?": "incomplete",
        "What was it?": "incomplete",
        "Never?": "cancelled",
    }
    kinds = Counter(line["type"] for line in lines)
    assert kinds["AnswerDone"] == kinds["QuestionAccepted"] == 4
    assert kinds["FrameDone"] == kinds["FrameAdmitted"] == 12
    assert lines[-1]["type"] == "Summary"
    assert (lines[-1]["read"], lines[-1]["processed"]) == (12, 12)
    assert captured.err == ""


@pytest.mark.parametrize(("answers", "in_turns"), [(1, True), (2, False)])
def test_so_many_questions_are_answered_at_once(
    capfd: pytest.CaptureFixture[str], answers: int, in_turns: bool
) -> None:
    questions = ["--ask", "0s: This?", "--ask", "0s: That?", "--max-tokens", "8"]
    model = ["--model", "random:tiny", "--pace", "max", "--max-answers", str(answers)]
    assert run_stream.main(["--source", SHORT, "--json", *questions, *model]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    said = [line["question_id"] for line in lines if line["type"] == "AnswerDelta"]
    assert set(said) == {1, 2} and (said == sorted(said)) == in_turns


def test_plain_run_says_that_the_model_is_untrained(capfd: pytest.CaptureFixture[str]) -> None:
    """A run of a made-up model says so first, and ends with memory and verdict."""
    argv = ["--source", SHORT, "--pace", "max", "--ask", "end: What?", "--max-tokens", "3"]
    argv += ["--model", "random:tiny"]
    assert run_stream.main(argv) == 0
    captured = capfd.readouterr()
    assert "UNTRAINED" in captured.out.splitlines()[0]
    assert "(cut at 3 tokens)" not in captured.out and "cut at 3 tokens" in captured.out
    assert "12 read, 12 processed" in captured.out
    assert captured.err == ""


def test_source_that_fails_midway_is_exit_code_1(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that ended in failure ends the program with 1, after its summary."""
    from sources.errors import SourceOpenError
    from tests.stream_helpers import ScriptedSource, video_frame

    source = ScriptedSource([video_frame(0), SourceOpenError("It was unplugged.")])
    monkeypatch.setattr(run_stream, "open_source", lambda *_, **__: source)
    assert run_stream.main(["--source", "x", "--json", "--pace", "max"]) == 1
    captured = capfd.readouterr()
    assert "It was unplugged." in captured.out
    assert json.loads(captured.out.splitlines()[-1])["type"] == "Summary"


def test_a_server_whose_engine_died_ends(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be asked of it any more: whoever watches over it is to start it anew."""
    step = run_stream.Engine.step
    steps = iter(range(50))

    def dying(engine: run_stream.Engine) -> bool:
        if next(steps, None) is None:
            raise RuntimeError("the device is lost")
        return step(engine)

    monkeypatch.setattr(run_stream.Engine, "step", dying)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    codes: list[int] = []

    def main() -> None:
        codes.append(
            run_stream.main(
                ["--source", SHORT.partition("#")[0], "--json", "--serve", "127.0.0.1:0"]
            )
        )

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # it is not the main thread
    running = threading.Thread(target=main, daemon=True)
    running.start()
    running.join(PATIENCE_S)
    assert codes == [1]
    assert "the device is lost" in capfd.readouterr().out


def start(*argv: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "run_stream.py", "--source", "synthetic:112x112@25", *argv],
        cwd=ROOT,
        text=True,
        **more,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_run_cleanly(number: signal.Signals) -> None:
    """Open questions are said to be cancelled, the summary is printed, the exit code is 0."""
    process = start(
        "--json", "--ask", "900s: Never?", "--ask", "end: Last?",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(json.loads(line))
        if seen[-1]["type"] == "FrameDone":
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    seen += [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0 and err == ""
    ends = [line for line in seen if line["type"] == "AnswerDone"]
    assert [(e["status"], e["reason"]) for e in ends] == [
        ("cancelled", "the program was stopped")
    ] * 2
    assert seen[-1]["type"] == "Summary"


def test_a_second_signal_ends_a_run_whose_output_is_not_read() -> None:
    pipe, theirs = os.pipe()
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    process = start("--json", "--pace", "max", "--model", "random:tiny", stdout=theirs)
    os.close(theirs)

    def waiting() -> int:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

    before, until_s = -1, time.monotonic() + PATIENCE_S
    while not 3000 < waiting() == before and time.monotonic() < until_s:
        before = waiting()
        time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 130
    os.close(pipe)


def test_run_ends_when_nobody_reads_it_any_more() -> None:
    """A reader that goes away, as `head` does, ends an endless run without a traceback."""
    for argv in (["--json"], []):
        process = start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        process.wait(PATIENCE_S)
        process.stderr.close()
        assert "Traceback" not in err and "Error" not in err


@pytest.mark.parametrize("argv", [["--json"], []])
def test_a_full_disk_ends_a_run_without_a_word(argv: list[str]) -> None:
    """There is no place for one. Nor is there any input, as under some supervisors."""
    with open("/dev/full", "w") as full:
        more = {"stdout": full, "stderr": subprocess.PIPE}
        process = start("--model", "random:tiny", *argv, preexec_fn=lambda: os.close(0), **more)
        assert process.communicate(timeout=PATIENCE_S)[1] == "" and process.returncode == 0


def test_typed_question_on_a_terminal() -> None:
    """On a terminal a question can be typed, is answered, and Ctrl-C gives the terminal back."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)[3]
    process = start(
        "--model", "random:tiny", "--max-tokens", "3", stdin=slave, stdout=slave, stderr=slave,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "200"},
    )  # fmt: skip
    shown = Screen(master)
    try:
        assert shown.has("ask> ")
        os.write(master, "Grüß wen?\r".encode())
        assert shown.has("cut at 3 tokens")
        process.send_signal(signal.SIGINT)
        assert shown.has("FPS")
        assert process.wait(PATIENCE_S) == 0
        assert termios.tcgetattr(slave)[3] == before
        assert "Grüß wen?" in shown.text and "Traceback" not in shown.text
    finally:
        process.kill()
        shown.close()
        os.close(slave)
        os.close(master)


class Screen:
    """Collects what a program writes to a terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._data = b""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        return self._data.decode("utf-8", "replace")

    def has(self, part: str) -> bool:
        """Wait until a part was written."""
        deadline = time.monotonic() + PATIENCE_S
        while part not in self.text and time.monotonic() < deadline:
            self._closed.wait(0.02)
        return part in self.text

    def close(self) -> None:
        self._closed.set()
        self._thread.join(PATIENCE_S)

    def _read(self) -> None:
        while not self._closed.is_set():
            if select.select([self._master], [], [], 0.05)[0]:
                self._data += os.read(self._master, 65536)
