"""Websockets and HTTP from one program, with the same doors and encrypted."""

import json
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from stream.app import make_app
from stream.asking import Asking
from stream.doors import Doors, server_tls
from stream.engine import Engine, EngineConfig
from stream.http_server import HttpServer
from stream.hub import About, Hub
from stream.metrics import BuildInfo, Metrics
from stream.pages import Pages
from stream.protocol_session import SessionLimits
from stream.registry import StreamRegistry
from stream.server import Address, Server, ServerThread
from stream.session import StreamConfig
from stream.talk import Talk
from tests.stream_helpers import FRAME_TOKENS, PATIENCE_S, loaded, running, scripted
from tests.test_stream_server import run

TOKEN = "correct-horse-battery-staple"
MINE, EVIL = "https://mine.example", "https://evil.example"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", *options.split(), *names, *files], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def urls(certificate: tuple[Path, Path]) -> Iterator[list[str]]:
    """Of a websocket server and an HTTP server beside it."""
    doors, tls = Doors({TOKEN: frozenset({"query"})}), server_tls(*certificate)
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS))
    with running(engine):
        registry, metrics = StreamRegistry(engine, 1), Metrics(BuildInfo("0", "0", "mini"))
        registry.open("cam", scripted(5, holds=True), StreamConfig(fps=None))
        hub = Hub(registry, About("0", "mini", trained=False), SessionLimits())
        asking = Asking(registry)
        talk, pages = Talk(hub, metrics), Pages(registry, metrics)
        app = make_app(registry, asking, talk, pages, doors, "mini", (MINE,))
        address = Address("localhost", 0, (MINE,), tls)
        websockets = Server(talk, registry, metrics, doors, address)
        thread = ServerThread(websockets, HttpServer(app, asking, talk, doors, address))
        thread.start()
        registry.start_all()
        try:
            yield thread.urls
        finally:
            registry.stop_all("the test ends", PATIENCE_S)
            thread.stop()


def test_a_page_gets_in_by_a_ticket_that_was_got_for_it(
    urls: list[str], certificate: tuple[Path, Path]
) -> None:
    """From the origin that is listed, once."""
    url, http_url = urls
    assert url.startswith("wss://") and http_url.startswith("https://")
    trusting = ssl.create_default_context(cafile=certificate[0])

    def ticket() -> str:
        request = urllib.request.Request(f"{http_url}/tickets", method="POST")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=PATIENCE_S, context=trusting) as answer:
            given: str = json.load(answer)["ticket"]
            return given

    async def visit(ticket: str, origin: str, url: str = url) -> None:
        async with connect(
            f"{url}?ticket={ticket}",
            subprotocols=["ivl.v1"],  # type: ignore[list-item]
            origin=origin,  # type: ignore[arg-type]
            ssl=trusting,
        ) as socket:
            assert json.loads(await socket.recv())["type"] == "session.created"

    run(visit(ticket(), MINE, http_url.replace("https", "wss") + "/stream"))
    used = ticket()
    run(visit(used, MINE))
    for given, origin, status in ((used, MINE, 401), (ticket(), EVIL, 403)):
        with pytest.raises(InvalidStatus) as refused:
            run(visit(given, origin))
        assert refused.value.response.status_code == status


def test_who_does_not_encrypt_is_not_understood(urls: list[str]) -> None:
    for url in urls:
        plain = url.replace("wss", "http").replace("https", "http")
        with pytest.raises(OSError):
            urllib.request.urlopen(plain, timeout=PATIENCE_S)
