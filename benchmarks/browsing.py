"""A visitor of the page, for what is measured and shown of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from tests.browser import FLAGS, PROGRAMS


@contextmanager
def browsing(*flags: str, beside: bool = True, **looks: Any) -> Iterator[Page]:
    """An empty page of a browser that lets pages have the camera.

    Args:
        flags: more of Chromium's.
        beside: False gives it only what others leave of this machine, as if it were on another.
        looks: of the page, in Playwright's words.
    """
    with sync_playwright() as playwright:
        chromium = next(filter(None, map(which, PROGRAMS)), None)
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, *flags])
        if not beside:
            for process in psutil.Process().children(recursive=True):
                if "chrom" in process.name():
                    process.nice(10)
        yield browser.new_page(permissions=["camera"], **looks)
        browser.close()


def visit(page: Page, url: str) -> None:
    """Open the page and wait for its pictures."""
    page.goto(url)
    page.wait_for_function("window.ivl && window.ivl.live.drawn > 10")


def ask(page: Page, question: str) -> None:
    """Ask and wait for the end of the answer."""
    before = page.evaluate("window.ivl.answers")
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")
    page.wait_for_function("before => window.ivl.answers > before", arg=before)
