"""Which streams a command line asks for, and what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest

from sources.open import SourceOptions
from stream.buffer import FullPolicy
from stream.registry import StreamRefusedError
from stream.session import StreamConfig
from ui.arguments import parse_args
from ui.stream_specs import MAX_FILE_BYTES, StreamSpec, stream_specs

CANARY = "hunter2canary"


def specs(*argv: str) -> list[StreamSpec]:
    return stream_specs(parse_args(list(argv)))


def of_file(folder: Path, text: str, *argv: str) -> list[StreamSpec]:
    file = folder / "streams.toml"
    file.write_text(text)
    return specs("--streams", str(file), *argv)


def refusal(*argv: str) -> str:
    with pytest.raises(StreamRefusedError) as error:
        specs(*argv)
    assert "\n" not in str(error.value)
    return str(error.value)


def refusal_of_file(folder: Path, text: str | bytes) -> str:
    file = folder / "streams.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    sentence = refusal("--streams", str(file))
    assert sentence.startswith(str(file)) and CANARY not in sentence
    return sentence


def test_source_is_the_stream_named_stream() -> None:
    """With all that the options say."""
    (spec,) = specs(
        *("--source", "a.mp4", "--fps", "10", "--on-full", "drop_oldest", "--on-gap", "reset"),
        *("--loop", "--start", "2", "--duration", "9", "--image-fps", "3"),
        *("--rtsp-transport", "udp", "--hwaccel", "auto"),
    )
    config = StreamConfig("stream", 10.0, FullPolicy.DROP_OLDEST, 9.0, True)
    assert spec == StreamSpec("a.mp4", SourceOptions(True, "udp", "auto", 2.0, 3.0), config)


def test_streams_of_the_command_line_are_in_order() -> None:
    """Only the first = ends the name; the options are for all of them."""
    found = specs("--stream", "yard=http://c/?a=b=c", "--stream", "door=0", "--pace", "max")
    assert [(s.config.name, s.uri) for s in found] == [("yard", "http://c/?a=b=c"), ("door", "0")]
    assert [s.config.fps for s in found] == [None, None]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["door"], "write NAME=SOURCE"),
        ([f"rtsp://user:{CANARY}@camera"], "write NAME=SOURCE"),
        ([f"rtsp://user:{CANARY}=x@camera"], "1 to 64 letters"),
        (["=a.mp4"], "1 to 64 letters"),
        (["front door=a.mp4"], "not 'front door'"),
        (["door=a.mp4", f"door=rtsp://u:{CANARY}@b"], "two streams named 'door'"),
    ],
)
def test_bad_stream_is_one_sentence(values: list[str], says: str) -> None:
    """It says what to write, and repeats no address."""
    sentence = refusal(*(part for value in values for part in ("--stream", value)))
    assert says in sentence and CANARY not in sentence


@pytest.mark.parametrize(
    "argv",
    [
        ["--source", "0", "--stream", "a=0"],
        ["--source", "0", "--streams", "f.toml"],
        ["--stream", "a=0", "--streams", "f.toml"],
        [],
    ],
)
def test_exactly_one_way_is_taken(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Two ways or none are refused in one line."""
    with pytest.raises(SystemExit):
        parse_args(argv)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--stream" in error


def test_table_stands_in_for_options(tmp_path: Path) -> None:
    """What a table does not say is as the options say."""
    text = f"""
        [door]
        source = "rtsp://user:{CANARY}@camera/live"
        fps = 10
        on_full = "wait"
        on_gap = "reset"
        transport = "udp"
        hwaccel = "vaapi"
        duration = 60.5

        [yard]
        source = 1
        loop = true
        start = 2
        image_fps = 0.5
    """
    door, yard = of_file(tmp_path, text, "--fps", "5", "--on-full", "drop_newest")
    assert door == StreamSpec(
        f"rtsp://user:{CANARY}@camera/live",
        SourceOptions(False, "udp", "vaapi"),
        StreamConfig("door", 10.0, FullPolicy.WAIT, 60.5, True),
    )
    assert yard == StreamSpec(
        "1",
        SourceOptions(True, start_s=2.0, image_fps=0.5),
        StreamConfig("yard", 5.0, FullPolicy.DROP_NEWEST),
    )


def test_a_file_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    """What is there is a path, though it looks like an address."""
    (tmp_path / "door-12:30.mp4").write_bytes(b"")
    (spec,) = of_file(tmp_path, "[door]\nsource = 'door-12:30.mp4'")
    assert spec.uri == f"{tmp_path}/door-12:30.mp4"


def test_paths_are_from_where_the_file_is(tmp_path: Path) -> None:
    """Relative ones; patterns too, in whatever folder; devices and addresses are no paths."""
    folder = tmp_path / "odd [1]"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    kept = ["0", "camera:0", "push", "screen", "screen::0@5", "synthetic", "synthetic#3"]
    kept += ["synthetic:64x64@5#3", "https://h/a.m3u8", "file:///c.mp4", "rtsp:u:p@h", ""]
    kept += ["/abs/b.mp4"]
    sources = [*kept, "a.mp4", "./*.png"]
    text = "".join(f"[s{n}]\nsource = '{s}'\n" for n, s in enumerate(sources))
    uris = [spec.uri for spec in of_file(folder, text)]
    assert uris[: len(kept)] == kept
    assert uris[-2:] == [f"{folder}/a.mp4", f"{tmp_path}/odd [[]1]/*.png"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no stream"),
        ("fps = 3", "'fps' is in no table"),
        ("[a]\nfps = 3", "[a] names no source"),
        (f"[a]\nsource = rtsp://u:{CANARY}@h", "not TOML"),
        ("[a]\nsource = '0'\n[a]\nsource = '1'", "not TOML"),
        ("[a]\nsource = '0'\nloop = " + "[" * 9999, "nested too deeply"),
        ("[a]\nsource = 0\nfps = " + "9" * 9999, "not TOML"),
        ("[a]\nsource = 0\nfps = 0x" + "f" * 9999, "smaller number"),
        (b"[a]\nsource = '\xff'", "not UTF-8"),
        ("['front door']\nsource = '0'", "not 'front door'"),
        (f"['rtsp://u:{CANARY}@h']\nsource = '0'", "1 to 64 letters"),
        (f"[a]\nsource = '0'\n'rtsp://u:{CANARY}@h' = 1", "unknown key 'rtsp://h'"),
        (
            "[a]\nsource = '0'\ncolour = 'red'",
            "[a] has an unknown key 'colour'; known are source, ",
        ),
        (f"[a]\nsource = ['{CANARY}']", "[a] source: write a text"),
        ("[a]\nsource = true", "[a] source: write a text"),
        ("[a]\nsource = -1", "[a] source: write a text"),
        ("[a]\nsource = '0'\nfps = '25'", "[a] fps: write a number"),
        ("[a]\nsource = '0'\nfps = true", "[a] fps: write a number"),
        ("[a]\nsource = '0'\nfps = 0", "at most 240"),
        ("[a]\nsource = '0'\nfps = nan", "at most 240"),
        ("[a]\nsource = '0'\nstart = -1", "[a] start: -1.0 is not a number of seconds"),
        ("[a]\nsource = '0'\nduration = 0", "above 0"),
        ("[a]\nsource = '0'\nloop = 'yes'", "[a] loop: write true or false"),
        ("[a]\nsource = '0'\nloop = 1", "[a] loop: write true or false"),
        ("[a]\nsource = '0'\non_full = 'explode'", "[a] on_full: write one of wait, drop_oldest"),
        ("[a]\nsource = '0'\non_gap = []", "[a] on_gap: write one of keep, reset"),
        ("[a]\nsource = '0'\ntransport = 'tpc'", "[a] transport: write one of tcp, udp"),
        ("[a]\nsource = '0'\nhwaccel = 7", "[a] hwaccel: write one of auto"),
        ("#" * (MAX_FILE_BYTES + 1), "larger than"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_file_is_one_sentence(tmp_path: Path, text: Any, says: str) -> None:
    """It names the file and what in it is wrong, and repeats no address."""
    assert says in refusal_of_file(tmp_path, text)


def test_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    """A missing one, and a folder."""
    assert "no such file" in refusal("--streams", str(tmp_path / "none.toml"))
    assert "is a directory" in refusal("--streams", str(tmp_path))
