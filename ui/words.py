"""A stream's figures in words and tables: pure functions from reports to what is shown."""

import math

from rich.table import Table
from rich.text import Text

from stream.events import AnswerDone, AnswerStatus, SourceState
from stream.monitor import MonitorReport
from stream.registry import StreamOverview
from stream.verdict import percent

STAGES = ("decode", "wait", "preprocess", "vision", "decoder")


def milliseconds(seconds: float | None) -> str:
    """'12.3 ms'; '-' for nothing, 'dropped' for infinity."""
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.1f} ms" if math.isfinite(seconds) else "dropped"


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def drops(dropped: dict[str, int]) -> str:
    """'3 overrun, 12 paced', or 'none'."""
    return ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items()) if n) or "none"


def source_words(state: SourceState | None, now_s: float) -> str:
    """'live for 12 s, found again 2 times'; what the source is doing, and for how long."""
    if state is None:
        return "not started"
    words = str(state.condition)
    if not state.over:
        words += f" for {now_s - state.at_s:.0f} s"
    if state.epoch:
        words += f", found again {state.epoch} time{'s' if state.epoch > 1 else ''}"
    return words


def status_line(
    report: MonitorReport,
    state_bytes: int,
    open_questions: int,
    source: SourceState | None,
    now_s: float,
) -> Text:
    """The live line of one stream: source, rate, latency, on-time ratio, drops, and more."""
    latencies = (report.latency_p50_s, report.latency_p95_s, report.latency_p99_s)
    parts = [
        source_words(source, now_s),
        _rate(report),
        "frame p50/p95/p99 " + " / ".join(milliseconds(s) for s in latencies),
        f"on time {percent(report.on_time_ratio)}",
        f"dropped {drops(report.dropped)}",
        f"state {megabytes(state_bytes)}",
        f"open questions {open_questions}",
    ]
    return Text(" | ".join(parts), style=_colour(report))


def streams_line(streams: list[StreamOverview], state_bytes: int) -> Text:
    """The live line of several streams: name, source, rate and on-time ratio of each."""
    parts = []
    for stream in streams:
        report = stream.report
        condition = "not started" if stream.state is None else str(stream.state.condition)
        words = f"{stream.name} {condition} {_rate(report)}, on time "
        parts.append(Text(words + percent(report.on_time_ratio), style=_colour(report)))
    open_questions = sum(stream.open_questions for stream in streams)
    parts.append(Text(f"state {megabytes(state_bytes)}"))
    parts.append(Text(f"open questions {open_questions}"))
    return Text(" | ").join(parts)


def _rate(report: MonitorReport) -> str:
    target = "" if report.target_fps is None else f"/{report.target_fps:g}"
    return f"{report.fps:.1f}{target} fps"


def _colour(report: MonitorReport) -> str:
    return {True: "green", False: "red", None: "default"}[report.holds]


def frames_table(report: MonitorReport, stream: str = "") -> Table:
    """Frames, latencies by stage, drops; `stream` is named where there are several."""
    table = Table(title=f"Frames of {stream}" if stream else "Frames", title_justify="left")
    table.add_column("")
    table.add_column("p50", justify="right")
    table.add_column("p95", justify="right")
    table.add_column("p99", justify="right")
    latencies = (report.latency_p50_s, report.latency_p95_s, report.latency_p99_s)
    table.add_row("arrival to state", *map(milliseconds, latencies))
    for stage in STAGES:
        if stage in report.stage_s:
            p50, p95 = report.stage_s[stage]
            table.add_row(f"  {stage}", milliseconds(p50), milliseconds(p95), "")
    table.add_row("jitter between frames", "", milliseconds(report.jitter_s), "")
    table.caption = (
        f"{report.read} read, {report.processed} processed, dropped: {drops(report.dropped)}"
    )
    return table


def answers_table(answers: list[AnswerDone], *, several: bool = False) -> Table:
    """One row a question, with its stream where there are several."""
    table = Table(title="Questions", title_justify="left")
    if several:
        table.add_column("stream")
    for column in ("at", "question", "ended", "tokens"):
        table.add_column(column)
    table.add_column("first token", justify="right")
    table.add_column("total", justify="right")
    for done in answers:
        table.add_row(
            *([done.stream] if several else []),
            "-" if done.last_pts_s is None else f"{done.last_pts_s:.1f} s",
            Text(printable(done.question)),
            Text(ended(done)),
            str(done.num_tokens),
            milliseconds(done.time_to_first_token_s),
            milliseconds(done.total_s),
        )
    return table


def ended(done: AnswerDone) -> str:
    """'completed', or the status with its reason."""
    return f"{done.status}: {printable(done.reason)}" if done.reason else str(done.status)


def answer_text(done: AnswerDone, *, trained: bool, several: bool = False) -> Text:
    """A finished answer as it is printed, with what it saw, where of several, and how it ended."""
    at = "-" if done.last_pts_s is None else f"{done.last_pts_s:.1f} s"
    at = f"{done.stream} {at}" if several else at
    text = Text(f"[{at}] ", style="dim")
    text.append(printable(done.question), style="bold")
    text.append("\n  ")
    if done.answer:
        if not trained:
            text.append("(untrained weights) ", style="yellow")
        text.append(printable(done.answer))
    if done.status is not AnswerStatus.COMPLETED:
        text.append(f" ({ended(done)})", style="dim")
    return text


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters become spaces."""
    return "".join(c if c.isprintable() else " " for c in text)
