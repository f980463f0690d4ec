"""Which files a path stands for: one, those of a folder, those of a list, or those of a pattern.

A folder gives its videos, or if it holds none its pictures; hidden files and those below it do not
count. Names are ordered as people count: 2.png comes before 10.png. A list, .txt or .m3u, names
a file a line, in the order that they are to be played, from where the list is.
"""

import glob
import os.path
import re
from pathlib import Path

from sources.errors import SourceOpenError
from sources.redact import safe_url

_PICTURE = re.compile(r"\.(jpe?g|png|webp)", re.IGNORECASE)
_VIDEO = re.compile(
    r"\.(26[45]|3gp|asf|avi|divx|dv|f4v|flv|gif|h26[45]|hevc|ivf|m2ts|m[24]v|mjpe?g|mkv|mov|mp4|"
    r"mpe?g|mts|mxf|nut|ogv|ts|vob|webm|wmv|y4m)",
    re.IGNORECASE,
)
_LIST = re.compile(r"\.(m3u|txt)", re.IGNORECASE)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_MAX_LIST_BYTES = 1 << 20


def find_files(path: Path) -> list[Path]:
    """Return the files that `path` stands for, in order, whether or not they can be read.

    Raises SourceOpenError if there are none.
    """
    name = safe_url(str(path))
    if os.path.isdir(path):
        files = _in_folder(path, name)
        if not files:
            raise SourceOpenError(
                f"The folder {name} holds no video and no picture; give one with files such as "
                "MP4, MKV, JPEG or PNG."
            )
    elif os.path.exists(path):
        files = _in_list(path, name) if _LIST.fullmatch(path.suffix) else [path]
    elif files := sorted(map(Path, glob.glob(str(path))), key=_natural):
        files = [file for file in files if not os.path.isdir(file)]
    if not files:
        raise SourceOpenError(f"There is no file {name}; give the path of a video file.")
    return files


def is_picture(path: Path) -> bool:
    """Whether a file is a still picture, by its name."""
    return _PICTURE.fullmatch(path.suffix) is not None


def _in_folder(folder: Path, name: str) -> list[Path]:
    try:
        files = sorted((f for f in folder.iterdir() if not f.name.startswith(".")), key=_natural)
    except PermissionError:
        raise SourceOpenError(f"{name} may not be read; give this user read permission.") from None
    videos = [file for file in files if _VIDEO.fullmatch(file.suffix) and not os.path.isdir(file)]
    return videos or [file for file in files if is_picture(file) and not os.path.isdir(file)]


def _in_list(path: Path, name: str) -> list[Path]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_LIST_BYTES + 1)
        if len(text) > _MAX_LIST_BYTES:
            raise ValueError
        lines = [line.strip() for line in text.decode("utf-8-sig").splitlines()]
    except PermissionError:
        raise SourceOpenError(f"{name} may not be read; give this user read permission.") from None
    except (OSError, ValueError):
        lines = []
    lines = [line for line in lines if line and not line.startswith("#")]
    if any(_ADDRESS.match(line) for line in lines):
        # As a path it would not lose its password where it is named.
        raise SourceOpenError(f"{name} names an address; write the paths of files, one a line.")
    files = [path.parent / line for line in lines]
    if not files:
        raise SourceOpenError(f"{name} is not a list of files; write one path a line.")
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers by their value, words without regard to case."""
    parts = re.findall(r"\d+|\D+", str(path).casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
