"""What a capture gives: a word that it is open, pictures, and what was lost between them."""

from dataclasses import dataclass

from sources.decode import Picture


@dataclass(frozen=True, slots=True)
class Opened:
    """The first picture is there: its size in pixels, the nominal rate, and more in words."""

    width: int
    height: int
    fps: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Losses:
    """Packets that did not decode, and packets skipped to catch up."""

    corrupt: int = 0
    stale: int = 0


Captured = Opened | Picture | Losses
