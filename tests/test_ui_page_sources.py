"""What visitors see of the real program, and what it sees of their camera."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.routing import _IncludedRouter
from PIL import Image

from tests.browser import BrowserPage
from tests.clips import number_of, numbered_picture
from tests.http_serving import serving_http
from tests.page_program import program
from tests.test_stream_app import PUSHER, TOKEN, fetch, locked
from tests.test_ui_page import ask, chat, live_source, visit, wait_for_answers

# What it reads backwards is another number.
NUMBER = 0b0001_0111


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A camera's pictures, of NUMBER written from left to right."""
    picture = Image.fromarray(numbered_picture(NUMBER, 320, 240))
    file = tmp_path / "camera.mjpeg"
    with file.open("wb") as opened:
        for _ in range(25):
            picture.save(opened, "JPEG", quality=90)
    return file


def test_a_visitors_camera_is_watched_and_not_mirrored(
    browser_page: BrowserPage, film: Path
) -> None:
    with (
        serving_http(page=True, sources=[live_source()], fps=25.0, places=1) as served,
        browser_page(camera=film, permissions=["camera"]) as page,
    ):
        visit(page, served)
        page.get_by_text("Watch something of your own").click()
        page.get_by_role("button", name="Use my camera").click()
        page.get_by_text("Your camera is watched").first.wait_for()
        page.wait_for_function("window.ivl.live.name.startsWith('visitor-')")
        page.wait_for_function("window.ivl.live.newest !== null")
        name = page.evaluate("window.ivl.live.name")
        frame = served.registry.snapshot(name)
        assert frame is not None and number_of(frame.image) == NUMBER
        shown = page.evaluate(
            """() => {
              const { canvas } = window.ivl.live;
              const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, 1);
              return [...data];
            }"""
        )
        rgba = np.array(shown, np.uint8).reshape(1, -1, 4)
        assert number_of(rgba[..., :3]) == NUMBER
        ask(page, "What do you see?")
        wait_for_answers(page, 1)
        page.get_by_role("button", name="Stop my camera").click()
        page.get_by_text("stalled: ").first.wait_for()


def test_every_route_of_the_page_is_locked_without_a_token() -> None:
    """Also those that Gradio has, and whatever it may be asked by websocket."""
    with serving_http(doors=locked(), page=True) as served:
        [page] = [r for r in served.app.routes if getattr(r, "path", "") == "/ui"]
        paths = {f"/ui{re.sub(r'{[^}]*}', 'x', path)}" for path in paths_of(page.app.routes)}
        paths |= {f"/ui/gradio_api{path.removeprefix('/ui')}" for path in paths}
        paths |= {"/", "/ui", "/ui/", "/static/main.js", "/static/page.css"}
        assert len(paths) > 60
        for path in sorted(paths):
            for method in ("GET", "POST"):
                for token in (None, TOKEN[:-1], PUSHER):
                    assert fetch(served, path, token, method=method)[0] == 401, path
        assert fetch(served, "/ui/")[0] == 200
        assert fetch(served, "/static/main.js")[0] == 200


def paths_of(routes: Iterable[Any]) -> Iterator[str]:
    """Of all routes, those of routers among them, too."""
    for route in routes:
        if isinstance(route, _IncludedRouter):
            yield from paths_of(route.original_router.routes)
        else:
            yield route.path


def test_pages_may_fetch_nothing_from_elsewhere() -> None:
    with serving_http(page=True) as served:
        status, headers, body = fetch(served, "/ui/", None)
        assert status == 200
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http" not in policy
        assert not re.findall(rb"(?:src|href)=\"https?://", body)


def test_nano_remembers_what_has_left_the_picture(browser_page: BrowserPage) -> None:
    """The purple square is gone for seconds, many windows, when it is asked about."""
    clip = ["--source", "assets/demo.mp4", "--start", "7", "--duration", "9"]
    with program(*clip, "--on-full", "drop_oldest") as served, browser_page() as page:
        page.goto(served.url)
        page.wait_for_function("window.ivl?.live.newest?.pts_s > 7")
        for number, (question, answer) in enumerate(
            [
                ("Was there a purple square?", "yes"),
                ("Is there a purple square?", "no"),
                ("Have you seen a fish?", "no"),
            ],
            1,
        ):
            ask(page, question)
            wait_for_answers(page, number)
            said = page.locator(".timeline .said").nth(number - 1).inner_text()
            assert said.split(question)[1].strip().startswith(answer)
            assert question in chat(page)
        ask(page, "How is the weather?")
        wait_for_answers(page, 4)
        assert "nano has never met “weather”" in chat(page)
