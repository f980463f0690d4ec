"""The page of the live demo: what is on it, and what its buttons do.

Gradio lays it out and carries the dialogue. The live picture, the numbers and the timeline are
drawn by scripts in `ui/static`, from websockets of their own: through Gradio's events pictures and
answers would hold each other up.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sources.errors import SourceError
from stream.question import MAX_QUESTION_CHARS, QuestionRefusedError
from stream.registry import StreamRegistry
from stream.tickets import Caller
from stream.visitors import Grant, NoRoomError, Visitors
from ui.chat import Chat, Exchange, messages, read_history, turn

STATIC = Path(__file__).parent / "static"
CLIP_TYPES = [".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi"]
Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Texts:
    """What the page says of the model, what may be asked, and what of an answer to a question."""

    introduction: str
    examples: tuple[str, ...]
    caution: Callable[[str], str] = lambda question: ""


@dataclass(frozen=True, slots=True)
class Parts:
    """The components that handlers read and change."""

    stream: gr.Dropdown
    chat: gr.Chatbot
    question: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    history: gr.BrowserState
    grant: gr.JSON


def make_page(registry: StreamRegistry, chat: Chat, visitors: Visitors, texts: Texts) -> gr.Blocks:
    """The page, for a server to mount."""
    with gr.Blocks(title="InfiniteVL Stream", analytics_enabled=False, fill_width=True) as page:
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                stream, question, ask, stop = _look_and_ask(registry.names, texts)
            with gr.Column(scale=2, min_width=320):
                shown = _answers_and_numbers()
        history = gr.BrowserState([], storage_key="ivl-history", secret="ivl")
        parts = Parts(stream, shown, question, ask, stop, history, gr.JSON(visible=False))
        _timeline(parts)
        _own_sources(parts, visitors)
        _dialogue(page, parts, chat)
        page.load(lambda kept: messages(read_history(kept)), [history], [shown]).then(
            None,
            [stream, history],
            None,
            js="(name, history) => import('/static/main.js').then(ivl => ivl.begin(name, history))",
        )
        stream.change(None, [stream], None, js="name => window.ivl?.watch(name)")
    return page


def _look_and_ask(
    names: list[str], texts: Texts
) -> tuple[gr.Dropdown, gr.Textbox, gr.Button, gr.Button]:
    """The picture and what is under it: which stream, the question, to ask and to stop."""
    stream = gr.Dropdown(names, value=next(iter(names), None), label="Stream")
    gr.HTML((STATIC / "live.html").read_text("utf-8"), elem_id="live")
    question = gr.Textbox(
        label="Ask about what is happening, or what has happened",
        placeholder="What do you see?",
        max_length=MAX_QUESTION_CHARS,
        max_lines=4,
        autofocus=True,
        elem_id="question",
    )
    with gr.Row():
        ask = gr.Button("Ask", variant="primary", elem_id="ask")
        stop = gr.Button("Stop the answer", variant="stop", visible=False)
    gr.Examples([[text] for text in texts.examples], question, label="For example")
    gr.Markdown(texts.introduction, elem_id="about")
    return stream, question, ask, stop


def _answers_and_numbers() -> gr.Chatbot:
    shown = gr.Chatbot(
        label="Questions and answers",
        height=380,
        render_markdown=False,
        feedback_options=None,
        buttons=["copy"],
        elem_id="chat",
        placeholder="Nobody has asked anything yet.",
    )
    gr.HTML((STATIC / "numbers.html").read_text("utf-8"), elem_id="numbers")
    return shown


def _dialogue(page: gr.Blocks, parts: Parts, chat: Chat) -> None:
    """Have questions asked and stopped."""

    async def ask(
        text: str, stream: str | None, kept: Any, request: gr.Request
    ) -> AsyncGenerator[Update]:
        history, visitor = read_history(kept), _visitor(request)
        try:
            answer = chat.ask(visitor, _caller(request).number, stream or "", text, history)
        except QuestionRefusedError as error:
            gr.Warning(str(error))
            yield {parts.question: text}
            return
        yield _asking(parts, history, text, "") | {parts.question: ""}
        async for said in answer:
            if isinstance(said, Exchange):
                history.append(said)
            else:
                yield _asking(parts, history, text, said)
        yield _at_rest(parts, history)

    def stop(request: gr.Request) -> None:
        chat.stop(_visitor(request))

    gr.on(
        [parts.question.submit, parts.ask.click],
        ask,
        [parts.question, parts.stream, parts.history],
        [parts.chat, parts.question, parts.ask, parts.stop, parts.history],
        show_progress="hidden",
        trigger_mode="multiple",
        concurrency_limit=None,
    ).then(None, [parts.history], None, js="history => window.ivl?.answered(history)")
    parts.stop.click(stop, None, None, queue=False)
    page.unload(stop)


def _asking(parts: Parts, history: list[Exchange], text: str, said: str) -> Update:
    return {
        parts.chat: messages(history) + turn(text, said or "…"),
        parts.ask: gr.update(visible=False),
        parts.stop: gr.update(visible=True),
    }


def _at_rest(parts: Parts, history: list[Exchange]) -> Update:
    return {
        parts.chat: messages(history),
        parts.ask: gr.update(visible=True),
        parts.stop: gr.update(visible=False),
        parts.history: [one.model_dump(mode="json") for one in history],
    }


def _timeline(parts: Parts) -> None:
    history, shown = parts.history, parts.chat
    with gr.Accordion("What happened while you watched", open=True):
        gr.HTML((STATIC / "timeline.html").read_text("utf-8"), elem_id="timeline")
        with gr.Row():
            for label, kind in (("Save as JSON", "json"), ("Save as Markdown", "md")):
                save = gr.Button(label, size="sm")
                save.click(None, [history], None, js=f"all => window.ivl?.save(all, '{kind}')")
            forget = gr.Button("Forget the dialogue", size="sm")
            forget.click(lambda: ([], []), None, [history, shown], queue=False)
            shown.clear(lambda: [], None, history, queue=False)


def _own_sources(parts: Parts, visitors: Visitors) -> None:
    """What a visitor may bring: each is watched in a stream of its own."""
    Opens = Coroutine[Any, Any, Grant]

    async def bring(open: Callable[[], Opens], what: str, request: gr.Request) -> Update:
        if "ingest" not in _caller(request).scopes:
            gr.Warning("Your token does not allow sources of your own.")
            return {}
        try:
            grant = await open()
        except (NoRoomError, SourceError) as error:
            gr.Warning(str(error))
            return {}
        choices = [*visitors.listed, (f"{what}, for you alone", grant.name)]
        return {
            parts.stream: gr.update(choices=choices, value=grant.name),
            parts.grant: {"name": grant.name, "fps": grant.fps},
        }

    async def camera(request: gr.Request) -> Update:
        return await bring(visitors.camera, "My camera", request)

    async def clip(file: str, request: gr.Request) -> Update:
        return await bring(lambda: visitors.clip(Path(file)), "My clip", request)

    async def address(url: str, request: gr.Request) -> Update:
        return await bring(lambda: visitors.address(url.strip()), "My address", request)

    outputs = [parts.stream, parts.grant]
    with gr.Accordion("Watch something of your own", open=False), gr.Row():
        begin = gr.Button("Use my camera", elem_id="camera")
        play = gr.UploadButton("Play a clip", file_types=CLIP_TYPES)
        if visitors.policy.hosts:
            url = gr.Textbox(label="Address", placeholder="rtsp://camera/live", max_lines=1)
            url.submit(address, url, outputs, show_progress="hidden")
    begin.click(
        camera, None, outputs, js="() => window.ivl?.askForCamera()", show_progress="hidden"
    ).success(None, [parts.grant], None, js="grant => window.ivl?.sendCamera(grant)")
    play.upload(clip, play, outputs, show_progress="hidden")


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)


def _caller(request: gr.Request) -> Caller:
    """Who was let in, by what stands before all routes."""
    assert request.request is not None
    caller: Caller = request.request.state.caller
    return caller
