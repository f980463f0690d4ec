"""What is wrong, as OpenAI's API says it: `{"error": {message, type, param, code}}`.

Nothing that a client sent is repeated but the names of its fields.
"""

import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from stream.protocol import ErrorCode
from stream.protocol_replies import sentence

_CODES: dict[int, ErrorCode] = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    429: "rate_limited",
    503: "draining",
}
# After its index comes which type of part an item was taken for: no field.
_PART_TYPES = ("text", "video_url")


class ApiError(Exception):
    """A request that was refused; `param` names the field at fault."""

    def __init__(
        self,
        status: int,
        code: ErrorCode,
        message: str,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        message, code = sentence(str(self)), self.code
        return {"error": {"message": message, "type": kind, "param": self.param, "code": code}}

    def response(self) -> JSONResponse:
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def code_of(status: int) -> ErrorCode:
    """What a status of HTTP's says, in the words of ivl.v1."""
    return _CODES.get(status, "bad_request")


def add_handlers(app: FastAPI) -> None:
    """Have every failure of the app's answered so."""

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error.errors()[0]).response()

    @app.exception_handler(HTTPException)
    async def no_such_page(_: Request, error: HTTPException) -> JSONResponse:
        status = error.status_code
        response = ApiError(status, code_of(status), str(error.detail)).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # which nobody reads

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        return ApiError(500, "internal", "something went wrong here; it was logged").response()


def _invalid(error: dict[str, Any]) -> ApiError:
    """What is wrong with a body: the first thing that is."""
    kind, loc, context = error["type"], error["loc"], error.get("ctx", {})
    if kind == "json_invalid" or len(loc) < 2:
        return ApiError(400, "bad_json", "the body is one JSON object, of type application/json")
    param = _path(loc[1:])
    if kind == "extra_forbidden":
        return ApiError(400, "bad_request", f"{param} is not supported", param)
    if kind == "union_tag_invalid":
        what = f"its {context['discriminator']} may be {context['expected_tags']}"
        return ApiError(400, "bad_request", f"{param}: {what}", param)
    code: ErrorCode = "too_large" if kind == "string_too_long" else "bad_request"
    return ApiError(400, code, f"{param}: {error['msg']}", param)


def _path(loc: Sequence[str | int]) -> str:
    """A place in a body, such as `messages[0].content[1].text`."""
    path, after_index = "", False
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (after_index and part in _PART_TYPES):
            path += f".{part}" if path else part
        after_index = isinstance(part, int)
    return sentence("".join(c for c in path if c.isprintable()))[:80]
