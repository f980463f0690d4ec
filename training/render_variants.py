"""Other looks of the pack's pictures, for training alone, so that a third style is no surprise.

The exam shows objects in a style that training has not seen of them. So training sees each picture
mirrored, leaning, narrower or shorter too, in other lights and colours.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is changed.

    Attributes:
        width, height: shares of its own; width below 0 mirrors it.
        lean: how far its top moves to the right, as a share of its height.
        hue: degrees; grey: which share of its colours goes.
        shade: how much darker its lower right is than its upper left.
        steps: of brightness that are left of each colour, 0: all.
    """

    width: float = 1.0
    height: float = 1.0
    lean: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    shade: float = 0.0
    steps: int = 0


LOOKS = (
    Look(width=-0.82, hue=12.0),
    Look(width=0.9, height=0.9, lean=0.18, grey=0.5, shade=0.3),
    Look(width=-1.0, height=0.82, steps=4),
    Look(width=0.9, height=0.9, lean=-0.18, hue=-12.0, shade=-0.3),
)


def varied(cells: Images) -> Images:
    """Pictures RGBA [N, T, T, 4] in 0..1 -> [len(LOOKS) * N, T, T, 4], look by look."""
    return np.stack([_changed(cell, look) for look in LOOKS for cell in cells])


def _changed(cell: Images, look: Look) -> Images:
    tile = cell.shape[0]
    middle = (tile - 1) / 2
    turn = np.array([[look.width, -look.lean], [0.0, look.height]])
    shift = middle - turn @ np.array([middle, middle])
    # Colours are weighed by alpha, or what is beyond the edge would tint it.
    solid = np.dstack([cell[..., :3] * cell[..., 3:], cell[..., 3:]])
    moved = cv2.warpAffine(solid, np.column_stack([turn, shift]), (tile, tile))
    alpha = moved[..., 3:].clip(0, 1)
    colours = (moved[..., :3] / np.maximum(alpha, 1e-3)).clip(0, 1)
    hsv = cv2.cvtColor(colours.astype(np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + look.hue) % 360
    hsv[..., 1] *= 1 - look.grey
    if look.steps:
        hsv[..., 2] = np.rint(hsv[..., 2] * look.steps) / look.steps
    ramp = np.linspace(-1.0, 1.0, tile)
    hsv[..., 2] *= 1 - look.shade * (ramp + ramp[:, None]) / 2
    painted = cv2.cvtColor(hsv.clip([0, 0, 0], [360, 1, 1]).astype(np.float32), cv2.COLOR_HSV2RGB)
    return np.dstack([painted, alpha]).astype(np.float32)
