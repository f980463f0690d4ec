"""What visitors of the page do, for all tests of it."""

from typing import TYPE_CHECKING

from sources.frame import VideoSource
from sources.open import open_source
from tests.http_serving import ServedHttp

if TYPE_CHECKING:
    from playwright.sync_api import Page

DRAWN = "window.ivl && window.ivl.live.drawn > {}"
# What Gradio says of the calls that it still has when a page is left or loaded anew.
LEAVING = ("AbortError", "Connection errored out")


def live_source() -> VideoSource:
    return open_source("synthetic:320x180@25")


def visit(page: "Page", served: ServedHttp) -> None:
    """Open the page and wait for its first pictures."""
    page.goto(served.url.removesuffix("/v1"))
    page.wait_for_function(DRAWN.format(2))


def ask(page: "Page", question: str) -> None:
    box = page.locator("#question textarea")
    box.fill(question)
    box.press("Enter")


def wait_for_answers(page: "Page", count: int) -> None:
    page.wait_for_function(f"window.ivl.answers >= {count}")


def chat(page: "Page") -> str:
    return page.locator("#chat").inner_text()
