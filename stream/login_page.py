"""Where a person shows a token to be let in by a browser from then on, until they log out."""

from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from stream.doors import Doors
from stream.logins import COOKIE, VALID_S

LOGIN_PATH = "/login"
LOGOUT_PATH = "/logout"
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Log in</title>
<style>
  body {{ font: 1rem system-ui, sans-serif; max-width: 24rem; margin: 20vh auto 0; padding: 1rem }}
  input, button {{ font: inherit; box-sizing: border-box; width: 100%; padding: .6rem }}
</style>
<main>
  <h1>Log in</h1>
  <form method="post">
    <label for="token">The token that the operator gave you</label>
    <input id="token" name="token" type="password" required autofocus>
    <button>Come in</button>
  </form>
  <p role="alert">{said}</p>
</main>
</html>
"""


def add_login(app: FastAPI, doors: Doors) -> None:
    """Have the application log people in and out; whoever needs no token is sent on."""

    @app.get(LOGIN_PATH)
    async def ask() -> Response:
        return _page("") if doors.tokens else RedirectResponse("/", 303)

    @app.post(LOGIN_PATH)
    async def log_in(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode("latin-1"))
        caller = doors.caller(f"Bearer {fields.get('token', [''])[0]}")
        if "query" not in caller.scopes:
            known = "does not allow to look and ask" if caller.scopes else "is not known"
            return _page(f"This token {known}.", 403)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            doors.logins.give(caller),
            max_age=round(VALID_S),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return response

    @app.post(LOGOUT_PATH)
    async def log_out(request: Request) -> Response:
        doors.logins.end(request.cookies.get(COOKIE, ""))
        response = RedirectResponse(LOGIN_PATH, 303)
        response.delete_cookie(COOKIE)
        return response


def _page(said: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(said=said), status, {"Cache-Control": "no-store"})
