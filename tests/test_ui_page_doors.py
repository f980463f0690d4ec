"""What of the page is reached, by whom, and that it reads and fetches nothing for anyone."""

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import _IncludedRouter

from tests.clips import write_clip
from tests.http_serving import ServedHttp, serving_http
from tests.stream_helpers import PATIENCE_S
from tests.test_stream_app import PUSHER, TOKEN, fetch, locked
from ui.mounted import MAX_EVENT_BYTES, is_needed

JOIN = "/ui/gradio_api/queue/join"


@pytest.fixture(scope="module")
def served() -> Iterator[ServedHttp]:
    """Locked, with a place for a visitor's source."""
    with serving_http(doors=locked(), page=True, places=1) as served:
        yield served


def test_every_route_of_the_page_is_locked_without_a_token() -> None:
    """Also those that Gradio has, and whatever it may be asked by websocket."""
    with serving_http(doors=locked(), page=True, places=1) as served:
        [page] = [r for r in served.app.routes if getattr(r, "path", "") == "/ui"]
        paths = {f"/ui{re.sub(r'{[^}]*}', 'x', path)}" for path in paths_of(page.app.routes)}
        paths |= {f"/ui/gradio_api{path.removeprefix('/ui')}" for path in paths}
        paths |= {"/", "/ui", "/ui/", "/static/main.js", "/static/page.css"}
        assert len(paths) > 60 and any(map(is_needed, paths))
        for path in sorted(paths):
            for method in ("GET", "POST"):
                for token in (None, TOKEN[:-1], PUSHER):
                    status = fetch(served, path, token, method=method)[0]
                    assert status == (401 if is_needed(path) else 404), path
        assert fetch(served, "/ui/")[0] == 200
        assert fetch(served, "/static/main.js")[0] == 200


def paths_of(routes: Iterable[Any]) -> Iterator[str]:
    """Of all routes, those of routers among them, too."""
    for route in routes:
        if isinstance(route, _IncludedRouter):
            yield from paths_of(route.original_router.routes)
        else:
            yield route.path


def test_pages_may_fetch_nothing_from_elsewhere() -> None:
    with serving_http(page=True) as served:
        status, headers, body = fetch(served, "/ui/", None)
        assert status == 200
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http" not in policy
        assert not re.findall(rb"(?:src|href)=\"https?://", body)


def asked(served: ServedHttp, *inputs: Any, session: str | None = None) -> str:
    """All that is told of a question whose inputs are not a browser's."""
    config = re.search(rb"window.gradio_config = (.*?);</script>", fetch(served, "/ui/")[2])
    assert config is not None
    events = json.loads(config[1])["dependencies"]
    number = next(event["id"] for event in events if event["api_name"] == "ask")
    session = session or uuid.uuid4().hex[:10]
    body = {"fn_index": number, "data": list(inputs), "session_hash": session}
    assert fetch(served, JOIN, method="POST", body=body)[0] == 200
    return fetch(served, f"/ui/gradio_api/queue/data?session_hash={session}")[2].decode()


def test_no_file_is_read_for_whoever_names_it(served: ServedHttp, tmp_path: Path) -> None:
    """Neither of this machine nor of another, wherever it is named."""
    secret = tmp_path / "tokens"
    secret.write_text("only-for-the-operator")
    for path in (str(secret), "/etc/passwd", "http://127.0.0.1:1/x.png"):
        named = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for inputs in ([named, "cam", []], ["What?", named, []], ["What?", "cam", [[named]]]):
            told = asked(served, *inputs)
            assert "Text is taken here, no files" in told and "/tokens" not in told
    assert "Text is taken here" in asked(served, "a half \ud800 character", "cam", [])
    assert '"process_completed"' in asked(served, "What?", "cam", [])


def test_a_page_that_stays_open_keeps_no_more_with_every_question(served: ServedHttp) -> None:
    """Of each component one, and not one for each question with the dialogue until then."""
    [page] = [r for r in served.app.routes if getattr(r, "path", "") == "/ui"]
    kept = []
    for _ in range(4):
        assert '"success":true' in asked(served, "What?", "cam", [], session="stays-open")
        state = page.app.state_holder["stays-open"]
        kept.append((len(state.blocks_config.blocks), len(state.config_values)))
    assert kept[1] == kept[-1]


def test_what_the_page_does_not_need_is_not_there(served: ServedHttp, tmp_path: Path) -> None:
    """Above all what reads files, fetches addresses and takes uploads."""
    file = tmp_path / "x.png"
    file.write_bytes(b"x")
    for path in (
        f"file={file}", "file=http://127.0.0.1:1/x.png", f"file/{file}", "proxy=http://127.0.0.1:1/",
        "upload", "upload_progress", "stream/a/b/c/d", "run/predict", "call/ask", "info", "config",
        "process_recording", "component_server", "queue/status", "openapi.json",
    ):  # fmt: skip
        for prefix in ("/ui/", "/ui/gradio_api/", "/ui/gradio_api/ui/", "/ui//gradio_api/"):
            for method in ("GET", "POST"):
                assert fetch(served, prefix + path, method=method)[0] == 404, prefix + path
    assert fetch(served, "/ui/assets/..%2f..%2fpackage.json")[0] == 404


def test_what_is_too_much_is_refused_at_once(served: ServedHttp) -> None:
    body = b"[" + b"[]," * (MAX_EVENT_BYTES // 3) + b"[]]"
    assert fetch(served, JOIN, method="POST", body=body)[0] == 413
    answer = asked(served, "What?", "cam", [{"stream": "cam", "question": "x" * 50_000}])
    assert '"success":true' in answer


def test_a_clip_is_taken_from_who_may_bring_one_and_is_deleted(tmp_path: Path) -> None:
    both = "may-look-and-bring-0123"
    doors = locked()
    doors = type(doors)({**doors.tokens, both: frozenset({"query", "ingest"})})
    clip = write_clip(tmp_path / "a.mp4").read_bytes()
    kept = Path("/tmp")
    before = set(kept.glob("ivl-*.clip"))
    with serving_http(doors=doors, page=True, places=1) as served:
        path = "/v1/visitors/clip"
        assert fetch(served, path, TOKEN, method="POST", body=clip)[0] == 401
        status, _, said = fetch(served, path, both, method="POST", body=clip)
        name = json.loads(said)["name"]
        assert status == 201 and served.registry.get(name).wait(PATIENCE_S)
        status, headers, said = fetch(served, path, both, method="POST", body=clip)
        assert status == 429 and "Retry-After".lower() in {h.lower() for h in headers}
        assert b"The one place" in said
        for names in (fetch(served, "/v1/streams")[2], fetch(served, "/metrics")[2]):
            assert name.encode() not in names
        assert fetch(served, f"/v1/visitors/{name}", both, method="DELETE")[0] == 204
        assert fetch(served, f"/v1/streams/{name}/frame.jpg")[0] == 404
        assert fetch(served, path, both, method="POST", body=b"nothing")[0] == 400
        address = {"url": "rtsp://camera/live"}
        assert fetch(served, "/v1/visitors/address", both, method="POST", body=address)[0] == 403
        assert fetch(served, "/v1/visitors/address", both, method="POST", body={})[0] == 400
    assert set(kept.glob("ivl-*.clip")) <= before
