"""What cannot be opened: each case has its own sentence, found at opening, with no secret in it."""

import socket
import wave
from pathlib import Path

import av
import pytest

from sources.errors import SourceError, SourceOpenError
from sources.open import open_source
from sources.redact import safe_url
from sources.status import SourceCondition, SourceStatus

CANARY = "hunter2"


@pytest.mark.parametrize("name", ["notes.md", "notes.mp4", "notes.py"])
def test_text_file_is_refused(tmp_path: Path, name: str) -> None:
    """Text is no video, not even where FFmpeg would render it as terminal art."""
    path = tmp_path / name
    path.write_text("hello world\n" * 100)
    with pytest.raises(SourceOpenError, match="is not a video"):
        open_source(str(path))


def test_empty_file_is_refused(tmp_path: Path) -> None:
    """A file of no bytes is no video."""
    (tmp_path / "a.mp4").touch()
    with pytest.raises(SourceOpenError, match="is not a video"):
        open_source(str(tmp_path / "a.mp4"))


def test_sound_without_video_is_refused(tmp_path: Path) -> None:
    """An audio file has no video stream."""
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with pytest.raises(SourceOpenError, match="has no video stream"):
        open_source(str(path))


def test_video_without_a_decodable_frame_is_refused(tmp_path: Path) -> None:
    """A file that announces video but holds only noise gives no first frame."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        frame = av.VideoFrame(96, 64, "yuv420p")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            noise = av.Packet(b"\xff" * packet.size)
            noise.stream, noise.time_base = stream, packet.time_base
            noise.pts, noise.dts = packet.pts, packet.dts
            container.mux(noise)
    with pytest.raises(SourceOpenError, match=r"No picture .* could be decoded"):
        open_source(str(path))


def test_directory_and_missing_file_are_refused(tmp_path: Path) -> None:
    """A directory of no videos and a path with nothing there are told apart."""
    with pytest.raises(SourceOpenError, match="holds no video and no picture"):
        open_source(str(tmp_path))
    with pytest.raises(SourceOpenError, match="There is no file"):
        open_source(str(tmp_path / "absent.mp4"))


def test_unknown_scheme_names_those_that_work() -> None:
    """An ftp address is refused by a sentence that lists what can be given."""
    with pytest.raises(SourceOpenError, match=r"ftp://example.com/a.mp4 is not .*rtsp://.*file://"):
        open_source("ftp://example.com/a.mp4")


@pytest.mark.parametrize("uri", ["", "   "])
def test_empty_name_is_refused(uri: str) -> None:
    """Nothing is not a source."""
    with pytest.raises(SourceOpenError, match="No source was named"):
        open_source(uri)


@pytest.mark.parametrize("spec", ["synthetic:", "synthetic:640x360", "synthetic#x"])
def test_misspelt_synthetic_source_shows_how_to_write_it(spec: str) -> None:
    """A wrong pattern is answered by an example of a right one."""
    with pytest.raises(SourceOpenError, match="synthetic:640x360@25#100"):
        open_source(spec)


@pytest.mark.parametrize("spec", ["synthetic:8x8@25", "synthetic:640x360@0"])
def test_synthetic_source_out_of_range_is_refused(spec: str) -> None:
    """Sizes and rates that make no video are refused."""
    with pytest.raises(SourceOpenError, match="out of range"):
        open_source(spec)


@pytest.mark.parametrize("scheme", ["rtsp", "http", "https"])
def test_refused_connection_says_so_without_the_password(
    scheme: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nothing listens the error says so; neither it nor the terminal shows a secret."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        source = open_source(f"{scheme}://admin:{CANARY}@127.0.0.1:{port}/x?token={CANARY}")
        items = [source.read() for _ in range(2)]
        source.close()
    output = capfd.readouterr()
    lost = items[1]
    assert isinstance(lost, SourceStatus) and lost.condition is SourceCondition.RECONNECTING
    assert "connection was refused" in lost.detail and f"127.0.0.1:{port}" in lost.detail
    assert CANARY not in repr(items) + repr(source.info) + output.out + output.err


@pytest.mark.parametrize(
    "uri",
    ["rtsp://", "http:///live", "rtsp://cam:port/live", "https://ca m/live", "rtsp://cam:99999/x"],
)
def test_what_is_no_address_is_refused_at_once(uri: str) -> None:
    """There is no use in trying it again."""
    with pytest.raises(SourceOpenError, match="is not an address"):
        open_source(uri)


@pytest.mark.parametrize(
    "uri",
    [
        f"ftp://admin:{CANARY}@example.com/a",
        f"rtsp:/admin:{CANARY}@example.com/a",
        f"rtsp:admin:{CANARY}@example.com/a",
        f"admin:{CANARY}@example.com/a",
        f"file:///tmp/absent.mp4?token={CANARY}",
    ],
)
def test_mistyped_address_does_not_leak_the_password(uri: str) -> None:
    """Even an address that is taken for a path or refused outright keeps its secret."""
    with pytest.raises(SourceError) as caught:
        open_source(uri)
    assert CANARY not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("uri", "safe"),
    [
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("rtsp://admin:hunter2@cam:554/live", "rtsp://cam:554/live"),
        ("rtsp://hunter2@cam/live", "rtsp://cam/live"),
        ("rtsp://admin:hun/ter2@cam/live", "rtsp://cam/live"),
        ("rtsp://admin:hun?ter2@cam/live", "rtsp://cam/live"),
        ("rtsp://admin:hun@ter2@cam/live", "rtsp://cam/live"),
        ("rtsp://admin:hun@t/er2@cam/live", "rtsp://cam/live"),
        ("rtsp://admin:hunter2", "rtsp://admin:***"),
        ("http://u:p@[::1]:80/x", "http://[::1]:80/x"),
        ("http://cam:80/x?mail=a@b&n=1", "http://cam:80/x?***"),
        ("http://cam/x?a=1&access_token=hunter2&b=2", "http://cam/x?a=1&access_token=***&b=2"),
        ("http://cam/x?X-Amz-Signature=hunter2", "http://cam/x?X-Amz-Signature=***"),
        ("http://cam/x?apikey=hunter2#auth=hunter2", "http://cam/x?apikey=***#auth=***"),
        ("http://cam/x?PASSWORD=hun=ter2&y", "http://cam/x?PASSWORD=***&y"),
        ("http://cam/x?user=a&pass=hunter2", "http://cam/x?user=a&pass=***"),
        ("http://cam/x?user=a&pw=hunter2&n=1", "http://cam/x?user=a&pw=***&n=1"),
        ("http://cam/x?p=hunter2&ip=a&codec=h264", "http://cam/x?p=***&ip=a&codec=h264"),
        ("http://cam/x?login=a:hunter2", "http://cam/x?login=***"),
        ("http://cam/x?loginuse=a&loginpas=hunter2", "http://cam/x?loginuse=a&loginpas=***"),
        ("rtsp://cam/user=a_password=hunter2_channel=1", "rtsp://cam/user=a_password=***"),
        ("clips/me@home.mp4", "clips/me@home.mp4"),
        (r"C:\clips\me@home.mp4", r"C:\clips\me@home.mp4"),
    ],
)
def test_safe_url_hides_secrets_and_keeps_the_rest(uri: str, safe: str) -> None:
    """User info goes and secret values become ***; what is harmless stays readable."""
    assert safe_url(uri) == safe
