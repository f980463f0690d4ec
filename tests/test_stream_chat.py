"""Chat completions about a live stream, asked with OpenAI's own client."""

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from model.tokenizer import ChatTokenizer
from stream.asking import CallerLimits
from stream.doors import Doors
from stream.events import AnswerDelta, AnswerDone, AnswerStatus, QuestionAccepted
from tests.http_serving import MODEL, ServedHttp, serving_http
from tests.stream_helpers import PATIENCE_S


@pytest.fixture(scope="module")
def cams() -> Iterator[ServedHttp]:
    """Two streams."""
    with serving_http("cam", "door") as served:
        yield served


def ask(text: str, stream: str | None = "cam") -> list[ChatCompletionMessageParam]:
    """One question about a stream, in the only way that OpenAI's types do not know."""
    parts: list[Any] = [{"type": "text", "text": text}]
    if stream is not None:
        parts.insert(0, {"type": "video_url", "video_url": {"url": f"ivl://streams/{stream}"}})
    return [{"role": "user", "content": parts}]


def test_a_question_is_answered_in_one_piece(cams: ServedHttp) -> None:
    answer = cams.client().chat.completions.create(
        model=MODEL, messages=ask("What is it?", "door"), max_tokens=5
    )
    (choice,) = answer.choices
    (done,) = [e for e in cams.heard.of(AnswerDone) if e.question == "What is it?"]
    assert (choice.message.role, choice.message.content) == ("assistant", done.answer)
    assert choice.finish_reason in ("length", "stop") and done.stream == "door"
    assert answer.usage is not None and answer.usage.completion_tokens == done.num_tokens
    assert answer.usage.prompt_tokens == done.num_prompt_tokens > len("What is it?")
    assert answer.usage.total_tokens == done.num_prompt_tokens + done.num_tokens
    seen: Any = answer.model_extra
    assert seen["ivl"]["stream"] == "door"
    assert seen["ivl"]["frames"]["count"] == done.num_frames >= 1
    assert seen["ivl"]["latency_ms"]["total"] > 0.0


def test_a_question_is_answered_piece_by_piece(cams: ServedHttp) -> None:
    chunks = list(
        cams.client().chat.completions.create(
            model=MODEL,
            messages=ask("Piece by piece?"),
            max_completion_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    (done,) = [e for e in cams.heard.of(AnswerDone) if e.question == "Piece by piece?"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == done.answer
    reasons = [c.choices[0].finish_reason for c in chunks[:-1]]
    assert reasons[-1] in ("length", "stop") and set(reasons[:-1]) == {None}
    usage = chunks[-1].usage
    assert not chunks[-1].choices and usage is not None
    assert usage.completion_tokens == done.num_tokens
    assert {c.id for c in chunks} == {chunks[0].id} and {c.model for c in chunks} == {MODEL}


def test_without_being_asked_no_usage_is_told(cams: ServedHttp) -> None:
    chunks = list(
        cams.client().chat.completions.create(
            model=MODEL, messages=ask("Free?"), max_tokens=2, stream=True
        )
    )
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_earlier_turns_are_put_before_the_question(
    cams: ServedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else is: each request is an asker of its own."""
    before: dict[str, list[tuple[str, str]]] = {}
    original = ChatTokenizer.fitting

    def record(self: ChatTokenizer, question: str, dialogue: Any, limit: int) -> Any:
        before.setdefault(question, list(dialogue))
        return original(self, question, dialogue, limit)

    monkeypatch.setattr(ChatTokenizer, "fitting", record)
    client = cams.client()
    first = client.chat.completions.create(model=MODEL, messages=ask("One?"), max_tokens=3)
    said = first.choices[0].message
    messages: Any = [*ask("One?"), said, {"role": "user", "content": "Two?"}]
    client.chat.completions.create(model=MODEL, messages=messages, max_tokens=3)
    client.chat.completions.create(model=MODEL, messages=ask("Three?"), max_tokens=3)
    assert before == {"One?": [], "Two?": [("One?", said.content)], "Three?": []}


def test_sampling_is_as_it_is_asked_for(cams: ServedHttp) -> None:
    def answers(**sampling: Any) -> set[str | None]:
        create = cams.client().chat.completions.create
        texts = [
            create(model=MODEL, messages=ask("Draw?"), max_tokens=12, **sampling) for _ in range(2)
        ]
        return {text.choices[0].message.content for text in texts}

    same = answers(temperature=2.0, seed=1)
    assert len(same) == 1 and answers(temperature=2.0, seed=-2) != same
    assert answers(temperature=2.0, top_p=1e-9, seed=3) == answers(temperature=0.0) == answers()


def test_the_only_stream_need_not_be_named(cams: ServedHttp) -> None:
    with serving_http("only") as served:
        answer = served.client().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "What?"}], max_tokens=2
        )
        extra: Any = answer.model_extra
        assert extra["ivl"]["stream"] == "only"
    with pytest.raises(openai.BadRequestError, match="ivl://streams/door"):
        cams.client().chat.completions.create(model=MODEL, messages=ask("What?", None))


def test_the_model_is_listed(cams: ServedHttp) -> None:
    client = cams.client()
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="there is mini"):
        client.models.retrieve("gpt/4")


def test_what_is_not_there_is_not_found(cams: ServedHttp) -> None:
    client = cams.client()
    with pytest.raises(openai.NotFoundError, match="no stream 'yard'"):
        client.chat.completions.create(model=MODEL, messages=ask("What?", "yard"))
    with pytest.raises(openai.NotFoundError, match="there is mini"):
        client.chat.completions.create(model="gpt-5", messages=ask("What?"))
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="x")


def video(url: str) -> Any:
    return [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": url}}]}]


def two(first: str, second: str) -> Any:
    return [{"role": first, "content": "a"}, {"role": second, "content": "b"}]


@pytest.mark.parametrize(
    ("changed", "param", "says"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "not supported"),
        ({"logprobs": True}, "logprobs", "not supported"),
        ({"stop": ["x"]}, "stop", "not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"n": 2}, "n", "should be 1"),
        ({"temperature": 2.5}, "temperature", "less than or equal to 2"),
        ({"temperature": "1"}, "temperature", "valid number"),
        ({"top_p": 0.0}, "top_p", "greater than 0"),
        ({"seed": 1 << 64}, "seed", "less than"),
        ({"max_tokens": 0}, "max_tokens", "greater than"),
        ({"max_tokens": 5000}, "max_tokens", "less than"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "max_completion_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "goes with stream"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": two("system", "user")}, "messages[0].role", "'user' or 'assistant'"),
        ({"messages": two("user", "user")}, "messages", "take turns"),
        ({"messages": two("user", "assistant")}, "messages", "the last"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "empty"),
        ({"messages": [{"role": "user", "content": "x" * 4097}]}, "messages", "4097"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": video("http://169.254.169.254/x.mp4")}, None, "only live streams"),
        ({"messages": video("data:video/mp4;base64,AAAA")}, None, "only live streams"),
        ({"messages": video("file:///etc/passwd")}, None, "only live streams"),
        ({"messages": video("ivl://streams/cam\n")}, None, "only live streams"),
        ({"messages": video("ivl://streams/../x")}, None, "only live streams"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0]",
            "'text', 'video_url'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]},
            "messages[0].content[0].x",
            "not supported",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    cams: ServedHttp, changed: dict[str, Any], param: str | None, says: str
) -> None:
    request: Any = {"model": MODEL, "messages": ask("What?"), **changed}
    before = len(cams.heard.of(QuestionAccepted))
    with pytest.raises(openai.BadRequestError) as refused:
        cams.client().chat.completions.create(**request)
    assert says in refused.value.message and refused.value.type == "invalid_request_error"
    assert refused.value.param == (param or "messages[0].content[0].video_url.url")
    assert "169.254" not in refused.value.message
    assert len(cams.heard.of(QuestionAccepted)) == before


def test_half_a_character_in_what_was_said_before_does_not_reach_the_engine(
    cams: ServedHttp,
) -> None:
    """The engine would end: no tokens can be made of it."""
    said = "half \\ud83d"
    body = f'{{"role": "user", "content": "a"}}, {{"role": "assistant", "content": "{said}"}}'
    sent = f'{{"model": "{MODEL}", "messages": [{body}, {{"role": "user", "content": "b"}}]}}'
    answer = httpx.post(
        f"{cams.url}/chat/completions",
        content=sent,
        headers={"Content-Type": "application/json"},
        timeout=PATIENCE_S,
    )
    error = answer.json()["error"]
    assert answer.status_code == 400 and "not valid Unicode" in error["message"]
    assert error["param"] == "messages[1].content[0].text"


def test_two_streams_in_one_chat_are_refused(cams: ServedHttp) -> None:
    messages: Any = [*ask("a"), {"role": "assistant", "content": "b"}, *ask("c", "door")]
    with pytest.raises(openai.BadRequestError, match="about one stream"):
        cams.client().chat.completions.create(model=MODEL, messages=messages)


def test_too_many_open_questions_are_told_when_to_come_again() -> None:
    with serving_http(max_questions=1) as served:
        client = served.client()
        with client.chat.completions.create(
            model=MODEL, messages=ask("Long?"), max_tokens=2048, stream=True
        ) as long:
            next(iter(long))
            with pytest.raises(openai.RateLimitError) as refused:
                client.chat.completions.create(model=MODEL, messages=ask("Now?"))
        assert refused.value.code == "queue_full"
        assert refused.value.response.headers["retry-after"] == "1"


def test_who_asks_too_fast_is_told_when_to_come_again() -> None:
    """Each token has its own rate."""
    tokens = ("first-token-of-two", "second-token-of-two")
    doors = Doors({token: frozenset({"query"}) for token in tokens})
    slow = CallerLimits(questions_per_s=0.1, question_burst=2)
    with serving_http(doors=doors, limits=slow) as served:
        for token in tokens:
            client = served.client(token)
            for _ in range(2):
                client.chat.completions.create(model=MODEL, messages=ask("?"), max_tokens=1)
            with pytest.raises(openai.RateLimitError) as refused:
                client.chat.completions.create(model=MODEL, messages=ask("?"))
            assert refused.value.code == "rate_limited"
            assert 8 <= int(refused.value.response.headers["retry-after"]) <= 10


def test_one_caller_has_so_many_questions_open_at_most() -> None:
    with serving_http(limits=CallerLimits(open_questions=1)) as served:
        client = served.client()
        with (
            client.chat.completions.create(
                model=MODEL, messages=ask("Long?"), max_tokens=2048, stream=True
            ),
            pytest.raises(openai.RateLimitError, match="1 of your questions"),
        ):
            client.chat.completions.create(model=MODEL, messages=ask("Now?"))


def test_who_has_no_right_token_is_refused() -> None:
    doors = Doors({"a-token-that-is-right": frozenset({"query"})})
    with serving_http(doors=doors) as served:
        with pytest.raises(openai.AuthenticationError) as refused:
            served.client("wrong").chat.completions.create(model=MODEL, messages=ask("?"))
        assert refused.value.code == "unauthorized"
        served.client("a-token-that-is-right").models.list()


def end_of(served: ServedHttp, question: str) -> AnswerDone:
    """How a question ended; it has to end once."""

    def ends() -> list[AnswerDone]:
        return [e for e in served.heard.of(AnswerDone) if e.question == question]

    assert served.heard.wait_for(lambda: bool(ends()))
    (end,) = ends()
    return end


def test_who_stops_listening_cancels_the_question(cams: ServedHttp) -> None:
    with cams.client().chat.completions.create(
        model=MODEL, messages=ask("For ever?"), max_tokens=2048, stream=True
    ) as long:
        next(iter(long))
    assert end_of(cams, "For ever?").status is AnswerStatus.CANCELLED


def test_who_goes_while_the_answer_is_made_cancels_the_question(cams: ServedHttp) -> None:
    """Also one that would have got it in one piece, and one that breaks off without a word."""
    host, _, port = cams.url.removeprefix("http://").removesuffix("/v1").partition(":")
    for number, stream in enumerate((False, True)):
        question = f"Gone {number}?"
        body = {"model": MODEL, "messages": ask(question), "max_tokens": 2048, "stream": stream}
        with socket.create_connection((host, int(port))) as line:
            line.sendall(posted(body))
            assert cams.heard.wait_for(lambda: asked(cams, question))  # noqa: B023
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert end_of(cams, question).status is AnswerStatus.CANCELLED


def posted(body: dict[str, Any]) -> bytes:
    """A request for a chat completion, as it goes over the line."""
    data = json.dumps(body).encode()
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost"]
    head += ["Content-Type: application/json", f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(head).encode() + data


def asked(served: ServedHttp, question: str) -> bool:
    """Whether an answer to it has been begun."""
    numbers = {
        (e.stream, e.question_id)
        for e in served.heard.of(QuestionAccepted)
        if e.question == question
    }
    return any((e.stream, e.question_id) in numbers for e in served.heard.of(AnswerDelta))


def test_a_question_whose_stream_is_stopped_ends_as_an_error() -> None:
    with serving_http("cam", "door") as served:
        client = served.client()
        with client.chat.completions.create(
            model=MODEL, messages=ask("Long?"), max_tokens=2048, stream=True
        ) as long:
            next(iter(long))
            served.registry.get("cam").stop("no longer wanted")
            with pytest.raises(openai.APIError, match="no longer wanted"):
                list(long)
        with pytest.raises(openai.NotFoundError, match="stopped"):
            client.chat.completions.create(model=MODEL, messages=ask("More?"))
