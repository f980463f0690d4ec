"""What a session of ivl.v1 wants done: by whoever has the socket and the streams, at once."""

from dataclasses import dataclass

from stream.protocol import ServerMessage


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to the client."""

    message: ServerMessage


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a stream, and tell the session by `asked` or `refused` what came of it."""

    id: str
    stream: str
    text: str
    max_tokens: int
    deadline_s: float | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a question of a stream."""

    stream: str
    question_id: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Find the session of a token, and give it to `adopt`, or None if there is none."""

    token: str
    after: int


Effect = Send | Ask | Cancel | Resume
