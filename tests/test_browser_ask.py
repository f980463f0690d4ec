"""The page of the documentation, in a real browser, served and opened as the documentation says."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest

from model.tokenizer import IncrementalDetokenizer
from stream.tickets import Caller
from tests.browser import BrowserPage, serious_findings
from tests.stream_helpers import MINI, loaded
from tests.test_stream_server import LOCKED, serving

MARKUP = "<img src=x onerror=alert(1)>"
ENDED = re.compile(r"\((completed|incomplete), \d+ ms\)")


@dataclass(frozen=True, slots=True)
class Documented:
    """What the documentation starts: `page` is what it says to open, from `origin`."""

    origin: str
    page: str
    server: str

    def asking(self, server: str | None = None) -> str:
        """The page's address; it asks the documented server if no other is named."""
        return f"{self.page}?server={quote(server or self.server)}"


@contextmanager
def started(line: str, says: str, **here: str) -> Iterator[str]:
    """Run a line of the documentation, some of its words put as they are `here`.

    Gives the first words it says that look like `says`.
    """
    words = [here.get(word, word) for word in shlex.split(line, comments=True)]
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        try:
            yield next(found[0] for said in process.stdout if (found := re.search(says, said)))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def documented() -> Iterator[Documented]:
    """Both programs of the documentation; their ports and the camera are others here."""
    text = Path("docs/serving.md").read_text().split("In a browser: ")[1].split("```\n")[1]
    watch, serve_pages = text.splitlines()
    page, origin = serve_pages.partition("# then ")[2], "http://127.0.0.1:8000"
    python = {"python": sys.executable}
    with started(serve_pages, r"http://[\d.:]+", **python, **{"8000": "0"}) as own_origin:
        here = python | {
            "cam=0": "cam=synthetic:320x240@25",
            "127.0.0.1:8765": "127.0.0.1:0",
            origin: own_origin,
        }
        with started(watch, r"ws://\S+", **here) as server:
            yield Documented(own_origin, page.replace(origin, own_origin), server)


def test_a_question_is_typed_and_its_answer_streams_in(
    browser_page: BrowserPage, documented: Documented
) -> None:
    with browser_page() as page:
        page.goto(documented.asking())
        question = page.get_by_label("Question")
        question.fill("What is in the picture?")
        page.get_by_role("button", name="Ask").click()
        page.get_by_text(re.compile(r"\(completed, \d+ ms\)\n$")).wait_for()
        question.press("Enter")
        page.get_by_text(re.compile(r"(> What is in.*){2}\(completed", re.DOTALL)).wait_for()
        shown = page.get_by_role("log").evaluate("log => [...log.childNodes].map(n => n.data)")
        assert serious_findings(page) == []
    begins = [n for n, text in enumerate(shown) if text == "> What is in the picture?\n"]
    assert begins[0] == 0 and len(begins) == 2
    pieces = []
    for begin, end in ((0, begins[1]), (begins[1], len(shown))):
        _, *deltas, ended = shown[begin:end]
        assert ended.startswith("\n(completed, ") and all(deltas)
        pieces.append(len(deltas))
    # Each came in a message of its own, but what waits to be sent is joined.
    assert max(pieces) > 1


@pytest.mark.parametrize("origin", ["http://localhost", "file://"])
def test_a_page_from_elsewhere_is_refused(
    browser_page: BrowserPage, documented: Documented, origin: str
) -> None:
    address = documented.asking().replace("http://127.0.0.1", origin)
    if origin == "file://":
        address = documented.asking().replace(documented.origin, Path("docs").resolve().as_uri())
    with browser_page(expects=["Unexpected response code: 403"]) as page:
        page.goto(address)
        page.get_by_text("(closed: 1006)").wait_for()
        assert page.get_by_role("button", name="Ask").is_disabled()


def test_behind_a_lock_a_page_needs_a_ticket_which_opens_once(
    browser_page: BrowserPage, documented: Documented
) -> None:
    ticket = LOCKED.tickets.give(Caller(1, frozenset({"query"})))
    with serving(LOCKED, origins=(documented.origin,)) as locked:
        address = documented.asking(f"{locked.url}?ticket={ticket}")
        with browser_page(expects=["HTTP Authentication failed"]) as page:
            page.goto(address)
            page.get_by_role("button", name="Ask", disabled=False).wait_for()
            page.reload()
            page.get_by_text("(closed: 1006)").wait_for()


def test_markup_in_a_question_or_an_answer_is_shown_and_not_run(
    browser_page: BrowserPage, documented: Documented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IncrementalDetokenizer, "push", lambda self, token_id: MARKUP)
    model = loaded(replace(MINI, sliding_window=1024))
    with serving(origins=(documented.origin,), model=model) as served, browser_page() as page:
        page.goto(documented.asking(served.url))
        page.get_by_label("Question").fill(MARKUP)
        page.get_by_role("button", name="Ask").click()
        page.get_by_text(ENDED).wait_for()
        log = page.get_by_role("log")
        assert log.inner_text().startswith(f"> {MARKUP}\n{MARKUP}{MARKUP}")
        assert log.locator("*").count() == 0


def test_on_a_phone_it_fits(browser_page: BrowserPage, documented: Documented) -> None:
    with browser_page(width=360, dark=True) as page:
        page.goto(documented.asking())
        page.get_by_label("Question").fill("Is there a cat? " * 10)
        page.get_by_role("button", name="Ask").click()
        page.get_by_text(ENDED).wait_for()
        assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
        assert serious_findings(page) == []
