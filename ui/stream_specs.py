"""The streams that a command line asks for: --source, --stream NAME=URI, or a TOML file.

In the file every table is a stream, named as the table is; what it does not say is as the command
line's options say:

    [door]
    source = "rtsp://user:password@camera/live"
    fps = 10

    [yard]
    source = "clips/yard.mp4"    # from where this file is
    loop = true

A source may hold a password: no sentence of this file repeats a value.
"""

import argparse
import glob
import os.path
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sources.open import SourceOptions
from sources.redact import safe_url
from stream.buffer import FullPolicy
from stream.registry import StreamRefusedError, check_name
from stream.session import StreamConfig
from ui.arguments import HWACCELS, ON_GAP, TRANSPORTS, frame_rate, positive, seconds

ONLY_STREAM = "stream"  # what the stream of --source is called
MAX_FILE_BYTES = 1 << 20
# What is a device and not a path from where the file is, and what is an address, or mistyped as
# one, unless there is such a file.
_DEVICE = re.compile(
    r"[0-9]{1,4}|push|(camera|screen|synthetic):.*|screen|synthetic(#.*)?", re.DOTALL
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream to be opened; its name is in `config`. `uri` may hold a password."""

    uri: str
    options: SourceOptions
    config: StreamConfig


def stream_specs(args: argparse.Namespace) -> list[StreamSpec]:
    """What was asked for, in order; StreamRefusedError says what is wrong with it."""
    if args.source is not None:
        return [_spec(ONLY_STREAM, args.source, args)]
    if args.streams is not None:
        return _specs_of_file(Path(args.streams), args)
    specs: list[StreamSpec] = []
    for text in args.stream:
        name, equals, uri = text.partition("=")
        if not equals:
            raise StreamRefusedError("--stream: write NAME=SOURCE, such as door=rtsp://camera/live")
        if check_name(name) in [spec.config.name for spec in specs]:
            raise StreamRefusedError(f"--stream: there are two streams named {name!r}")
        specs.append(_spec(name, uri, args))
    return specs


def _spec(name: str, uri: str, args: argparse.Namespace) -> StreamSpec:
    options = SourceOptions(
        args.loop, args.rtsp_transport, args.hwaccel, args.start, args.image_fps
    )
    config = StreamConfig(
        name=name,
        fps=args.fps if args.pace == "clock" else None,
        on_full=args.on_full,
        duration_s=args.duration,
        reset_on_gap=args.on_gap == "reset",
    )
    return StreamSpec(uri, options, config)


def _specs_of_file(path: Path, args: argparse.Namespace) -> list[StreamSpec]:
    shown = safe_url(str(path))
    tables = _read(path, shown)
    if not tables:
        raise StreamRefusedError(f"{shown} names no stream; write a table [NAME] for each")
    specs = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise StreamRefusedError(
                f"{shown}: {safe_url(name)[:80]!r} is in no table; write [NAME] before it"
            )
        try:
            values = _values(check_name(name), table)
        except StreamRefusedError as error:
            raise StreamRefusedError(f"{shown}: {error}") from None
        own = argparse.Namespace(**(vars(args) | values))
        specs.append(_spec(name, _beside(path, values["source"]), own))
    return specs


def _read(path: Path, shown: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StreamRefusedError(f"{shown} cannot be read: {reason.lower()}") from None
    if len(data) > MAX_FILE_BYTES:
        raise StreamRefusedError(f"{shown} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise StreamRefusedError(f"{shown} is not UTF-8 text") from None
    except ValueError as error:  # it says what and where, and repeats no value
        raise StreamRefusedError(f"{shown} is not TOML: {str(error).lower()}") from None
    except RecursionError:
        raise StreamRefusedError(f"{shown} is nested too deeply") from None


def _values(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """A table's values by the names that the command line's options have."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            raise StreamRefusedError(
                f"[{name}] has an unknown key {safe_url(key)[:80]!r}; known are {', '.join(_KEYS)}"
            )
        option, check = _KEYS[key]
        try:
            values[option] = check(value)
        except argparse.ArgumentTypeError as error:
            raise StreamRefusedError(f"[{name}] {key}: {error}") from None
    if "source" not in values:
        raise StreamRefusedError(f"[{name}] names no source")
    return values


def _beside(file: Path, uri: str) -> str:
    """The source, a relative path of which starts where the file is."""
    if not uri or _DEVICE.fullmatch(uri):
        return uri
    if "://" not in uri and os.path.exists(file.parent / uri):
        return str(file.parent / uri)
    if _ADDRESS.fullmatch(uri):
        return uri
    # It may be a pattern, but the folder's own name is none.
    return str(Path(glob.escape(str(file.parent))) / uri)


def _source(value: Any) -> str:
    """An address, a path, or the index of a camera."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10_000:
        return str(value)
    if not isinstance(value, str):
        raise argparse.ArgumentTypeError("write a text, in quotes, or the index of a camera")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise argparse.ArgumentTypeError("write true or false")
    return value


def _number(check: Callable[[str], float]) -> Callable[[Any], float]:
    """What a number must be as an option's value, it must be in a file."""

    def checked(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise argparse.ArgumentTypeError("write a number")
        try:
            return check(str(float(value)))
        except OverflowError:
            raise argparse.ArgumentTypeError("write a smaller number") from None

    return checked


def _one_of(choices: Iterable[str]) -> Callable[[Any], str]:
    known = list(choices)

    def checked(value: Any) -> str:
        if value not in known:
            raise argparse.ArgumentTypeError(f"write one of {', '.join(known)}")
        return known[known.index(value)]

    return checked


# From a key of the file to the option that it stands in for, and what its value must be.
_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "source": ("source", _source),
    "fps": ("fps", _number(frame_rate)),
    "on_full": ("on_full", _one_of(FullPolicy)),
    "on_gap": ("on_gap", _one_of(ON_GAP)),
    "loop": ("loop", _switch),
    "start": ("start", _number(seconds)),
    "duration": ("duration", _number(positive)),
    "image_fps": ("image_fps", _number(frame_rate)),
    "transport": ("rtsp_transport", _one_of(TRANSPORTS)),
    "hwaccel": ("hwaccel", _one_of(HWACCELS)),
}
