"""The page in a real browser, as its visitors use it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sources.pushed import PushedSource
from tests.browser import BrowserPage, serious_findings
from tests.clips import write_numbered
from tests.http_serving import EXAMPLE, ServedHttp, serving_http
from tests.page_visits import DRAWN, LEAVING, ask, chat, live_source, visit, wait_for_answers
from tests.test_stream_server import wait_until

if TYPE_CHECKING:
    pass

# What is said to the visitor in passing.
TOAST = ".toast-body"


@pytest.fixture(scope="module")
def served() -> Iterator[ServedHttp]:
    """A live stream at 25 FPS, another, and a place for a visitor's."""
    sources = [live_source(), live_source()]
    with serving_http("cam", "door", page=True, sources=sources, fps=25.0, places=1) as served:
        yield served


def test_all_is_there_at_first_sight(served: ServedHttp, browser_page: BrowserPage) -> None:
    """Without a click: the picture with its number and age, the question box, the numbers."""
    with browser_page() as page:
        visit(page, served)
        said = page.locator(".live .frame").inner_text()
        assert said.startswith("frame ") and said.endswith(" old")
        for box in (page.locator("#question textarea"), page.locator(".live canvas")):
            bounds = box.bounding_box()
            assert bounds is not None and bounds["y"] + bounds["height"] <= 800
        assert page.get_by_text(EXAMPLE).first.is_visible()
        stages = page.locator("[data-of=stages]")
        page.wait_for_function("e => e.innerText.includes('vision')", arg=stages.element_handle())
        numbers = page.locator("#numbers").inner_text()
        for words in (
            "25 FPS",
            "of 25",
            "p50 / p95 / p99",
            "decoder",
            "MB, whatever has been seen",
        ):
            assert words in numbers
        assert "UNTRAINED" in page.locator("#about").inner_text()
        assert page.locator(".timeline .picture").count() >= 1
        page.get_by_text(EXAMPLE).first.click()
        assert page.locator("#question textarea").input_value() == EXAMPLE


def test_an_answer_streams_and_is_pinned_and_saved(
    served: ServedHttp, browser_page: BrowserPage, slow_answers: None
) -> None:
    with browser_page(allows=LEAVING) as page:
        visit(page, served)
        page.evaluate(
            """() => {
              window.updates = [];
              const chat = document.querySelector("#chat");
              new MutationObserver(() => {
                const text = chat.innerText;
                if (text !== window.updates.at(-1)?.text)
                  window.updates.push({ text, at: performance.now() });
              }).observe(chat, { childList: true, subtree: true, characterData: true });
            }"""
        )
        ask(page, "What is <b>that</b> _there_?")
        wait_for_answers(page, 1)
        assert "What is <b>that</b> _there_?" in chat(page)
        assert "frames, up to " in chat(page) and "first word after " in chat(page)
        updates = page.evaluate("window.updates")
        assert len({update["text"] for update in updates}) > 5
        lasted_s = (updates[-1]["at"] - updates[0]["at"]) / 1e3
        assert len(updates) <= 15 * lasted_s + 5
        assert "What is <b>that</b> _there_?" in page.locator(".timeline .said").inner_text()

        with page.expect_download() as download:
            page.get_by_role("button", name="Save as JSON").click()
        [kept] = json.loads(Path(download.value.path()).read_text())
        assert kept["question"] == "What is <b>that</b> _there_?"
        assert kept["status"] in ("completed", "incomplete") and kept["answer"]
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as Markdown").click()
        markdown = Path(download.value.path()).read_text()
        assert r"## What is \<b\>that\</b\> \_there\_?" in markdown

        page.reload()
        page.wait_for_function(DRAWN.format(0))
        assert "What is <b>that</b> _there_?" in chat(page)
        page.get_by_role("button", name="Forget the dialogue").click()
        page.get_by_text("Nobody has asked anything yet.").wait_for()


def test_an_answer_is_stopped_and_one_is_asked_at_a_time(
    served: ServedHttp, browser_page: BrowserPage, slow_answers: None
) -> None:
    with browser_page() as page:
        visit(page, served)
        ask(page, "Tell me everything")
        stop = page.get_by_role("button", name="Stop the answer")
        stop.wait_for()
        ask(page, "And more")
        page.get_by_text("One question at a time").first.wait_for()
        assert page.locator("#question textarea").input_value() == "And more"
        stop.click()
        wait_for_answers(page, 1)
        assert "cancelled" in chat(page)
        page.get_by_role("button", name="Ask", exact=True).click()
        wait_for_answers(page, 2)
        assert "And more" in chat(page)


def test_what_is_forgotten_while_an_answer_comes_does_not_come_back(
    served: ServedHttp, browser_page: BrowserPage, slow_answers: None
) -> None:
    with browser_page(allows=LEAVING) as page:
        visit(page, served)
        ask(page, "The old one")
        wait_for_answers(page, 1)
        ask(page, "The new one")
        page.get_by_role("button", name="Stop the answer").wait_for()
        page.get_by_role("button", name="Forget the dialogue").click()
        wait_for_answers(page, 2)
        page.reload()
        page.wait_for_function(DRAWN.format(0))
        assert "The new one" in chat(page) and "The old one" not in chat(page)


def test_two_visitors_have_dialogues_of_their_own(
    served: ServedHttp, browser_page: BrowserPage
) -> None:
    with browser_page() as one, browser_page(dark=True) as other:
        for page in (one, other):
            visit(page, served)
        ask(one, "My name is Ada")
        ask(other, "My name is Bob")
        for page, mine, not_mine in ((one, "Ada", "Bob"), (other, "Bob", "Ada")):
            wait_for_answers(page, 1)
            assert mine in chat(page) and not_mine not in chat(page)
            assert not_mine not in page.locator("#timeline").inner_text()


def test_another_stream_is_chosen_by_its_name(
    served: ServedHttp, browser_page: BrowserPage
) -> None:
    with browser_page() as page:
        visit(page, served)
        page.get_by_role("combobox", name="Stream").click()
        page.get_by_role("option", name="door").click()
        page.wait_for_function("window.ivl.live.name === 'door'")
        page.wait_for_function("window.ivl.live.newest !== null")
        ask(page, "What is at the door?")
        wait_for_answers(page, 1)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as JSON").click()
        assert json.loads(Path(download.value.path()).read_text())[0]["stream"] == "door"


def test_a_clip_is_watched_for_its_visitor_alone(
    served: ServedHttp, browser_page: BrowserPage, tmp_path: Path
) -> None:
    clip = write_numbered(tmp_path / "mine.mp4", 50)
    nothing = tmp_path / "nothing.mp4"
    nothing.write_text("#EXTM3U\n/etc/passwd")
    with browser_page(expects=["400"]) as page, browser_page(expects=["429"]) as other:
        visit(page, served)
        visit(other, served)
        page.get_by_text("Watch something of your own").click()
        upload = page.get_by_label("Play a clip")
        upload.set_input_files(nothing)
        page.get_by_text("This is no video that is taken").first.wait_for()
        upload.set_input_files(clip)
        page.wait_for_function("window.ivl.live.name.startsWith('visitor-')")
        page.get_by_text("ended: ").first.wait_for()
        ask(page, "What was that?")
        wait_for_answers(page, 1)
        assert "about 50 frames" in chat(page)
        other.get_by_text("Watch something of your own").click()
        other.get_by_label("Play a clip").set_input_files(clip)
        other.get_by_text("The one place for visitors").first.wait_for()
        assert other.get_by_label("Address").count() == 0


def test_a_camera_that_is_refused_is_told_in_words(
    served: ServedHttp, browser_page: BrowserPage
) -> None:
    with browser_page() as page:
        visit(page, served)
        before = set(served.visitors._open)
        page.get_by_text("Watch something of your own").click()
        page.get_by_role("button", name="Use my camera").click()
        page.get_by_text("was not allowed to use the camera").first.wait_for()
        assert set(served.visitors._open) <= before


def test_a_server_that_is_too_busy_is_told_of_in_words(
    served: ServedHttp, browser_page: BrowserPage, tmp_path: Path
) -> None:
    """It answers so before the application does, in plain text."""
    clip = write_numbered(tmp_path / "mine.mp4", 5)
    with browser_page(expects=["503"]) as page:
        visit(page, served)
        page.route("**/v1/visitors/clip", lambda route: route.fulfill(status=503, body="Busy"))
        page.get_by_text("Watch something of your own").click()
        page.get_by_label("Play a clip").set_input_files(clip)
        page.get_by_text("The server answered 503.").wait_for()


def test_pictures_go_on_after_some_that_cannot_be_drawn(
    served: ServedHttp, browser_page: BrowserPage
) -> None:
    with browser_page() as page:
        page.add_init_script(
            """const draw = createImageBitmap;
            let failures = 3;
            window.createImageBitmap = (jpeg) =>
              failures-- > 0 ? Promise.reject(new Error("no memory")) : draw(jpeg);"""
        )
        visit(page, served)


def test_plots_are_cleared_with_the_numbers(served: ServedHttp, browser_page: BrowserPage) -> None:
    with browser_page() as page:
        visit(page, served)
        drawn = page.evaluate(
            """async () => {
              const { Numbers } = await import("/static/numbers.js");
              const section = document.querySelector(".numbers").cloneNode(true);
              document.body.append(section);
              const numbers = new Numbers(section);
              const canvas = section.querySelector("[data-plot=fps]");
              const lit = () => canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
              numbers.plots.fps.add(20, 25);
              const before = lit();
              numbers.clear();
              return [before, lit()];
            }"""
        )
        assert drawn == [True, False]


def test_nothing_keeps_people_out(served: ServedHttp, browser_page: BrowserPage) -> None:
    """Neither colours, nor missing names, nor a narrow screen; and the keyboard is enough."""
    for look in ({}, {"dark": True}, {"width": 390, "height": 844}):
        with browser_page(**look) as page:  # type: ignore[arg-type]
            visit(page, served)
            page.get_by_text("Watch something of your own").click()
            page.locator("#question textarea").focus()
            page.keyboard.type("What do you see?")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            wait_for_answers(page, 1)
            assert serious_findings(page) == []
            width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert width <= 0


def test_mjpeg_stands_in_for_a_websocket(served: ServedHttp, browser_page: BrowserPage) -> None:
    with browser_page() as page:
        page.route_web_socket("**/v1/live/**", lambda socket: socket.close())
        page.goto(served.url.removesuffix("/v1"))
        picture = page.locator(".live img")
        picture.wait_for()
        page.wait_for_function("e => e.naturalWidth === 320", arg=picture.element_handle())


def test_the_timeline_is_bounded_and_keeps_what_was_said(
    served: ServedHttp, browser_page: BrowserPage
) -> None:
    with browser_page() as page:
        visit(page, served)
        ask(page, "What do you see?")
        wait_for_answers(page, 1)
        page.evaluate(
            """() => {
              const { timeline, live } = window.ivl;
              for (let s = 0; s < 500; s++) { timeline.next = 0; timeline.frame(live.canvas, s); }
            }"""
        )
        assert page.locator(".timeline .picture").count() == 120
        assert page.locator(".timeline .said").count() == 1


def test_nothing_of_another_stream_stays(browser_page: BrowserPage) -> None:
    """Neither its picture nor its age nor its numbers, where the next one has none yet."""
    sources = [live_source(), PushedSource("robot")]
    with (
        serving_http("cam", "robot", page=True, sources=sources, fps=25.0) as served,
        browser_page() as page,
    ):
        page.route_web_socket("**/v1/live/cam", lambda socket: socket.close())
        page.goto(served.url.removesuffix("/v1"))
        page.locator(".live img").wait_for()
        wait_until(lambda: served.talk.live.num_lookers("cam") == 1)
        page.get_by_role("combobox", name="Stream").click()
        page.get_by_role("option", name="robot").click()
        page.get_by_text("waiting for a picture").wait_for()
        # Nor does the picture that stood in for it go on.
        wait_until(lambda: served.talk.live.num_lookers("cam") == 0)
        lit = """() => {
          const { canvas } = window.ivl.live;
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return data.some((value) => value > 0);
        }"""
        assert not page.evaluate(lit)
        assert page.locator("[data-of=fps]").inner_text() in ("-", "0 of 25")
