"""Pages in a real Chromium, which finds no network but this machine.

    def test_a_visitor_sees_it(browser_page: BrowserPage) -> None:
        with browser_page(width=390, dark=True) as page:
            page.goto(url)

`page` is Playwright's, of its sync API. That keeps an event loop running in the thread that drives
it, where asyncio.run is refused until it ends: so a browser is started for a test (half a second)
and ends with it, and servers are on threads or in processes of their own. Chromium is the system's.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserType, ConsoleMessage, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PHONE = 600  # pages narrower than this are a phone's
PATIENCE_MS = 30_000.0  # how long a test waits for a page to show something before it fails
FLAGS = (
    "--no-sandbox",  # which root may not have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Without a screen nobody is asked for the camera: the page's permissions decide. A fake UI
    # (--use-fake-ui-for-media-stream) would overrule them.
    "--use-fake-device-for-media-stream",
    # A page that wants anything of the internet fails alike on every machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class BrowserPage:
    """Opens pages; each is another visitor's, with cookies and storage of its own."""

    def __init__(self, chromium: "BrowserType", program: str) -> None:
        self._chromium, self._program = chromium, program
        self._browsers: dict[Path | None, Browser] = {}

    @contextmanager
    def __call__(
        self,
        *,
        camera: Path | None = None,
        width: int = 1280,
        height: int = 800,
        dark: bool = False,
        permissions: Sequence[str] = (),
        expects: Sequence[str] = (),
        allows: Sequence[str] = (),
    ) -> Iterator["Page"]:
        """Open an empty page, which on leaving fails the test for what went wrong in it.

        Args:
            camera: a .mjpeg or .y4m file that the camera shows over and over; a test picture if
                none is given.
            width: below PHONE there are fingers, and the page's viewport tag counts.
            permissions: what the page gets of what it asks for, e.g. camera; the rest is denied.
            expects: a part of each error that is to happen, on the console or uncaught. Any other
                fails the test, and so does one of these that does not happen.
            allows: the same of errors that may happen.
        """
        errors: list[str] = []
        context = self._browser(camera).new_context(
            viewport={"width": width, "height": height},
            is_mobile=width < PHONE,
            has_touch=width < PHONE,
            color_scheme="dark" if dark else "light",
            permissions=[*permissions],
        )
        context.set_default_timeout(PATIENCE_MS)
        context.on("weberror", lambda error: errors.append(str(error.error)))

        def console(said: "ConsoleMessage") -> None:
            at = said.location["url"]
            # Browsers want this of every site, whatever the page says.
            if said.type == "error" and not at.endswith("/favicon.ico"):
                errors.append(f"{said.text} ({at})")

        context.on("console", console)
        try:
            yield context.new_page()
        except Exception as error:
            error.add_note(f"errors of the page: {errors}")
            raise
        finally:
            context.close()
        known = (*expects, *allows)
        strange = [error for error in errors if not any(part in error for part in known)]
        missed = [part for part in expects if not any(part in error for error in errors)]
        assert not strange, f"errors of the page: {strange}"
        assert not missed, f"expected of the page: {missed}, but there was {errors}"

    def _browser(self, camera: Path | None) -> "Browser":
        if camera not in self._browsers:
            args = [*FLAGS]
            if camera is not None:
                args.append(f"--use-file-for-fake-video-capture={camera.absolute()}")
            self._browsers[camera] = self._chromium.launch(executable_path=self._program, args=args)
        return self._browsers[camera]

    def close(self) -> None:
        for browser in self._browsers.values():
            browser.close()


@pytest.fixture
def browser_page() -> Iterator[BrowserPage]:
    """Opens pages in browsers that end with the test; skips where there is no Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs pip install playwright", exc_type=ImportError
    )
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("needs Chromium, e.g. Debian's package chromium")
    # Some virtual machines were seen to give a process real-time priority; Chromium would inherit
    # it, and its processes hang in one another's way.
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with playwright.sync_playwright() as started:
        pages = BrowserPage(started.chromium, program)
        yield pages
        pages.close()


def serious_findings(page: "Page") -> list[str]:
    """What axe-core finds on a page that keeps people out: of serious or critical impact.

    It sees the page as it is now, in its colour scheme and width, without what is in frames.
    """
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs pip install axe-playwright-python"
    )
    return [
        f"{finding['id']}: {finding['help']}: {node['html']}"
        for finding in axe.Axe().run(page).response["violations"]
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]
