"""The rig of pages in a real browser does what the tests of our pages rely on."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from tests.browser import BrowserPage, serious_findings
from tests.rig.barcode import numbered_frame, read_number

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = "http://127.0.0.1:1/"  # where nothing is: `show` answers for it. A camera wants such a page.
LOOK = """async () => {
  const video = document.createElement("video");
  video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
  await video.play();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return [canvas.height, canvas.width, [...data]];
}"""


def show(page: "Page", html: str = "") -> None:
    """Let the page have this HTML, from an address."""
    page.route(HERE, lambda route: route.fulfill(body=html, content_type="text/html"))
    page.goto(HERE)


def test_the_camera_shows_a_file(browser_page: BrowserPage, tmp_path: Path) -> None:
    film = tmp_path / "film.mjpeg"
    jpegs = [cv2.imencode(".jpg", numbered_frame(n)[..., ::-1])[1] for n in range(40, 50)]
    film.write_bytes(b"".join(jpeg.tobytes() for jpeg in jpegs))
    with browser_page(camera=film, permissions=["camera"]) as page:
        show(page)
        height, width, data = page.evaluate(LOOK)
    picture = np.array(data, np.uint8).reshape(height, width, 4)[..., :3]
    assert picture.shape == (240, 320, 3) and read_number(picture) in range(40, 50)


def test_a_camera_that_is_not_allowed_is_denied(browser_page: BrowserPage) -> None:
    camera = "navigator.mediaDevices.getUserMedia({video: true})"
    with browser_page(permissions=["geolocation"]) as page:
        show(page)
        refused = page.evaluate(f"{camera}.catch(String)")
    assert refused == "NotAllowedError: Permission denied"


def test_two_visitors_share_nothing(browser_page: BrowserPage) -> None:
    with browser_page(width=390, dark=True) as first, browser_page() as second:
        show(first, '<meta name="viewport" content="width=device-width">')
        show(second)
        first.evaluate("localStorage.setItem('name', 'Anna')")
        looks = "[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]"
        assert (first.evaluate(looks), second.evaluate(looks)) == ([390, True], [1280, False])
        assert second.evaluate("localStorage.getItem('name')") is None


def test_errors_of_a_page_fail_a_test_but_those_it_expects(browser_page: BrowserPage) -> None:
    for html, error in {
        "<script>throw new Error('uncaught')</script>": "uncaught",
        "<script>console.error('said')</script>": "said",
        "<script>Promise.reject(new Error('rejected'))</script>": "rejected",
        "<img src='https://pypi.org/logo.png' alt=''>": "ERR_NAME_NOT_RESOLVED",
    }.items():
        with pytest.raises(AssertionError, match=error), browser_page() as page:
            show(page, html)
        with browser_page(expects=[error]) as page:
            show(page, html)
    with pytest.raises(AssertionError, match="expected"), browser_page(expects=["said"]) as page:
        show(page)


def test_serious_findings_are_what_keeps_people_out(browser_page: BrowserPage) -> None:
    good = "<!doctype html><html lang=en><title>Ask</title><main><h1>Ask</h1>{}</main>"
    with browser_page() as page:
        show(page, good.format("<label>Question <input></label>"))
        assert serious_findings(page) == []
    with browser_page() as page:
        show(page, good.format("<input><p style='color: #ccc'>pale</p>"))
        assert [f.partition(":")[0] for f in serious_findings(page)] == ["color-contrast", "label"]


def test_after_a_browser_a_loop_can_run() -> None:
    asyncio.run(asyncio.sleep(0))
