"""Where a page asks for a place for its visitor's own source: it is told a stream, or why not.

POST /v1/visitors/camera        pictures are then pushed to /v1/ingest/NAME
POST /v1/visitors/clip          the body is the file
POST /v1/visitors/address       {"url": "rtsp://camera/live"}
DELETE /v1/visitors/NAME
"""

import asyncio
import tempfile
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from sources.errors import SourceError, SourceRefusedError
from stream.api_errors import ApiError, code_of
from stream.visitors import VISITORS_PATH, Grant, NoRoomError, Visitors

MAX_CLIP_BYTES = 256 << 20
_TRY_AGAIN_S = 15.0
# How long a clip may not come on before it is given up.
_STALL_S = 10.0


class Address(BaseModel):
    """What is to be watched."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str


def add_visitors(app: FastAPI, visitors: Visitors) -> None:
    """Have the application open streams for visitors; its doors are locked elsewhere."""

    @app.exception_handler(NoRoomError)
    async def no_room(request: Request, error: Exception) -> Response:
        refusal = ApiError(429, "queue_full", str(error), retry_after_s=_TRY_AGAIN_S)
        return refusal.response()

    @app.exception_handler(SourceError)
    async def no_source(request: Request, error: Exception) -> Response:
        status = 403 if isinstance(error, SourceRefusedError) else 400
        return ApiError(status, code_of(status), str(error)).response()

    @app.post(VISITORS_PATH + "camera")
    async def camera() -> Response:
        return _granted(await visitors.camera())

    @app.post(VISITORS_PATH + "clip", max_body_size=MAX_CLIP_BYTES)
    async def clip(request: Request) -> Response:
        try:
            with visitors.coming():
                file = await _kept(request)
        except TimeoutError:
            raise ApiError(408, "bad_request", "The clip does not come on.") from None
        return _granted(await visitors.clip(file))

    @app.post(VISITORS_PATH + "address")
    async def address(body: Address) -> Response:
        return _granted(await visitors.address(body.url))

    @app.delete(VISITORS_PATH + "{name}")
    async def close(name: str) -> Response:
        await visitors.close(name)
        return Response(status_code=204)


async def _kept(request: Request) -> Path:
    """The body as a file, which is the caller's to delete."""
    with tempfile.NamedTemporaryFile("wb", prefix="ivl-", suffix=".clip", delete=False) as file:
        try:
            parts = request.stream()
            while True:
                async with asyncio.timeout(_STALL_S):
                    part = await anext(parts, None)
                if part is None:
                    break
                await asyncio.to_thread(file.write, part)
        except BaseException:
            Path(file.name).unlink()
            raise
    return Path(file.name)


def _granted(grant: Grant) -> Response:
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"name": grant.name, "fps": grant.fps}, 201, headers)
