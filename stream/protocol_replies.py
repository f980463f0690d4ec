"""The messages of ivl.v1 that tell what happened, and what is wrong with what clients send."""

from pydantic import ValidationError

from stream.events import AnswerDone, SourceState
from stream.monitor import MonitorReport
from stream.protocol import (
    AnswerDoneMessage,
    ErrorCode,
    ErrorInfo,
    ErrorMessage,
    FramesSeen,
    LatencyMs,
    Stats,
    StreamState,
)
from stream.verdict import verdict

_SENTENCE_CHARS = 300


def answer_done(id: str, number: int, event: AnswerDone) -> AnswerDoneMessage:
    return AnswerDoneMessage(
        id=id,
        number=number,
        stream=event.stream,
        status=event.status,
        reason=event.reason,
        text=event.answer,
        tokens=event.num_tokens,
        frames=FramesSeen(
            count=event.num_frames, last_seq=event.last_seq, last_pts_s=event.last_pts_s
        ),
        latency_ms=LatencyMs(
            queue=_in_ms(event.queue_s),
            first_token=_in_ms(event.time_to_first_token_s),
            total=_in_ms(event.total_s) or 0.0,
            frame_age=_in_ms(event.frame_age_s),
        ),
    )


def stream_state(state: SourceState) -> StreamState:
    return StreamState(
        stream=state.stream,
        state=state.condition,
        detail=state.detail,
        epoch=state.epoch,
        lasted_s=state.lasted_s,
        gap_s=state.gap_s,
        retry_s=state.retry_s,
    )


def stats_of(name: str, report: MonitorReport, state_bytes: int, memory_bytes: int) -> Stats:
    return Stats(
        stream=name,
        fps=report.fps,
        target_fps=report.target_fps,
        due=report.due,
        on_time_ratio=report.on_time_ratio,
        worst_window=report.worst_window,
        latency_ms_p50=_in_ms(report.latency_p50_s),
        latency_ms_p95=_in_ms(report.latency_p95_s),
        latency_ms_p99=_in_ms(report.latency_p99_s),
        read=report.read,
        processed=report.processed,
        dropped=report.dropped,
        recent_fps=report.recent_fps,
        recent_latency_ms=_in_ms(report.recent_latency_s),
        stages_ms={stage: round(1e3 * p50, 2) for stage, (p50, _) in report.stage_s.items()},
        state_bytes=state_bytes,
        memory_bytes=memory_bytes,
        holds=report.holds,
        verdict=verdict(report),
    )


def invalid(error: ValidationError) -> ErrorMessage:
    """What is wrong with a message, without repeating what may be long or not printable."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    kind, where = first["type"], ".".join(map(str, first["loc"][1:]))
    if kind == "json_invalid":
        return refusal("bad_json", "This is not one JSON object.")
    if kind == "union_tag_invalid":
        return refusal("unknown_type", "This type of message is not known.", "type")
    if kind == "union_tag_not_found":
        return refusal("bad_request", "A message is an object with a type.", "type")
    code: ErrorCode = "too_large" if kind == "string_too_long" else "bad_request"
    what = "this field is not known" if kind == "extra_forbidden" else first["msg"]
    where = sentence("".join(c for c in where if c.isprintable()))[:80]
    return refusal(code, sentence(f"{where}: {what}."), where)


def refusal(
    code: ErrorCode,
    message: str,
    param: str | None = None,
    *,
    id: str | None = None,
    stream: str | None = None,
    retry_after_s: float | None = None,
    fatal: bool = False,
) -> ErrorMessage:
    retry_after_ms = None if retry_after_s is None else max(1, round(retry_after_s * 1e3))
    info = ErrorInfo(code=code, message=message, param=param, retry_after_ms=retry_after_ms)
    return ErrorMessage(error=info, id=id, stream=stream, fatal=fatal)


def sentence(text: str) -> str:
    return text if len(text) <= _SENTENCE_CHARS else text[: _SENTENCE_CHARS - 1] + "…"


def _in_ms(seconds: float | None) -> float | None:
    """Seconds as milliseconds to a hundredth; None, and what never ends, stay None."""
    if seconds is None or seconds == float("inf"):
        return None
    return round(seconds * 1e3, 2)
