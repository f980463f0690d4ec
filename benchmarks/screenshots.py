"""Pictures of the page for the documentation, of the program as it runs here.

python -m benchmarks.screenshots docs/images
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from benchmarks.browsing import ask, browsing, visit
from tests.page_program import program
from tests.rig.http_servers import MjpegServer

DEMO = ["--source", "assets/demo.mp4", "--loop", "--on-full", "drop_oldest"]
# At the moments of `make demo`.
ASKED = {
    3.0: "What do you see?",
    12.0: "Has the purple square gone?",
    33.0: "Have you seen a fish?",
    37.5: "What was the last number?",
}
QUALITY = 82


@contextmanager
def visiting(argv: list[str], width: int, height: int, *, dark: bool = False) -> Iterator[Page]:
    """The page with its pictures coming; its browser takes no time from the program.

    It is started first, or the program would be slow in its first seconds.
    """
    size = {"width": width, "height": height}
    scheme = "dark" if dark else "light"
    looks = browsing(beside=False, viewport=size, color_scheme=scheme)
    with looks as page, program(*argv) as served:
        visit(page, served.url)
        yield page


def wait_until(page: Page, pts_s: float) -> None:
    page.wait_for_function("s => window.ivl.live.newest?.pts_s > s", arg=pts_s, timeout=90_000)


def take(page: Page, file: Path) -> None:
    page.screenshot(path=file, type="jpeg", quality=QUALITY)
    print(file, file.stat().st_size >> 10, "KiB")


def watched(folder: Path) -> None:
    """The demo, asked about what is there and what has gone, and the same in the dark."""
    with visiting(DEMO, 1280, 960) as page:
        for pts_s, question in ASKED.items():
            wait_until(page, pts_s)
            ask(page, question)
        take(page, folder / "page.jpg")
    with visiting(DEMO, 1280, 960, dark=True) as page:
        wait_until(page, 40.0)
        ask(page, "Is anything moving?")
        take(page, folder / "page-dark.jpg")


def answering(folder: Path) -> None:
    """In the midst of an answer, by untrained weights whose answers are long; on a phone."""
    with visiting([*DEMO, "--model", "random:tiny"], 1280, 960) as page:
        wait_until(page, 4.0)
        page.locator("#question textarea").fill("What do you see?")
        page.locator("#question textarea").press("Enter")
        page.get_by_role("button", name="Stop the answer").wait_for()
        page.wait_for_timeout(150)
        take(page, folder / "page-answering.jpg")
    with visiting(DEMO, 390, 844) as page:
        wait_until(page, 6.0)
        ask(page, "What do you see?")
        page.evaluate("scrollTo(0, 0)")
        take(page, folder / "page-phone.jpg")


def lost(folder: Path) -> None:
    """A camera whose pictures no longer come."""
    with (
        MjpegServer(size=(640, 360)) as camera,
        visiting(["--source", camera.url], 1280, 960) as page,
    ):
        wait_until(page, 6.0)
        camera.status(503)
        camera.drop()
        page.get_by_text("reconnecting: ").first.wait_for(timeout=60_000)
        page.wait_for_timeout(2000)
        take(page, folder / "page-lost.jpg")


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    for pictures in (watched, answering, lost):
        pictures(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
