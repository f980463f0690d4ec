"""Mounts the page on the HTTP application, behind the same doors."""

import os

# Before Gradio is imported: it would tell others of its use, and sum up the last 10,000 events
# after each, while no other thread runs.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(1 << 60)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from gradio.routes import App
from starlette.datastructures import MutableHeaders
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.asking import Asking
from stream.registry import StreamRegistry
from stream.talk import TICK_S
from stream.visitors import Visitors
from stream.visitors_api import add_visitors
from ui.chat import Chat
from ui.page import STATIC, OwnSources, Texts, make_page

PAGE_PATH = "/ui"
# Gradio looks into its queue a thousand times a second, for 4 % of a core.
QUEUE_LOOKS_S = 0.01
# What Gradio remembers of pages, those that were closed among them.
MAX_SESSIONS = 128
# More than a browser keeps of a dialogue.
MAX_EVENT_BYTES = 1 << 18
# Of what Gradio serves, what the page needs. The rest reads files, fetches addresses and takes
# uploads for whoever asks.
_NEEDED = re.compile(
    PAGE_PATH + r"(/|/theme\.css|/(assets|static)/(\w[\w.-]*/)*\w[\w.-]*"
    r"|/gradio_api/(queue/join|queue/data|heartbeat/\w+))?"
)
# Nothing is fetched from elsewhere, nor shown within another's page. Gradio makes functions of the
# page's own text.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss: data: blob:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)
_FONT = ("system-ui", "sans-serif")
_FONT_MONO = ("ui-monospace", "monospace")


def is_needed(path: str) -> bool:
    """Whether the page needs what is at a path, or it is none of Gradio's."""
    return not path.startswith(PAGE_PATH) or _NEEDED.fullmatch(path) is not None


class SafePages:
    """Lets through what the page needs, and tells browsers what pages may do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
            await send(message)

        if not is_needed(scope.get("path", "")):
            return await Response(status_code=404)(scope, receive, with_policy)
        await self._app(scope, receive, with_policy)


def mount_page(
    app: FastAPI,
    registry: StreamRegistry,
    asking: Asking,
    visitors: Visitors,
    texts: Texts,
    *,
    logs_out: bool = False,
) -> FastAPI:
    """The application with the page at PAGE_PATH, to which `/` leads.

    Args:
        logs_out: people have logged in, and may log out.
    """
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def with_visitors(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            letting_go = asyncio.create_task(_let_pages_go(app, asking))
            try:
                yield state
            finally:
                letting_go.cancel()
                await visitors.close_all()

    app.router.lifespan_context = with_visitors

    @app.get("/")
    async def to_page() -> RedirectResponse:
        return RedirectResponse(f"{PAGE_PATH}/")

    @app.get("/favicon.ico")
    async def icon() -> FileResponse:
        return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml")

    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_middleware(SafePages)
    add_visitors(app, visitors)
    own = OwnSources(visitors.places, bool(visitors.policy.hosts))
    page = make_page(registry.names, Chat(asking, texts.caution), texts, own, logs_out=logs_out)
    # Only then does Gradio check what files it is told of.
    page.has_launched = True
    page.queue(default_concurrency_limit=8, max_size=64, api_open=False)
    page._queue.sleep_when_free = QUEUE_LOOKS_S
    page.state_session_capacity = MAX_SESSIONS
    return gr.mount_gradio_app(
        app,
        page,
        PAGE_PATH,
        footer_links=[],
        run_history=False,
        app_kwargs={"max_body_size": MAX_EVENT_BYTES},
        show_error=True,
        enable_monitoring=False,
        theme=_theme(),
        head='<link rel="icon" href="/static/favicon.svg">',
        css_paths=[STATIC / "page.css"],
    )


async def _let_pages_go(app: FastAPI, asking: Asking) -> None:
    """Once the program ends and nothing is open any more, end what Gradio would keep open."""
    while asking.num_open or not asking.draining:
        await asyncio.sleep(TICK_S)
    [gradio] = [
        route for route in app.routes if isinstance(route, Mount) and route.path == PAGE_PATH
    ]
    assert isinstance(gradio.app, App)
    gradio.app.stop_event.set()


def _theme() -> gr.themes.Base:
    """Gradio's own, with the fonts of the reader's machine and buttons that can be read."""
    theme = gr.themes.Default(primary_hue="blue", font=list(_FONT), font_mono=list(_FONT_MONO))
    blue, darker, red = "#0b5cab", "#094d90", "#b42318"
    return theme.set(
        button_primary_background_fill=blue,
        button_primary_background_fill_dark=blue,
        button_primary_background_fill_hover=darker,
        button_primary_background_fill_hover_dark=darker,
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_cancel_background_fill=red,
        button_cancel_background_fill_dark=red,
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
    )
