"""One appearance of one thing: where it is, how large and how visible, at any moment.

Everything is a closed formula of time, so a frame costs the same at 2 and at 25 frames per second
and the same moment looks the same in both. A track enters in [t_in, t_shown], leaves in
[t_hide, t_gone], and carries out one straight move and one change of size at a time.
"""

import math

from training.world_catalogue import RGB, Kind
from training.world_scene import MOTIONS

NEVER = math.inf
# Off for a part of each second: at two frames a second it is never off in two frames in a row.
BLINK_PERIOD_S, BLINK_OFF_S = 1.0, 0.4
Box = tuple[float, float, float, float]


class Track:
    """A thing on stage. The world plans it, `layer` draws it."""

    __slots__ = (
        "alpha",
        "blink_end",
        "blink_start",
        "bump",
        "changed_at",
        "class_id",
        "enters",
        "glyphs",
        "grow_end",
        "grow_start",
        "half_height",
        "half_width",
        "is_text",
        "kind",
        "leaves",
        "move_end",
        "move_start",
        "moved",
        "name",
        "rotation",
        "size",
        "slot",
        "t_gone",
        "t_hide",
        "t_in",
        "t_shown",
        "tint",
        "vx",
        "vy",
        "was_size",
        "x0",
        "y0",
    )  # fmt: skip

    def __init__(self, name: str, slot: int, size: float, x: float, y: float, t: float) -> None:
        self.name, self.slot = name, slot
        self.size = self.was_size = size
        self.grow_start = self.grow_end = t
        self.x0, self.y0, self.vx, self.vy = x, y, 0.0, 0.0
        self.move_start = self.move_end = t
        self.moved = False
        self.t_in = self.t_shown = t
        self.t_hide = self.t_gone = NEVER
        self.enters = self.leaves = "pop"
        self.blink_start = self.blink_end = -NEVER
        self.changed_at = -NEVER
        self.half_width = self.half_height = 0.6 * size
        self.rotation = 0.0
        self.alpha = 1.0
        self.kind: Kind | None = None
        self.class_id = 0
        self.tint: RGB = (1.0, 1.0, 1.0)
        self.glyphs: tuple[float, ...] = ()
        self.is_text = False
        self.bump: Track | None = None

    def place(self, t: float) -> tuple[float, float]:
        """Where the centre is."""
        d = (t if t < self.move_end else self.move_end) - self.move_start
        return self.x0 + self.vx * d, self.y0 + self.vy * d

    def move(self, t: float, vx: float, vy: float, duration: float) -> None:
        """Start a straight move from where it is."""
        self.x0, self.y0 = self.place(t)
        self.vx, self.vy = vx, vy
        self.move_start, self.move_end = t, t + duration

    def speed(self) -> float:
        """How fast the present or last move is, in frame widths per second."""
        return math.hypot(self.vx, self.vy)

    def size_at(self, t: float) -> float:
        """How large it is, not counting how it enters or leaves."""
        if t >= self.grow_end:
            return self.size
        u = (t - self.grow_start) / (self.grow_end - self.grow_start)
        return self.was_size + (self.size - self.was_size) * u

    def swept(self, t: float, end: float) -> Box:
        """The box that holds it from t until a later moment of its move."""
        (x, y), (z, w) = self.place(t), self.place(end)
        a, b = self.half_width, self.half_height
        return min(x, z) - a, min(y, w) - b, max(x, z) + a, max(y, w) + b

    def settled(self, t: float, margin: float = 0.0) -> bool:
        """Fully there and not blinking, since and for no less than margin seconds."""
        return (
            self.t_shown + margin <= t < self.t_hide - margin
            and not self.blink_start - margin <= t < self.blink_end + margin
        )

    def is_moving(self, t: float, fps: float) -> bool:
        """Plainly moving, for at least two frames by now."""
        return (
            t - max(self.move_start, 0.0) >= max(0.6, 1.2 / fps)
            and self.move_end >= t
            and self.speed() > 0
            and self.settled(t)
        )

    def is_still(self, t: float, fps: float) -> bool:
        """Plainly at rest, for at least two frames by now."""
        return t - max(self.move_end, self.t_shown, 0.0) >= max(1.0, 2.2 / fps)

    def heading(self) -> str:
        """The way of the present or last move: left, right, up or down."""
        if abs(self.vx) > abs(self.vy):
            return "right" if self.vx > 0 else "left"
        return "down" if self.vy > 0 else "up"

    def motion(self, t: float, fps: float) -> float:
        """What it does, as an index into MOTIONS."""
        if self.is_moving(t, fps):
            return float(MOTIONS.index(self.heading()))
        return float(MOTIONS.index("still" if self.is_still(t, fps) else "unclear"))

    def layer(self, t: float) -> tuple[float, ...]:
        """The fields of its layer, in the order of LAYER_FIELDS."""
        d = (t if t < self.move_end else self.move_end) - self.move_start
        size = self.size if t >= self.grow_end else self.size_at(t)
        alpha = self.alpha
        if t < self.t_shown:
            alpha, size = _partly(self.enters, (t - self.t_in) / (self.t_shown - self.t_in), size)
        elif t >= self.t_hide:
            u = (self.t_gone - t) / (self.t_gone - self.t_hide) if self.t_gone > self.t_hide else 0
            alpha, size = _partly(self.leaves, u, size)
        elif t < self.blink_end and (t - self.blink_start) % BLINK_PERIOD_S < BLINK_OFF_S:
            alpha = 0.0
        cell = self.kind.cell if self.kind is not None else 0
        x, y = self.x0 + self.vx * d, self.y0 + self.vy * d
        return (cell, x, y, size, self.rotation, *self.tint, alpha)


def _partly(how: str, u: float, size: float) -> tuple[float, float]:
    """Alpha and size of what is the share u on stage."""
    if how == "fade":
        return u, size
    if how == "grow":
        return 1.0, size * max(u, 0.05)
    return 1.0, size
