"""Made-up addresses, playlists and pictures: each ends in a source, a frame or one clear sentence.

A few examples of each are run with all tests. For many more, new ones each time, for 10 minutes:

    FUZZ=long pytest tests/test_fuzz.py
"""

import io
import os
import struct
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sources.errors import PictureError, SourceError
from sources.frame import VideoFrame
from sources.live import LiveSource, Patience
from sources.open import open_source
from sources.picture import decode_picture
from sources.policy import ClientPolicy, check_url
from sources.status import SourceCondition, SourceStatus
from tests.rig.http_servers import segment

LONG = os.environ.get("FUZZ") == "long"
CANARY = "canaryhunter2"
HASTY = Patience(connect=1.5, stall=0.5, grace=0.2, backoff=0.01, backoff_most=0.01)
LISTED = ClientPolicy(("http", "https", "rtsp"), ("cam.lan", "*.example.org"), ())


@pytest.fixture(scope="module", autouse=True)
def rss_before() -> int:
    """What this process takes before the first test, in bytes."""
    return psutil.Process().memory_info().rss


odd_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
odd_part = st.one_of(
    odd_text,
    st.sampled_from(["", "@", ":", "/", "//", "?", "#", "\\", "%", "%00", "[", "]", "[::1]", " "]),
    st.sampled_from(["cam.lan", "a.example.org", "127.0.0.1", "0x7f.1", "evil.net", "169.254.1.1"]),
)


def examples(count: int) -> settings:
    """So many of them, the same each time, or many more and others each time."""
    return settings(
        max_examples=count * (250 if LONG else 1),
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """Something like scheme://user:password@host:port/path?query, with odd things in its places."""
    scheme = draw(st.sampled_from(["rtsp", "RTSP", "rtsps", "http", "https", "ht tp", "x"]))
    before, after, host, port, path = (draw(odd_part) for _ in range(5))
    password = draw(st.sampled_from([CANARY, f"{CANARY}%40", f"a{CANARY}", f"{CANARY}:x"]))
    where = draw(st.sampled_from(["user", "query", "both"]))
    user = f"{before}:{password}@" if where != "query" else ""
    query = f"?token={CANARY}" if where != "user" else draw(st.sampled_from(["", "?a=1", "?"]))
    return f"{scheme}://{user}{host}{after}:{port}/{path}{query}"


@examples(300)
@given(addresses())
def test_any_address_is_a_source_or_one_sentence_without_its_password(url: str) -> None:
    try:
        source = open_source(url)
    except SourceError as error:
        said = str(error)
    else:
        said = source.info.name
        source.close()
    assert CANARY not in said


@examples(300)
@given(st.one_of(odd_text, addresses().map(lambda url: url.replace(CANARY, "pw"))))
def test_any_address_that_clients_may_ask_for_is_read_alike_by_another_parser(url: str) -> None:
    """What is let through names an allowed host, however it is read."""
    try:
        parts = check_url(url, LISTED)
    except SourceError:
        return
    other = httpx.URL(url)
    for host in (parts.hostname, other.host, urlsplit(url).hostname):
        assert host is not None
        host = host.rstrip(".").lower()
        assert host == "cam.lan" or host.endswith(".example.org")


class Playlists(ThreadingHTTPServer):
    """Serves one text at every address that ends in .m3u8, and one segment at all others."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.text = b""
        self.segment = segment(0, 5, 25, (160, 120))


class _Handler(BaseHTTPRequestHandler):
    server: Playlists

    def do_GET(self) -> None:
        body = self.server.text if ".m3u8" in self.path else self.server.segment
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Playlists]:
    with Playlists() as playlists:
        Thread(target=playlists.serve_forever, args=(0.01,), daemon=True).start()
        yield playlists
        playlists.shutdown()


number = st.sampled_from(["0", "1", "-1", "1.0", "1e99", "99999999999999999999", "nan", "", "0x7f"])
entry = st.one_of(
    st.sampled_from(
        ["0.ts", "a.m3u8", "/b.m3u8", "//", "http://127.0.0.1:1/0.ts", "file:///etc/passwd"]
    ),
    st.sampled_from(["data:text/plain,x", "crypto:0.ts", "concat:0.ts|1.ts", "subfile,,:0.ts"]),
    odd_text,
)
line = st.one_of(
    entry,
    st.builds("#EXTINF:{},".format, number),
    st.builds("#EXTINF:1.0,\n{}".format, entry),
    st.builds("#EXT-X-TARGETDURATION:{}".format, number),
    st.builds("#EXT-X-MEDIA-SEQUENCE:{}".format, number),
    st.builds("#EXT-X-BYTERANGE:{}@{}\n0.ts".format, number, number),
    st.builds('#EXT-X-MAP:URI="{}",BYTERANGE="{}"'.format, entry, number),
    st.builds('#EXT-X-KEY:METHOD={},URI="{}",IV={}'.format, odd_text, entry, number),
    st.builds("#EXT-X-STREAM-INF:BANDWIDTH={},{}\n{}".format, number, odd_text, entry),
    st.builds('#EXT-X-MEDIA:TYPE={},GROUP-ID="{}",URI="{}"'.format, odd_text, odd_text, entry),
    st.builds("#EXT-X-START:TIME-OFFSET={}".format, number),
    st.sampled_from(["#EXT-X-ENDLIST", "#EXT-X-DISCONTINUITY", "#EXT-X-VERSION:7", "#EXTM3U"]),
)
playlists = st.builds(
    lambda first, lines, cut: (first + "\n".join(lines)).encode()[:cut],
    st.sampled_from(["#EXTM3U\n", "#EXTM3U\r\n", "\ufeff#EXTM3U\n", ""]),
    st.lists(line, max_size=12),
    st.one_of(st.none(), st.integers(0, 200)),
)


@examples(6)
@given(text=playlists, asked_by_client=st.booleans())
def test_any_playlist_is_played_or_given_up_in_time(
    server: Playlists, text: bytes, asked_by_client: bool
) -> None:
    """Within its patience the source shows a frame or says what is wrong, and closes at once."""
    server.text = text
    capture = {"kind": "network", "url": f"http://127.0.0.1:{server.server_address[1]}/a.m3u8"}
    if asked_by_client:
        policy = ClientPolicy(("http",), ("127.0.0.1",), ("127.0.0.1",))
        capture |= {"policy": policy.to_dict()}  # type: ignore[dict-item]
    source = LiveSource("cam", capture, patience=HASTY)
    began_s = time.monotonic()
    try:
        outcome = first_outcome(source)
    finally:
        read_s = time.monotonic() - began_s
        source.close()
    assert outcome and read_s < 15.0, (outcome, read_s)
    assert time.monotonic() - began_s - read_s < 5.0
    assert psutil.Process().children() == []


def first_outcome(source: LiveSource) -> str:
    """What it came to: a frame, or words."""
    try:
        while (item := source.read()) is not None:
            if isinstance(item, VideoFrame):
                return "frame"
            if isinstance(item, SourceStatus) and item.condition in (
                SourceCondition.RECONNECTING,
                SourceCondition.ENDED,
            ):
                return item.detail
    except SourceError as error:
        return str(error)
    return ""


def header(kind: str, width: int, height: int) -> bytes:
    """A whole picture of 32 x 24 whose header claims another size."""
    out = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, kind)
    data = out.getvalue()
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", height % 65536, width % 65536) + data[at + 4 :]
    if kind == "PNG":
        return data[:16] + struct.pack(">II", width, height) + data[24:]
    at = data.index(b"\x9d\x01\x2a") + 3
    return data[:at] + struct.pack("<HH", width % 16384, height % 16384) + data[at + 4 :]


size = st.one_of(st.integers(0, 200), st.integers(0, 2**32 - 1), st.sampled_from([32, 24, 60000]))
edits = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=6)


@examples(300)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), size, size, edits, st.floats(0.1, 1.0))
def test_any_picture_is_decoded_within_its_limit_or_refused(
    kind: str, width: int, height: int, changes: list[tuple[float, bytes]], kept: float
) -> None:
    data = bytearray(header(kind, width, height))
    for where, new in changes:
        at = int(where * len(data))
        data[at : at + len(new)] = new
    try:
        image = decode_picture(bytes(data[: int(kept * len(data))]), max_pixels=10_000)
    except PictureError as error:
        assert str(error).endswith(".")
    else:
        assert image.shape[0] * image.shape[1] <= 10_000 and image.shape[2] == 3


def test_fuzzing_took_no_memory(rss_before: int) -> None:
    """All of the above left little behind, whatever other tests this process has run."""
    assert psutil.Process().memory_info().rss - rss_before < 0.25e9
