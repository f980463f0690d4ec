"""The page of the live demo: what is on it, and what its buttons do.

Gradio lays it out and carries the dialogue. The live picture, the numbers and the timeline are
drawn by scripts in `ui/static`, from websockets of their own: through Gradio's events pictures and
answers would hold each other up.
"""

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.state_holder import SessionState

from stream.question import MAX_QUESTION_CHARS, QuestionRefusedError, is_unicode
from stream.tickets import Caller
from ui.chat import Chat, Exchange, keep_history, messages, read_history, turn

# In the browser's storage; main.js removes it when its user logs out.
KEPT_AS = "ivl-history"
STATIC = Path(__file__).parent / "static"
Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Texts:
    """What the page says of the model, what may be asked, and what of an answer to a question."""

    introduction: str
    examples: tuple[str, ...]
    caution: Callable[[str], str] = lambda question: ""


@dataclass(frozen=True, slots=True)
class OwnSources:
    """What visitors may bring: so many at once, and whether addresses are taken."""

    places: int = 0
    addresses: bool = False


class Page(gr.Blocks):
    """Gradio's page, but that no event takes files, and that visits keep no components.

    Else a path or an address in place of a text would have Gradio read it and keep it for whoever
    asked. And of a component that was once updated in part it would keep another copy for each
    event, for as long as the page is open.
    """

    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> Any:
        if not all(map(_is_plain, inputs)):
            raise gr.Error("Text is taken here, no files.", print_exception=False)
        values = await super().preprocess_data(block_fn, inputs, state, explicit_call)
        if state is not None:
            for kept in (state.blocks_config.blocks, state.config_values):
                for copied in kept.keys() - self.blocks.keys():
                    del kept[copied]
        return values


@dataclass(frozen=True, slots=True)
class Parts:
    """The components that handlers read and change."""

    chat: gr.Chatbot
    question: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    history: gr.BrowserState
    watched: gr.Textbox


def make_page(
    names: list[str], chat: Chat, texts: Texts, own: OwnSources, *, logs_out: bool = False
) -> gr.Blocks:
    """The page, for a server to mount; `names` are of the streams that all may watch."""
    with Page(title="InfiniteVL Stream", analytics_enabled=False, fill_width=True) as page:
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                stream, question, ask, stop = _look_and_ask(names, texts)
            with gr.Column(scale=2, min_width=320):
                shown = _answers_and_numbers()
        history = gr.BrowserState([], storage_key=KEPT_AS, secret="ivl")
        watched = gr.Textbox(visible=False, max_length=64)
        parts = Parts(shown, question, ask, stop, history, watched)
        _timeline(parts, chat)
        if own.places:
            address = _static("address.html") if own.addresses else ""
            gr.HTML(_static("own.html").replace("<!-- address -->", address), elem_id="own")
        if logs_out:
            gr.HTML(_static("logout.html"), elem_id="logout")
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
    gr.HTML(_static("live.html"), elem_id="live")
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
    with gr.Row(elem_id="examples"):
        for text in texts.examples:
            example = gr.Button(text, size="sm", min_width=80)
            example.click(None, None, question, js=f"() => {json.dumps(text)}")
    gr.Markdown(texts.introduction, elem_id="about")
    return stream, question, ask, stop


def _answers_and_numbers() -> gr.Chatbot:
    shown = gr.Chatbot(
        label="Questions and answers",
        height=380,
        render_markdown=False,
        feedback_options=None,
        buttons=[],
        elem_id="chat",
        placeholder="Nobody has asked anything yet.",
    )
    gr.HTML(_static("numbers.html"), elem_id="numbers")
    return shown


def _dialogue(page: gr.Blocks, parts: Parts, chat: Chat) -> None:
    """Have questions asked and stopped."""

    async def ask(text: str, stream: str, kept: Any, request: gr.Request) -> AsyncGenerator[Update]:
        history, visitor = read_history(kept), _visitor(request)
        try:
            with chat.ask(
                visitor, _caller(request).number, stream or "", text or "", history
            ) as answer:
                yield _asking(parts, history, text, "") | {parts.question: ""}
                async for said in answer:
                    if isinstance(said, Exchange):
                        history.append(said)
                    else:
                        yield _asking(parts, history, text, said)
        except QuestionRefusedError as error:
            gr.Warning(str(error))
            yield {parts.question: text}
        else:
            yield _at_rest(parts, history)

    def stop(request: gr.Request) -> None:
        chat.stop(_visitor(request))

    gr.on(
        [parts.question.submit, parts.ask.click],
        ask,
        [parts.question, parts.watched, parts.history],
        [parts.chat, parts.question, parts.ask, parts.stop, parts.history],
        show_progress="hidden",
        trigger_mode="multiple",
        concurrency_limit=None,
        # What is watched may be a stream of the visitor's own, of which Gradio knows nothing.
        js="(text, _, history) => [text, window.ivl?.watched() ?? '', history]",
    ).then(None, [parts.history], None, js="history => window.ivl?.answered(history)")
    parts.stop.click(stop, None, None, concurrency_limit=None)
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
        parts.history: keep_history(history),
    }


def _timeline(parts: Parts, chat: Chat) -> None:
    history, shown = parts.history, parts.chat

    def forgets(request: gr.Request) -> tuple[list[Any], list[Any]]:
        chat.forget(_visitor(request))
        return [], []

    with gr.Accordion("What happened while you watched", open=True):
        gr.HTML(_static("timeline.html"), elem_id="timeline")
        with gr.Row():
            for label, kind in (("Save as JSON", "json"), ("Save as Markdown", "md")):
                save = gr.Button(label, size="sm")
                save.click(None, [history], None, js=f"all => window.ivl?.save(all, '{kind}')")
            forget = gr.Button("Forget the dialogue", size="sm")
            gr.on([forget.click, shown.clear], forgets, None, [history, shown]).then(
                None, None, None, js="() => window.ivl?.forget()"
            )


def _static(name: str) -> str:
    return (STATIC / name).read_text("utf-8")


def _is_plain(value: Any) -> bool:
    """Whether nothing in it is what Gradio takes for a file, nor text that cannot be sent back."""
    if isinstance(value, str):
        return is_unicode(value)
    if isinstance(value, dict):
        return "path" not in value and all(map(_is_plain, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_plain, value))


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)


def _caller(request: gr.Request) -> Caller:
    """Who was let in, by what stands before all routes."""
    assert request.request is not None
    caller: Caller = request.request.state.caller
    return caller
