"""How hard a world is, and which pictures it may show."""

from dataclasses import dataclass

from training.world_catalogue import Split
from training.world_scene import CLUTTER, PICTURES


@dataclass(frozen=True, slots=True)
class WorldStyle:
    """A point of the curriculum.

    `max_items` pictures at once, `clutter` nameless scraps at most, `photo_share` of the scenes
    before a photo, `text_rate`, `motion_rate`, `change_rate` and `cut_rate` relative to the usual,
    `pace` seconds between ticks, `cast` different pictures in a world's whole life, `noise` at the
    most, `temper` how much worlds differ in what happens often (0: not at all), `dye` how far the
    colours of an object stray from its picture's (each of red, green and blue by that share),
    `looks` how many objects have one of LOOKS (drawn by a renderer with `load_pack(looks=True)`).
    """

    split: Split = "train"
    max_items: int = 3
    clutter: int = 2
    photo_share: float = 0.5
    text_rate: float = 1.0
    motion_rate: float = 1.0
    change_rate: float = 1.0
    cut_rate: float = 1.0
    pace: float = 0.9
    cast: int = 16
    noise: float = 0.06
    temper: float = 0.6
    dye: float = 0.0
    looks: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_items <= PICTURES:
            raise ValueError(f"max_items must be 0..{PICTURES}, got {self.max_items}")
        if not 0 <= self.clutter <= CLUTTER:
            raise ValueError(f"clutter must be 0..{CLUTTER}, got {self.clutter}")
        if self.pace <= 0 or not 4 <= self.cast <= 32:
            raise ValueError(f"pace must be positive, cast 4..32: {self.pace}, {self.cast}")
