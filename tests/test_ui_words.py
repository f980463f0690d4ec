"""A stream's figures in words, and text that cannot steer the terminal."""

import io
import math

import pytest
from rich.console import Console, RenderableType

from stream.events import AnswerDone, AnswerStatus, SourceCondition, SourceState
from stream.monitor import MonitorReport
from stream.verdict import verdict
from ui.words import (
    answer_text,
    answers_table,
    drops,
    frames_table,
    milliseconds,
    percent,
    printable,
    source_words,
    status_line,
)


def report(**changes: object) -> MonitorReport:
    values: dict[str, object] = {
        "target_fps": 25.0,
        "fps": 24.96,
        "read": 1010,
        "processed": 1000,
        "due": 1002,
        "on_time": 1000,
        "starved": 0,
        "on_time_ratio": 1000 / 1002,
        "worst_window": 0.984,
        "dropped": {"overrun": 2, "paced": 8},
        "latency_p50_s": 0.0123,
        "latency_p95_s": 0.02,
        "latency_p99_s": math.inf,
        "jitter_s": 0.002,
        "recent_fps": 25.0,
        "recent_latency_s": 0.02,
        "stage_s": {"decode": (0.001, 0.002), "decoder": (0.008, 0.01)},
    }
    return MonitorReport(**(values | changes))  # type: ignore[arg-type]


def done(**changes: object) -> AnswerDone:
    values: dict[str, object] = {
        "stream": "s",
        "question_id": 1,
        "asker": "local",
        "question": "What is it?",
        "status": AnswerStatus.COMPLETED,
        "reason": "",
        "answer": "A cat.",
        "num_frames": 3,
        "last_seq": 2,
        "last_pts_s": 12.34,
        "frame_age_s": 0.01,
        "queue_s": 0.0,
        "time_to_first_token_s": 0.25,
        "total_s": 1.5,
        "num_tokens": 3,
    }
    return AnswerDone(**(values | changes))  # type: ignore[arg-type]


def shown(renderable: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(renderable)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_durations_and_shares() -> None:
    """Milliseconds to a tenth, per cent rounded down to one, a dash for nothing, a word for inf."""
    assert [milliseconds(s) for s in (0.01234, None, math.inf)] == ["12.3 ms", "-", "dropped"]
    assert [percent(r) for r in (0.98999, 1.0, None)] == ["98.9 %", "100.0 %", "-"]


def test_drops_are_named_by_reason() -> None:
    """Reasons in order, those that never came left out."""
    assert drops({"paced": 12, "overrun": 3, "closed": 0}) == "3 overrun, 12 paced"
    assert drops({}) == "none"


def test_verdict_on_a_rate_that_was_held() -> None:
    """The rate, the share of due frames on time, and the worst ten seconds."""
    assert verdict(report()) == (
        "25 FPS HELD: 99.8 % of 1002 due frames on time, 98.4 % in the worst 10 s."
    )


def test_verdict_on_a_rate_that_was_not_held() -> None:
    """Too few on time, or too few in one window, is NOT HELD."""
    assert verdict(report(on_time_ratio=0.98)).startswith("25 FPS NOT HELD: 98.0 %")
    assert verdict(report(worst_window=0.95)).startswith("25 FPS NOT HELD")


def test_verdict_on_a_short_stream_and_a_slow_source() -> None:
    """Without a whole window none is named; ticks the source had nothing for are."""
    sentence = verdict(report(worst_window=None, starved=40))
    assert sentence == (
        "25 FPS HELD: 99.8 % of 1002 due frames on time. The source had no frame at 40 ticks."
    )


def test_verdict_without_rate_or_frames() -> None:
    """There is nothing to hold without a target, and nothing to say without a frame."""
    no_target = report(target_fps=None, on_time_ratio=None, worst_window=None)
    assert verdict(no_target) == "No target rate: 25.0 frames a second were processed."
    assert verdict(report(processed=0)) == "No frame was processed."


def test_status_line_says_it_all_in_one_line() -> None:
    """Rate, latencies, on-time share, drops, state and questions; red when the rate is lost."""
    live = SourceState("s", SourceCondition.LIVE, "", 100.0)
    line = status_line(report(), 5_000_000, 2, live, 112.4)
    assert line.plain == (
        "live for 12 s | 25.0/25 fps | frame p50/p95/p99 12.3 ms / 20.0 ms / dropped | "
        "on time 99.8 % | dropped 2 overrun, 8 paced | state 5.0 MB | open questions 2"
    )
    assert line.style == "green"
    assert status_line(report(on_time_ratio=0.5), 0, 0, None, 0.0).style == "red"


def test_frames_table_has_every_stage_that_was_measured() -> None:
    """One row a stage, and the frames' count below."""
    text = shown(frames_table(report()))
    assert "decode " in text and "decoder" in text and "vision" not in text
    assert "1010 read, 1000 processed, dropped: 2 overrun, 8 paced" in text


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x1b]0;title\x07", "\r", "\x9b31m", "\u202e"])
def test_answer_and_question_cannot_steer_the_terminal(hostile: str) -> None:
    """Control characters of an answer, a question or a reason never reach the terminal."""
    event = done(
        answer=f"a{hostile}b",
        question=f"q{hostile}",
        status=AnswerStatus.FAILED,
        reason=f"r{hostile}",
    )
    for text in (shown(answer_text(event, trained=True)), shown(answers_table([event]))):
        assert not set(hostile) & set(text) & set("\x1b\x07\r\x9b\u202e")
    assert (
        printable(f"a{hostile}b")
        == "a" + "".join(c if c.isprintable() else " " for c in hostile) + "b"
    )


def test_brackets_are_text_not_markup() -> None:
    """A question or a reason in brackets is shown as it is."""
    event = done(question="[/b] what?", status=AnswerStatus.FAILED, reason="bad shape [/x]")
    text = shown(answers_table([event])) + shown(answer_text(event, trained=True))
    assert text.count("[/b] what?") == 2 and text.count("bad shape [/x]") == 2


def test_untrained_answer_is_called_so() -> None:
    """An answer of made-up weights is marked; one of trained weights is not."""
    assert "(untrained weights) A cat." in answer_text(done(), trained=False).plain
    assert answer_text(done(), trained=True).plain == "[12.3 s] What is it?\n  A cat."


def test_unfinished_answer_says_how_it_ended() -> None:
    """Status and reason follow what was said, and nothing seen is a dash."""
    event = done(
        status=AnswerStatus.CANCELLED, reason="the stream ended", answer="", last_pts_s=None
    )
    text = answer_text(event, trained=True).plain
    assert text == "[-] What is it?\n   (cancelled: the stream ended)"


def test_source_is_what_it_does_and_for_how_long() -> None:
    """How often it was found again belongs to it; an end has no duration."""
    retrying = SourceState("s", SourceCondition.RECONNECTING, "lost", 10.0, epoch=2)
    assert source_words(retrying, 13.2) == "reconnecting for 3 s, found again 2 times"
    live = SourceState("s", SourceCondition.LIVE, "", 10.0, epoch=1)
    assert source_words(live, 10.0) == "live for 0 s, found again 1 time"
    assert source_words(SourceState("s", SourceCondition.ENDED, "", 1.0), 5.0) == "ended"
    assert source_words(None, 5.0) == "not started"
