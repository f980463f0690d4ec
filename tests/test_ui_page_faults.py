"""What the page says when all is not well, and whom it lets in."""

from sources.policy import ClientPolicy
from tests.browser import BrowserPage, serious_findings
from tests.http_serving import serving_http
from tests.page_visits import DRAWN, ask, live_source, visit, wait_for_answers
from tests.stream_helpers import scripted
from tests.test_stream_app import TOKEN, locked


def test_a_source_that_is_lost_is_told_of(browser_page: BrowserPage) -> None:
    with serving_http(page=True, sources=[scripted(5)]) as served, browser_page() as page:
        page.goto(served.url.removesuffix("/v1"))
        page.get_by_text("ended: ").first.wait_for()
        page.wait_for_function(r"/ s old$/.test(document.querySelector('.live .frame').innerText)")
        assert "ended" in page.locator(".timeline").inner_text()


def test_a_full_queue_is_told_of(browser_page: BrowserPage, slow_answers: None) -> None:
    with (
        serving_http(page=True, sources=[live_source()], fps=25.0, max_questions=1) as served,
        browser_page() as page,
    ):
        visit(page, served)
        served.registry.get("cam").ask("A long one")
        ask(page, "Me, too")
        page.get_by_text("questions are open").first.wait_for()
        assert page.locator("#question textarea").input_value() == "Me, too"


def test_an_address_is_taken_where_the_operator_allows_its_host(
    browser_page: BrowserPage,
) -> None:
    policy = ClientPolicy(("rtsp",), ("camera.example",))
    with (
        serving_http(page=True, sources=[live_source()], places=1, policy=policy) as served,
        browser_page(expects=["403"]) as page,
    ):
        visit(page, served)
        page.get_by_text("Watch something of your own").click()
        box = page.get_by_label("Address")
        box.fill("rtsp://user:secret@other.example/live")
        box.press("Enter")
        page.get_by_text("this host may not be asked for").first.wait_for()
        assert "secret" not in page.locator("body").inner_text()
        box.fill("rtsp://camera.example/live")
        box.press("Enter")
        page.wait_for_function("window.ivl.live.name.startsWith('visitor-')")


def test_a_page_comes_back_when_its_server_does(browser_page: BrowserPage) -> None:
    with browser_page(allows=["ERR_CONNECTION", "WebSocket"]) as page:
        with serving_http(page=True, sources=[live_source()], fps=25.0) as served:
            visit(page, served)
            port = served.address[1]
        page.get_by_text("The server ").first.wait_for()
        page.evaluate("window.before = true")
        with serving_http(page=True, sources=[live_source()], fps=25.0, port=port) as served:
            page.wait_for_function(f"!window.before && {DRAWN.format(0)}")
            ask(page, "Are you there?")
            wait_for_answers(page, 1)


def test_logins_that_ended_are_asked_for_again(browser_page: BrowserPage) -> None:
    """As they do with the program; the page does not wait for ever."""
    with browser_page(allows=["ERR_CONNECTION", "WebSocket", "401"]) as page:
        with serving_http(page=True, sources=[live_source()], fps=25.0, doors=locked()) as served:
            page.goto(served.url.removesuffix("/v1"))
            page.get_by_label("The token").fill(TOKEN)
            page.get_by_role("button", name="Come in").click()
            page.wait_for_function(DRAWN.format(0))
            port = served.address[1]
        with serving_http(page=True, sources=[live_source()], doors=locked(), port=port):
            page.get_by_label("The token").wait_for()


def test_a_visitor_logs_in_once_for_all_of_it(browser_page: BrowserPage) -> None:
    with (
        serving_http(
            page=True, sources=[live_source()], fps=25.0, doors=locked(), places=1
        ) as served,
        browser_page(expects=["403", "401"]) as page,
    ):
        page.goto(served.url.removesuffix("/v1"))
        token = page.get_by_label("The token")
        token.fill("wrong-but-long-enough")
        token.press("Enter")
        page.get_by_text("This token is not known.").wait_for()
        assert serious_findings(page) == []
        page.get_by_label("The token").fill(TOKEN)
        page.get_by_role("button", name="Come in").click()
        page.wait_for_function(DRAWN.format(2))
        ask(page, "What do you see?")
        wait_for_answers(page, 1)
        page.get_by_text("Watch something of your own").click()
        page.get_by_label("Play a clip").set_input_files(
            {"name": "a.mp4", "mimeType": "video/mp4", "buffer": b"x"}
        )
        page.get_by_text("Your token does not allow").wait_for()
        kept = "localStorage.getItem('ivl-history')"
        assert page.evaluate(kept)
        other_tab = page.context.new_page()
        other_tab.goto(page.url)
        other_tab.wait_for_function(DRAWN.format(2))
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("The token").wait_for()
        other_tab.get_by_label("The token").wait_for()
        assert page.evaluate(kept) is None
        page.goto(served.url.removesuffix("/v1"))
        page.get_by_label("The token").wait_for()
