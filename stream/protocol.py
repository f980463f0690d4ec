"""The messages of `ivl.v1`: questions about live streams over a websocket.

A text frame is one JSON object with a `type`. What clients send is checked strictly: a field that
is not known is refused, so that a misspelt one is never silently ignored. Clients must ignore
fields that they do not know: within v1 only such are added. All times in `_ms` are milliseconds, in
`_s` seconds; `pts_s` is on the stream's own clock, 0 at its first frame.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from sources.status import SourceCondition
from stream.events import STREAM_NAME, AnswerStatus
from stream.question import MAX_ANSWER_TOKENS, MAX_QUESTION_CHARS

PROTOCOL: Literal["ivl.v1"] = "ivl.v1"
# A question that is too long is answered by its own error, so text may be somewhat longer here.
_TEXT_CHARS = 4 * MAX_QUESTION_CHARS

StreamName = Annotated[str, StringConstraints(pattern=f"^{STREAM_NAME.pattern}$")]
QueryId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,64}$")]
Channel = Literal["state", "stats"]
ErrorCode = Literal[
    "bad_json",
    "bad_request",
    "unknown_type",
    "unauthorized",
    "forbidden",
    "not_found",
    "duplicate_id",
    "already_done",
    "queue_full",
    "rate_limited",
    "too_large",
    "bad_picture",
    "draining",
    "internal",
]


class ClientMessage(BaseModel):
    """What clients send."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SessionUpdate(ClientMessage):
    """Sets what later messages may leave out, or takes up a session whose connection was lost.

    `resume_token` is that of the lost session. Every `answer.done` with a number above `after` is
    sent again, and questions that are still open go on.
    """

    type: Literal["session.update"]
    default_stream: StreamName | None = None
    resume_token: Annotated[str, StringConstraints(max_length=128)] | None = None
    after: Annotated[int, Field(ge=0)] = 0


class StreamSubscribe(ClientMessage):
    """Asks for `stream.state` whenever it changes, or for `stats` every so often."""

    type: Literal["stream.subscribe"]
    stream: StreamName
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=2, strict=False)]
    stats_interval_ms: Annotated[int, Field(ge=200, le=3_600_000)] = 1000


class StreamUnsubscribe(ClientMessage):
    type: Literal["stream.unsubscribe"]
    stream: StreamName


class QueryCreate(ClientMessage):
    """Asks a question; `id` is the client's own, and never used twice in a session."""

    type: Literal["query.create"]
    id: QueryId
    text: Annotated[str, StringConstraints(max_length=_TEXT_CHARS)]
    stream: StreamName | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS)] = 64
    deadline_ms: Annotated[int, Field(ge=1, le=3_600_000)] | None = None


class QueryCancel(ClientMessage):
    type: Literal["query.cancel"]
    id: QueryId


class Ping(ClientMessage):
    """Is answered by `pong` with the same `t`."""

    type: Literal["ping"]
    t: Annotated[float, Field(allow_inf_nan=False)] = 0.0


AnyClientMessage = (
    SessionUpdate | StreamSubscribe | StreamUnsubscribe | QueryCreate | QueryCancel | Ping
)
CLIENT_MESSAGES: TypeAdapter[AnyClientMessage] = TypeAdapter(
    Annotated[AnyClientMessage, Field(discriminator="type")]
)


class ServerMessage(BaseModel):
    """What the server sends; as JSON without the fields that are None."""

    model_config = ConfigDict(frozen=True)

    def to_json(self) -> str:
        return self.model_dump_json(exclude_none=True)


class LimitsInfo(BaseModel):
    """What one session may do at most."""

    open_queries: int
    queries_per_s: float
    query_burst: int
    question_chars: int = MAX_QUESTION_CHARS
    answer_tokens: int = MAX_ANSWER_TOKENS
    message_bytes: int
    resume_s: float


class StreamInfo(BaseModel):
    """A stream that can be asked about."""

    name: str
    live: bool
    state: SourceCondition
    width: int | None = None
    height: int | None = None
    target_fps: float | None = None


class SessionCreated(ServerMessage):
    """The first message. `resume_token` takes the session up on another connection.

    `server` is another one whenever the program was started anew.
    """

    type: Literal["session.created"] = "session.created"
    session: str
    server: str = ""
    protocol: Literal["ivl.v1"] = PROTOCOL
    server_version: str
    model: str
    trained: bool
    resume_token: str
    limits: LimitsInfo
    streams: list[StreamInfo]


class SessionUpdated(ServerMessage):
    """`resumed` tells whether an earlier session was taken up; its token is valid again."""

    type: Literal["session.updated"] = "session.updated"
    session: str
    resume_token: str
    default_stream: str | None = None
    resumed: bool = False


class StreamState(ServerMessage):
    """What a source is doing, and why; `gap_s` was without a picture, `retry_s` is to wait."""

    type: Literal["stream.state"] = "stream.state"
    stream: str
    state: SourceCondition
    detail: str
    epoch: int
    lasted_s: float | None = None
    gap_s: float | None = None
    retry_s: float | None = None


class QueryAccepted(ServerMessage):
    """Exactly one `answer.done` with this id will follow."""

    type: Literal["query.accepted"] = "query.accepted"
    id: str
    stream: str
    open_queries: int


class AnswerDeltaMessage(ServerMessage):
    """More of an answer; `seq` is how many of its characters came before, so that a gap shows."""

    type: Literal["answer.delta"] = "answer.delta"
    id: str
    seq: int
    delta: str


class FramesSeen(BaseModel):
    """Which frames an answer knows: how many the stream had seen, and the newest of them."""

    count: int
    last_seq: int | None = None
    last_pts_s: float | None = None


class LatencyMs(BaseModel):
    """From the asking: to the fork of the stream's state, the first token, the end.

    `frame_age` is how old the newest frame was at the fork.
    """

    queue: float | None = None
    first_token: float | None = None
    total: float
    frame_age: float | None = None


class AnswerDoneMessage(ServerMessage):
    """The end of an accepted question; `number` counts these in a session from 1."""

    type: Literal["answer.done"] = "answer.done"
    id: str
    number: int
    stream: str
    status: AnswerStatus
    reason: str
    text: str
    tokens: int
    frames: FramesSeen
    latency_ms: LatencyMs


class Stats(ServerMessage):
    """How a stream keeps up since it began; latencies are from arrival to committed state.

    `recent_fps` and `recent_latency_ms`, the longest, are of the last second; `stages_ms` are
    medians by stage. `state_bytes` is what the stream remembers, `memory_bytes` what the whole
    server holds. `holds` tells whether the target rate is held, and `verdict` says so.
    """

    type: Literal["stats"] = "stats"
    stream: str
    fps: float
    target_fps: float | None = None
    due: int
    on_time_ratio: float | None = None
    worst_window: float | None = None
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    latency_ms_p99: float | None = None
    read: int
    processed: int
    dropped: dict[str, int]
    recent_fps: float = 0.0
    recent_latency_ms: float | None = None
    stages_ms: dict[str, float] = Field(default_factory=dict)
    state_bytes: int = 0
    memory_bytes: int = 0
    holds: bool | None = None
    verdict: str = ""


class Pong(ServerMessage):
    type: Literal["pong"] = "pong"
    t: float


class IngestReady(ServerMessage):
    """Pictures may be pushed: so many before the first is answered."""

    type: Literal["ingest.ready"] = "ingest.ready"
    stream: str
    credit: int


class FrameAck(ServerMessage):
    """A picture was taken, the one with this number from 1, and its credit is given back."""

    type: Literal["frame.ack"] = "frame.ack"
    taken: int


class GoingAway(ServerMessage):
    """The server ends in so long; no more questions are accepted."""

    type: Literal["session.going_away"] = "session.going_away"
    time_left_ms: int
    reason: str


class ErrorInfo(BaseModel):
    """`param` names the field at fault."""

    code: ErrorCode
    message: str
    param: str | None = None
    retry_after_ms: int | None = None


class ErrorMessage(ServerMessage):
    """Something was refused. Fatal: the server closes.

    `id` is that of the question it is about; `stream` what could not be subscribed to.
    """

    type: Literal["error"] = "error"
    error: ErrorInfo
    id: str | None = None
    stream: str | None = None
    fatal: bool = False


AnyServerMessage = (
    SessionCreated
    | SessionUpdated
    | StreamState
    | QueryAccepted
    | AnswerDeltaMessage
    | AnswerDoneMessage
    | Stats
    | Pong
    | IngestReady
    | FrameAck
    | GoingAway
    | ErrorMessage
)
SERVER_MESSAGES: TypeAdapter[AnyServerMessage] = TypeAdapter(
    Annotated[AnyServerMessage, Field(discriminator="type")]
)
