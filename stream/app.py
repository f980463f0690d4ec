"""The HTTP application: chat completions as OpenAI has them, ivl.v1, tickets, pages for machines.

Its doors are locked by what stands before all routes, so a route that is added is locked, too.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from stream.api_errors import ApiError, add_handlers, code_of
from stream.app_sockets import add_sockets
from stream.asking import Asking, AskLaterError, OpenAnswer
from stream.chat_reply import ChatReply
from stream.chat_request import Chat, ChatRequest, read_chat
from stream.doors import Doors, ShutOutError
from stream.hub import MAX_MESSAGE_BYTES
from stream.live_view import MJPEG_BOUNDARY, MJPEG_PATH, LiveView
from stream.logged_in import run_until
from stream.login_page import LOGIN_PATH, LOGOUT_PATH, add_login
from stream.logins import COOKIE
from stream.pages import METRICS_PATH, PICTURE_PATH, STREAMS_PATH, Page, Pages, text_page
from stream.question import QuestionRefusedError
from stream.registry import StreamRegistry, UnknownStreamError
from stream.talk import Talk, is_socket_path, scope_of
from stream.tickets import VALID_S, Caller, TooManyTicketsError, ticket_of

OPEN_PATHS = ("/healthz", "/readyz")
TICKETS_PATH = "/v1/tickets"
CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"


class Locked:
    """Lets requests in as the doors do, and tells the routes who called.

    Browsers of people who may not come in are sent to where they can log in, if there is that.
    """

    def __init__(
        self, app: ASGIApp, doors: Doors, origins: Sequence[str], *, logs_in: bool
    ) -> None:
        self._app, self._doors, self._origins = app, doors, origins
        self._logs_in = logs_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"] not in OPEN_PATHS:
            try:
                scope.setdefault("state", {})["caller"], login = self._let_in(scope)
            except ShutOutError as error:
                if error.status == 401 and self._logs_in and _is_page_view(scope):
                    return await RedirectResponse(LOGIN_PATH, 303)(scope, receive, send)
                refusal = ApiError(error.status, code_of(error.status), str(error))
                return await refusal.response()(scope, receive, send)
            if login is not None and scope["path"] != LOGOUT_PATH:
                end = self._doors.logins.wait_end(login)
                return await run_until(end, self._app, scope, receive, send)
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope) -> tuple[Caller, str | None]:
        """Who is let in, and the login if that is by one."""
        headers, path = Headers(scope=scope), scope["path"]
        hosts, authorizations = headers.getlist("Host"), headers.getlist("Authorization")
        # Browsers send it with whatever one page asks of another's address, and with much of what
        # it asks of its own.
        own = {f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts}
        if not set(headers.getlist("Origin")) <= {*self._origins, *own}:
            raise ShutOutError(403, "pages of this origin may not ask")
        ticket = None
        if is_socket_path(path):
            if scope["type"] == "websocket":
                ticket = ticket_of(scope["query_string"].decode("latin-1"))
            # So that no log shows it.
            scope["query_string"] = b""
        if self._logs_in and path == LOGIN_PATH:
            self._doors.check_host(hosts)
            return Caller(), None
        needs = None if path == TICKETS_PATH else scope_of(path)
        login = cookie_parser(headers.get("Cookie", "")).get(COOKIE)
        return self._doors.let_in(needs, hosts, authorizations, ticket, login)


class AnswerResponse(StreamingResponse):
    """An answer as it is made; whoever stops listening to it cancels the question."""

    def __init__(self, reply: ChatReply, answer: OpenAnswer, *, include_usage: bool) -> None:
        events = reply.events(answer, include_usage=include_usage)
        super().__init__(events, 200, {"Cache-Control": "no-store"}, "text/event-stream")
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


def _is_page_view(scope: Scope) -> bool:
    """Whether a browser asks for something to show to a person."""
    return scope["type"] == "http" and "text/html" in Headers(scope=scope).get("Accept", "")


def caller_of(request: Request) -> Caller:
    """Who was let in."""
    caller: Caller = request.state.caller
    return caller


Called = Annotated[Caller, Depends(caller_of)]


def make_app(
    registry: StreamRegistry,
    asking: Asking,
    talk: Talk,
    pages: Pages,
    doors: Doors,
    model: str,
    origins: Sequence[str] = (),
    *,
    logs_in: bool = False,
) -> FastAPI:
    """The application.

    Args:
        talk: with the clients of its websockets.
        model: the name of the one model there is.
        origins: those of web pages elsewhere whose requests are answered.
        logs_in: people may log in, with a token, to see pages.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, max_body_size=MAX_MESSAGE_BYTES)
    app.add_middleware(Locked, doors=doors, origins=origins, logs_in=logs_in)
    if origins:
        # Before the doors: a browser asks first whether it may send a token, and sends none then.
        methods = ("GET", "POST")
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=methods, allow_headers=["*"]
        )
    add_handlers(app)
    if logs_in:
        add_login(app, doors)
    _add_pages(app, asking, pages)
    _add_mjpeg(app, registry, talk.live)
    _add_models(app, model)
    _add_chat(app, registry, asking, model)
    add_sockets(app, talk)

    @app.post(TICKETS_PATH)
    async def ticket(caller: Called) -> JSONResponse:
        try:
            body = {"ticket": doors.tickets.give(caller), "expires_in_s": VALID_S}
        except TooManyTicketsError as error:
            raise ApiError(
                429, "rate_limited", str(error), retry_after_s=error.retry_after_s
            ) from None
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    return app


def _add_pages(app: FastAPI, asking: Asking, pages: Pages) -> None:
    @app.get("/healthz")
    async def alive() -> Response:
        return _response(text_page(200, "alive"))

    @app.get("/readyz")
    async def ready() -> Response:
        return _response(text_page(503, "draining") if asking.draining else text_page(200, "ready"))

    # Not async: these run on threads, for they lock and encode.
    @app.get(METRICS_PATH)
    def metrics() -> Response:
        return _response(pages.metrics())

    @app.get(STREAMS_PATH)
    def streams() -> Response:
        return _response(pages.streams())

    @app.get(PICTURE_PATH)
    def picture(name: str) -> Response:
        return _response(pages.picture(name))


def _add_mjpeg(app: FastAPI, registry: StreamRegistry, live: LiveView) -> None:
    @app.get(MJPEG_PATH)
    async def mjpeg(name: str) -> Response:
        try:
            registry.get(name)
        except UnknownStreamError as error:
            return _response(text_page(404, str(error)))
        kind = f"multipart/x-mixed-replace; boundary={MJPEG_BOUNDARY}"
        return StreamingResponse(live.mjpeg(name), 200, {"Cache-Control": "no-store"}, kind)


def _add_models(app: FastAPI, model: str) -> None:
    card = {"id": model, "object": "model", "created": 0, "owned_by": "local"}

    @app.get(MODELS_PATH)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get(MODELS_PATH + "/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        if name != model:
            raise _no_such_model(model)
        return card


def _add_chat(app: FastAPI, registry: StreamRegistry, asking: Asking, model: str) -> None:
    @app.post(CHAT_PATH)
    async def chat(body: ChatRequest, request: Request, caller: Called) -> Response:
        if body.model != model:
            raise _no_such_model(model)
        answer = _ask(registry, asking, caller, read_chat(body))
        reply = ChatReply(model)
        if body.stream:
            return AnswerResponse(reply, answer, include_usage=body.stream_options.include_usage)
        try:
            if not await _ended_before_its_caller(request, answer):
                raise ClientDisconnect
            return JSONResponse(reply.whole(await answer.end()))
        finally:
            answer.cancel()


def _ask(registry: StreamRegistry, asking: Asking, caller: Caller, chat: Chat) -> OpenAnswer:
    stream, names = chat.stream, registry.names
    if stream is None and len(names) == 1:
        stream = names[0]
    if stream is None:
        known = ", ".join(f"ivl://streams/{name}" for name in names) or "none"
        raise ApiError(400, "bad_request", f"name a stream by a video_url: {known}", "messages")
    try:
        return asking.ask(caller.number, stream, chat.question, chat.turns, chat.sampling)
    except AskLaterError as error:
        status = 503 if error.code == "draining" else 429
        raise ApiError(status, error.code, str(error), retry_after_s=error.retry_after_s) from None
    except (UnknownStreamError, QuestionRefusedError) as error:  # none, or it has ended
        raise ApiError(404, "not_found", str(error), "messages") from None


async def _ended_before_its_caller(request: Request, answer: OpenAnswer) -> bool:
    """Wait until the answer has ended or nobody waits for it; False for that."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    both = [asyncio.ensure_future(waiting) for waiting in (answer.end(), gone())]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in both:
            waiting.cancel()
    return answer.done is not None


def _no_such_model(model: str) -> ApiError:
    return ApiError(404, "not_found", f"there is no such model; there is {model}", "model")


def _response(page: Page) -> Response:
    return Response(page.body, page.status, page.headers, page.content_type)
