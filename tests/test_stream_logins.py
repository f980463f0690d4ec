"""People who log in: by a token, for a cookie that lets in as the token does."""

import asyncio
import urllib.request
from http.client import HTTPResponse
from typing import Any
from urllib.error import HTTPError

import pytest

from stream.live_view import MJPEG_PATH
from stream.logins import MAX_LOGINS, VALID_S, Logins
from stream.tickets import Caller
from tests.app_sockets import LIVE_CAM, opening, status_of
from tests.http_serving import ServedHttp, serving_http
from tests.stream_helpers import PATIENCE_S, FakeClock
from tests.test_stream_app import EVIL, PUSHER, TOKEN, fetch, locked

ASKER = Caller(1, frozenset({"query"}))


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def post_token(served: ServedHttp, token: str, **headers: str) -> HTTPResponse | HTTPError:
    """What is answered to the form."""
    return post(served, "/login", f"token={token}", **headers)


def post(served: ServedHttp, path: str, body: str, **headers: str) -> HTTPResponse | HTTPError:
    url = served.url.removesuffix("/v1") + path
    request = urllib.request.Request(url, body.encode(), headers)
    try:
        answer: HTTPResponse = urllib.request.build_opener(NoRedirect).open(request)
    except HTTPError as error:
        return error
    return answer


@pytest.fixture(scope="module")
def served() -> Any:
    with serving_http(doors=locked(), page=True) as served:
        yield served


def test_a_token_is_shown_once_and_a_cookie_stands_in_for_it(served: ServedHttp) -> None:
    answer = post_token(served, TOKEN)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and TOKEN not in cookie
    given = cookie.partition(";")[0]
    assert fetch(served, "/v1/models", None)[0] == 401
    assert fetch(served, "/v1/models", None, Cookie=given)[0] == 200
    assert fetch(served, "/ui/", None, Cookie=given)[0] == 200
    headers = {"Cookie": given}
    assert status_of(served, LIVE_CAM, headers=headers) == 101
    assert status_of(served, LIVE_CAM, headers={**headers, "Origin": EVIL}) == 403
    assert fetch(served, "/v1/models", None, Cookie=given[:-1])[0] == 401
    # A token that is shown counts, and not the cookie beside it.
    assert fetch(served, "/v1/models", "wrong", Cookie=given)[0] == 401


def test_a_token_that_may_not_look_is_not_let_in(served: ServedHttp) -> None:
    answer = post_token(served, PUSHER)
    assert answer.status == 403 and answer.headers["set-cookie"] is None
    assert b"does not allow to look" in answer.read()


def test_a_login_allows_no_more_than_its_token(served: ServedHttp) -> None:
    given = post_token(served, TOKEN).headers["set-cookie"].partition(";")[0]
    for kind in ("camera", "clip", "address"):
        status, _, _ = fetch(served, f"/v1/visitors/{kind}", None, method="POST", Cookie=given)
        assert status == 401


def test_what_is_no_token_is_refused_in_words(served: ServedHttp) -> None:
    for token in ("", "wrong", "%3Cscript%3E", TOKEN[:-1]):
        answer = post_token(served, token)
        assert answer.status == 403 and answer.headers["set-cookie"] is None
        body = answer.read()
        assert b"not known" in body and b"<script>" not in body


def test_who_logs_out_is_out_and_no_one_else(served: ServedHttp) -> None:
    given, other = (
        post_token(served, TOKEN).headers["set-cookie"].partition(";")[0] for _ in range(2)
    )
    assert post(served, "/logout", "", Cookie=given, Origin=EVIL).status == 403
    assert fetch(served, "/v1/models", None, Cookie=given)[0] == 200
    answer = post(served, "/logout", "", Cookie=given)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert fetch(served, "/v1/models", None, Cookie=given)[0] == 401
    assert fetch(served, "/v1/models", None, Cookie=other)[0] == 200
    assert post(served, "/logout", "", Cookie=given).status == 401


def test_what_a_login_opened_ends_with_it_and_nothing_else(served: ServedHttp) -> None:
    """A websocket says why; a stream of pictures without an end has one."""
    given, other = (
        post_token(served, TOKEN).headers["set-cookie"].partition(";")[0] for _ in range(2)
    )
    mjpeg = urllib.request.Request(
        served.url.removesuffix("/v1") + MJPEG_PATH.format(name="cam"), headers={"Cookie": given}
    )

    async def test() -> None:
        theirs, others = ({"headers": {"Cookie": cookie}} for cookie in (given, other))
        async with (
            asyncio.timeout(PATIENCE_S),
            opening(served, LIVE_CAM, **theirs) as live,
            opening(served, **theirs) as asks,
            opening(served, LIVE_CAM, **others) as of_other,
            opening(served, LIVE_CAM, TOKEN, **theirs) as by_token,
        ):
            for socket in (live, asks, of_other, by_token):
                await socket.recv()
            with urllib.request.urlopen(mjpeg) as pictures:
                assert pictures.read(10)
                reading = asyncio.ensure_future(asyncio.to_thread(pictures.read))
                answer = await asyncio.to_thread(post, served, "/logout", "", Cookie=given)
                assert answer.status == 303
                for socket in (live, asks):
                    await socket.wait_closed()
                    assert (socket.close_code, socket.close_reason) == (1008, "logged out")
                await reading
            for socket in (of_other, by_token):
                await (await socket.ping())

    asyncio.run(test())


def test_pages_of_others_may_not_log_anyone_in(served: ServedHttp) -> None:
    assert post_token(served, TOKEN, Origin=EVIL).status == 403


def test_a_browser_that_may_not_come_in_is_sent_to_log_in(served: ServedHttp) -> None:
    status, _, body = fetch(served, "/ui/", None, Accept="text/html,*/*")
    assert status == 200 and b"Log in" in body
    assert fetch(served, "/ui/", None, Accept="application/json")[0] == 401


def test_without_tokens_there_is_nothing_to_log_in_to() -> None:
    with serving_http(page=True) as served:
        assert post_token(served, "").status == 303
        assert b"gradio" in fetch(served, "/login", None)[2]  # it is sent on to the page
        assert fetch(served, "/", None)[0] == 200


def test_a_login_that_is_out_of_date_ends_what_it_opened() -> None:
    async def test() -> None:
        clock = FakeClock()
        logins = Logins(clock)
        text = logins.give(ASKER)
        clock.advance(VALID_S - 0.05)
        waiting = asyncio.ensure_future(logins.wait_end(text))
        await asyncio.sleep(0)
        assert not waiting.done()
        async with asyncio.timeout(PATIENCE_S):
            await waiting
            await logins.wait_end("none")

    asyncio.run(test())


def test_logins_end_and_are_bounded() -> None:
    clock = FakeClock()
    logins = Logins(clock)
    other = Caller(2, frozenset({"query"}))
    of_other, first = logins.give(other), logins.give(ASKER)
    assert logins.caller(first) == ASKER and logins.caller("") == Caller()
    last = [logins.give(ASKER) for _ in range(MAX_LOGINS)][-1]
    assert logins.caller(first) == Caller() and logins.caller(last) == ASKER
    assert logins.caller(of_other) == other
    clock.advance(VALID_S)
    assert logins.caller(last) == logins.caller(of_other) == Caller()
