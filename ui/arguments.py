"""The command line of `run_stream.py`, checked as far as words alone can be."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from stream.buffer import FullPolicy
from ui.process_title import without_secrets

MAX_FPS = 240.0
HWACCELS = ["auto", "cuda", "vaapi", "qsv", "vdpau", "vulkan", "amf", "videotoolbox", "d3d11va"]
TRANSPORTS = ["tcp", "udp"]
ON_GAP = ["keep", "reset"]
MAX_THREADS = 1024
MAX_PLACES = 64
MAX_ANSWERS = 64
MAX_CONTEXT = 1 << 24
UI_ADDRESS = "127.0.0.1:7860"


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage text and without passwords."""

    arguments: Sequence[str] = ()  # those being parsed

    def error(self, message: str) -> NoReturn:
        message = without_secrets(message, self.arguments)
        print(f"error: {message} (--help lists the options)", file=sys.stderr)
        raise SystemExit(2)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(
        prog="run_stream.py", description="Watch video streams and answer questions about them."
    )
    parser.arguments = sys.argv[1:] if argv is None else argv
    _add_streams(parser)
    _add_watching(parser)
    _add_answering(parser)
    _add_serving(parser)
    parser.add_argument("--json", action="store_true", help="one event a line, as JSON")
    parser.add_argument("--log-json", action="store_true", help="the log on stderr as JSON lines")
    args = parser.parse_args(argv)
    if args.visitors is None:
        args.visitors = 1 if args.ui else 0
    elif args.visitors and not args.ui:
        parser.error("--visitors is for the page: give --ui, too")
    return args


def _add_streams(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group(required=True).add_argument
    add(
        "--source",
        help="camera index, camera:DEVICE?size=WxH&fps=F&format=C, file, folder, list of files "
        "(.txt, .m3u), quoted 'pattern*.mp4', rtsp(s)://, http(s)://, screen, push, or synthetic",
    )
    add(
        "--stream",
        action="append",
        metavar="NAME=SOURCE",
        help="one of several streams, once for each; a name is 1 to 64 letters, digits, - and _",
    )
    add(
        "--streams",
        metavar="FILE.toml",
        help="several streams, a table [NAME] for each: source, and if need be fps, on_full, "
        "on_gap, loop, start, duration, image_fps, transport, hwaccel in place of the options here",
    )


def _add_watching(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model",
        default="nano",
        help="nano (default, comes with the code), folder, Hugging Face id, random:tiny, random:4b",
    )
    add("--fps", type=frame_rate, default=25.0, help="target rate (default 25)")
    add("--pace", choices=["clock", "max"], default="clock", help="max: as fast as possible")
    add("--loop", action="store_true", help="play a file over and over")
    add("--start", type=seconds, default=0.0, metavar="SECONDS", help="pass over so much of it")
    add(
        "--image-fps",
        type=frame_rate,
        default=25.0,
        help="pictures a second of a folder (default 25)",
    )
    add("--duration", type=positive, metavar="SECONDS", help="end the stream after this time")
    add("--on-full", type=FullPolicy, choices=list(FullPolicy), help="default: by the source")
    add(
        "--on-gap",
        choices=ON_GAP,
        default="keep",
        help="when a lost source is found again: keep (default) what was seen, or begin anew",
    )
    add("--rtsp-transport", choices=TRANSPORTS, default="tcp")
    add("--hwaccel", choices=HWACCELS, help="decode network streams in hardware where that works")
    add(
        "--frame-size",
        type=frame_size,
        metavar="WxH",
        help="default: the model's own, or else the picture's",
    )
    add("--device", default="auto", help="auto, cpu, cuda")
    add("--precision", choices=("auto", "fp8"), default="auto", help="fp8: 8-bit products, on CUDA")
    add(
        "--threads",
        type=_whole(0, MAX_THREADS),
        default=0,
        help="CPU threads of one op, and two run at once (default: half the cores, at most 4)",
    )
    add(
        "--max-context",
        type=_whole(1, MAX_CONTEXT),
        help="tokens a full-attention checkpoint may remember",
    )


def _add_serving(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--serve", type=_address, metavar="HOST:PORT", help="serve websocket clients there")
    one = parser.add_mutually_exclusive_group().add_argument
    help_http = "serve websocket clients and those of OpenAI's API there"
    one("--http", type=_address, metavar="HOST:PORT", help=help_http)
    one(
        "--ui",
        nargs="?",
        const=UI_ADDRESS,
        type=_address,
        metavar="HOST:PORT",
        help=f"the same, and a page to look and ask (default {UI_ADDRESS})",
    )
    add(
        "--visitors",
        type=_whole(0, MAX_PLACES),
        metavar="N",
        help="places for sources that visitors of the page bring (default 1 with --ui)",
    )
    add(
        "--client-source",
        action="append",
        default=[],
        metavar="HOST",
        help="visitors may have rtsp(s) and https addresses of this host watched; * is any",
    )
    add(
        "--client-network",
        action="append",
        default=[],
        metavar="CIDR",
        help="such a host may be in this network, though it is not public",
    )
    add("--token-file", type=Path, metavar="FILE", help="who may come in: TOKEN [SCOPE,...] a line")
    add(
        "--origin",
        action="append",
        default=[],
        help="of web pages that may connect, such as https://mine.example; without it none may",
    )
    add("--tls-cert", type=Path, metavar="PEM")
    add("--tls-key", type=Path, metavar="PEM")


def _add_answering(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--ask",
        action="append",
        default=[],
        metavar="[@NAME] [12.5s:|end:] QUESTION",
        help="at that time of the stream, or now; of the stream NAME, or else of the first",
    )
    add("--max-tokens", type=int, default=64, help="longest answer (default 64)")
    add(
        "--max-answers",
        type=_whole(1, MAX_ANSWERS),
        default=4,
        metavar="N",
        help="questions answered at once (default 4); others wait",
    )
    add("--temperature", type=float, default=0.0, help="0 (default) is greedy")
    add("--top-p", type=float, default=1.0)
    add("--deadline", type=positive, metavar="SECONDS", help="cut an answer after this time")


def frame_rate(text: str) -> float:
    """Frames a second."""
    fps = _number(text)
    if not 0.0 < fps <= MAX_FPS:
        raise argparse.ArgumentTypeError(f"{text} frames a second: above 0, at most {MAX_FPS:g}")
    return fps


def positive(text: str) -> float:
    value = _number(text)
    if not value > 0.0:
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return value


def seconds(text: str) -> float:
    value = _number(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8765")
    return host.strip("[]"), int(port)


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Reads whole numbers from `least` to `most`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number from {least} to {most}"
            )
        return int(text)

    return read


def frame_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (text.isascii() and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 448x448")
    return int(width), int(height)
