"""Answers as OpenAI's chat completions, whole or as server-sent events.

Beside OpenAI's fields, `ivl` says which stream was asked, which frames the answer knows, and how
long it took, as `answer.done` of ivl.v1 does.
"""

import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from stream.api_errors import ApiError
from stream.asking import OpenAnswer
from stream.events import AnswerDone, AnswerStatus
from stream.protocol_replies import answer_done

_FINISH_REASONS = {AnswerStatus.COMPLETED: "stop", AnswerStatus.INCOMPLETE: "length"}


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The frame of one answer: its name, the model's, and the second when it was begun."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, done: AnswerDone) -> dict[str, Any]:
        """An answer that has ended; raises ApiError if it did not end well."""
        message = {"role": "assistant", "content": done.answer}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason(done)}
        more = {"choices": [choice], "usage": _usage(done), "ivl": self._seen(done)}
        return self._object("chat.completion") | more

    async def events(self, answer: OpenAnswer, *, include_usage: bool) -> AsyncIterator[str]:
        """An answer as it is made: chunks, and at the end `[DONE]` or an error, never both."""
        no_usage: dict[str, Any] = {"usage": None} if include_usage else {}
        yield self._chunk({"role": "assistant", "content": ""}, None, no_usage)
        async for text in answer.texts():
            yield self._chunk({"content": text}, None, no_usage)
        done = await answer.end()
        try:
            reason = finish_reason(done)
        except ApiError as error:
            yield _event(error.body())
            return
        yield self._chunk({}, reason, no_usage | {"ivl": self._seen(done)})
        if include_usage:
            usage = {"choices": [], "usage": _usage(done)}
            yield _event(self._object("chat.completion.chunk") | usage)
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], reason: str | None, more: dict[str, Any]) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event(self._object("chat.completion.chunk") | {"choices": [choice]} | more)

    def _object(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _seen(self, done: AnswerDone) -> dict[str, Any]:
        message = answer_done(self.id, 1, done)
        return message.model_dump(mode="json", include={"stream", "frames", "latency_ms"})


def finish_reason(done: AnswerDone) -> str:
    """`stop` or `length`; raises ApiError for an answer that failed or was cancelled."""
    if done.status is AnswerStatus.CANCELLED:
        raise ApiError(503, "draining", f"the question was cancelled: {done.reason}")
    if done.status is AnswerStatus.FAILED:
        raise ApiError(500, "internal", f"the question failed: {done.reason}")
    return _FINISH_REASONS[done.status]


def _usage(done: AnswerDone) -> dict[str, int]:
    """Tokens of text: what the stream has seen was paid for before."""
    prompt, answer = done.num_prompt_tokens, done.num_tokens
    total = prompt + answer
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": total}


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
