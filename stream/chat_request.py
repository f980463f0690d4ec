"""A request for a chat completion as OpenAI's API has it, as far as a live stream can answer it.

The stream is named by a content part, `ivl://streams/NAME`; no other address is ever opened. What
is not supported is refused by name: whoever asks for it must not believe to have got it.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from stream.api_errors import ApiError
from stream.dialogues import Turn
from stream.events import STREAM_NAME
from stream.question import (
    MAX_ANSWER_TOKENS,
    QuestionRefusedError,
    SamplingParams,
    check_question,
    is_unicode,
)

_ADDRESS = re.compile(f"ivl://streams/({STREAM_NAME.pattern})")
_MAX_MESSAGES, _MAX_PARTS = 64, 16

NumTokens = Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS)]


class _Part(BaseModel):
    """Strict, and without the fields that are null: those say nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}


class Text(_Part):
    type: Literal["text"]
    text: str

    @field_validator("text")
    @classmethod
    def _is_unicode(cls, text: str) -> str:
        # What the assistant said is no question, and is checked nowhere else: half a character
        # would end the engine, which cannot make tokens of it.
        if not is_unicode(text):
            raise PydanticCustomError("unicode", "this is not valid Unicode text")
        return text


class VideoUrl(_Part):
    url: str

    @field_validator("url")
    @classmethod
    def _is_a_stream(cls, url: str) -> str:
        match = _ADDRESS.fullmatch(url)
        if match is None:
            raise PydanticCustomError(
                "media", "only live streams can be asked about, as ivl://streams/NAME"
            )
        return match[1]


class Video(_Part):
    """A live stream; `video_url.url` becomes its name."""

    type: Literal["video_url"]
    video_url: VideoUrl


class Message(_Part):
    """What one of the two said; text alone is as good as one part of text."""

    role: Literal["user", "assistant"]
    content: Annotated[
        list[Annotated[Text | Video, Field(discriminator="type")]],
        Field(min_length=1, max_length=_MAX_PARTS),
    ]

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content


class StreamOptions(_Part):
    include_usage: bool = False


class ChatRequest(_Part):
    """The body of a request."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=_MAX_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: NumTokens | None = None
    max_completion_tokens: NumTokens | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    n: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Chat:
    """What a request asks: the stream, None for the only one; the dialogue, and the question."""

    stream: str | None
    turns: list[Turn]
    question: str
    sampling: SamplingParams


def read_chat(request: ChatRequest) -> Chat:
    """What is asked; raises ApiError if the messages are no dialogue or the fields do not agree."""
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise ApiError(400, "bad_request", "give max_tokens or max_completion_tokens", "max_tokens")
    if request.stream_options.include_usage and not request.stream:
        raise ApiError(400, "bad_request", "stream_options goes with stream", "stream_options")
    texts = []
    for index, message in enumerate(request.messages):
        if message.role != ("user", "assistant")[index % 2]:
            raise _refusal("user and assistant take turns, the user first")
        texts.append("\n".join(part.text for part in message.content if isinstance(part, Text)))
    if len(texts) % 2 == 0:
        raise _refusal("the last message is the user's question")
    try:
        *asked, question = [check_question(text) for text in texts[::2]]
    except QuestionRefusedError as error:
        raise _refusal(str(error)) from None
    sampling = SamplingParams(
        request.max_tokens or request.max_completion_tokens or SamplingParams().max_tokens,
        request.temperature,
        request.top_p,
        request.seed,
    )
    turns = list(zip(asked, texts[1::2], strict=True))
    return Chat(_only_stream(request), turns, question, sampling)


def _only_stream(request: ChatRequest) -> str | None:
    named = {
        part.video_url.url
        for message in request.messages
        for part in message.content
        if isinstance(part, Video)
    }
    if len(named) > 1:
        raise _refusal("all of them are about one stream")
    return next(iter(named), None)


def _refusal(sentence: str) -> ApiError:
    return ApiError(400, "bad_request", f"messages: {sentence}", "messages")
