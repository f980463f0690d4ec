"""What visitors see of the real program, and what it sees of their camera."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.browser import BrowserPage
from tests.clips import number_of, numbered_picture
from tests.http_serving import ServedHttp, serving_http
from tests.page_program import program
from tests.page_visits import LEAVING, ask, chat, live_source, visit, wait_for_answers
from tests.test_stream_server import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

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


@pytest.fixture
def visited(browser_page: BrowserPage, film: Path) -> Iterator[tuple[ServedHttp, "Page"]]:
    """A server with a place for a source, and the page of a visitor with a camera."""
    with (
        serving_http(page=True, sources=[live_source()], fps=25.0, places=1) as served,
        browser_page(camera=film, permissions=["camera"], allows=LEAVING) as page,
    ):
        visit(page, served)
        yield served, page


def test_a_visitors_camera_is_watched_and_not_mirrored(
    visited: tuple[ServedHttp, "Page"],
) -> None:
    served, page = visited
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
    page.reload()
    wait_until(lambda: not served.visitors._open)
    page.wait_for_function("window.ivl && window.ivl.live.newest !== null")
    page.get_by_text("Watch something of your own").click()
    page.get_by_role("button", name="Use my camera").click()
    page.get_by_text("Your camera is watched").first.wait_for()
    page.get_by_role("button", name="Back to the others").click()
    page.wait_for_function("window.ivl.live.name === 'cam' && window.ivl.live.newest !== null")
    wait_until(lambda: not served.visitors._open)


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


def test_a_camera_that_goes_is_not_shown_as_one_that_comes(
    visited: tuple[ServedHttp, "Page"],
) -> None:
    """And however often it is clicked, there is one, which ends with the visit to it."""
    served, page = visited
    page.evaluate(
        """() => {
          window.streams = [];
          const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          navigator.mediaDevices.getUserMedia = async (wanted) => {
            const stream = await get(wanted);
            window.streams.push(stream);
            return stream;
          };
        }"""
    )
    page.get_by_text("Watch something of your own").click()
    page.get_by_role("button", name="Use my camera").dblclick()
    page.get_by_text("Your camera is watched").first.wait_for()
    page.wait_for_function("window.ivl.live.newest !== null")
    assert page.evaluate("window.streams.length") == 1
    page.evaluate("window.streams[0].getTracks()[0].dispatchEvent(new Event('ended'))")
    page.get_by_text("The camera has gone.").wait_for()
    assert page.evaluate("window.streams[0].getTracks()[0].readyState") == "ended"
    page.wait_for_function("window.ivl.live.name === 'cam'")
    wait_until(lambda: not served.visitors._open)
