"""What one frame shows, as one flat vector of numbers that workers can send and the GPU can draw.

Layers are drawn in order: two of clutter, three of pictures, two of text. x and y are the centre in
0..1 of the frame, a size is a fraction of the frame's height (the height of a line for text), the
rotation is in radians, clockwise. An unused layer has alpha 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

CLUTTER, PICTURES, TEXTS = 2, 3, 2
LAYERS = CLUTTER + PICTURES + TEXTS
FIRST_PICTURE, WORD_SLOT, NUMBER_SLOT = CLUTTER, CLUTTER + PICTURES, CLUTTER + PICTURES + 1
LAYER_FIELDS = ("cell", "x", "y", "size", "rotation", "red", "green", "blue", "alpha")
MAX_GLYPHS = 6
# glyph numbers (-1: none), then 1 for a plate behind the text, 0 for an outline around it
TEXT_FIELDS = MAX_GLYPHS + 1
VIEW_FIELDS = (
    "background", "x", "y", "zoom", "angle", "blur", "red", "green", "blue",
    "gain", "softness", "noise", "shift_x", "shift_y",
)  # fmt: skip

# What a layer does, by number: not plain, at rest, or moving one of four ways.
MOTIONS = ("unclear", "still", "left", "right", "up", "down")
# What one must remember to know of a picture: the classes of those that came before it, the first
# time and this time, and how often it has been there.
PAST_FIELDS = ("before", "follows", "times")
# ... and of the stream: how many different pictures it has shown, the class of the last one that
# went, in which region it was, what has just happened: whether something came, went or the scene
# was cut (0 or 1), and which of CHANGES there was; and the classes of the last one that came and
# of the one that had come before it.
STREAM_FIELDS = (
    "distinct", "last_left", "left_from", "entered", "left", "cut", "changed", "newest", "previous",
)  # fmt: skip
CHANGES = ("none", "larger", "smaller", "colour")
# Where there is no plain answer.
UNKNOWN = -100.0

_TEXTS_AT = LAYERS * len(LAYER_FIELDS)
_CLASSES_AT = _TEXTS_AT + TEXTS * TEXT_FIELDS
_MOTIONS_AT = _CLASSES_AT + LAYERS
_PAST_AT = _MOTIONS_AT + LAYERS
_STREAM_AT = _PAST_AT + PICTURES * len(PAST_FIELDS)
_VIEW_AT = _STREAM_AT + len(STREAM_FIELDS)
SCENE_SIZE = _VIEW_AT + len(VIEW_FIELDS)

EMPTY_LAYER = (0.0,) * len(LAYER_FIELDS)
EMPTY_TEXT = (-1.0,) * MAX_GLYPHS + (0.0,)


@dataclass(frozen=True, slots=True)
class Scene:
    """One frame's worth of things to draw."""

    values: NDArray[np.float32]

    @property
    def layers(self) -> NDArray[np.float32]:
        """[LAYERS, len(LAYER_FIELDS)]"""
        return self.values[:_TEXTS_AT].reshape(LAYERS, -1)

    @property
    def texts(self) -> NDArray[np.float32]:
        """[TEXTS, TEXT_FIELDS]"""
        return self.values[_TEXTS_AT:_CLASSES_AT].reshape(TEXTS, -1)

    @property
    def classes(self) -> NDArray[np.float32]:
        """[LAYERS], 0 for what has no name"""
        return self.values[_CLASSES_AT:_MOTIONS_AT]

    @property
    def motions(self) -> NDArray[np.float32]:
        """[LAYERS], indices into MOTIONS"""
        return self.values[_MOTIONS_AT:_PAST_AT]

    @property
    def past(self) -> NDArray[np.float32]:
        """[PICTURES, len(PAST_FIELDS)]"""
        return self.values[_PAST_AT:_STREAM_AT].reshape(PICTURES, -1)

    @property
    def stream(self) -> NDArray[np.float32]:
        """[len(STREAM_FIELDS)]"""
        return self.values[_STREAM_AT:_VIEW_AT]

    @property
    def view(self) -> NDArray[np.float32]:
        """[len(VIEW_FIELDS)]"""
        return self.values[_VIEW_AT:]


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """The same fields for B frames."""

    layers: torch.Tensor
    texts: torch.Tensor
    classes: torch.Tensor
    motions: torch.Tensor
    past: torch.Tensor
    stream: torch.Tensor
    view: torch.Tensor


def stack_scenes(scenes: Sequence[Scene]) -> torch.Tensor:
    """Put scenes into one tensor [B, SCENE_SIZE], fit for shared memory."""
    return torch.from_numpy(np.stack([scene.values for scene in scenes]))


def split_scenes(stacked: torch.Tensor) -> SceneBatch:
    """Name the parts of [B, SCENE_SIZE]."""
    B = stacked.shape[0]
    return SceneBatch(
        stacked[:, :_TEXTS_AT].view(B, LAYERS, len(LAYER_FIELDS)),
        stacked[:, _TEXTS_AT:_CLASSES_AT].view(B, TEXTS, TEXT_FIELDS),
        stacked[:, _CLASSES_AT:_MOTIONS_AT],
        stacked[:, _MOTIONS_AT:_PAST_AT],
        stacked[:, _PAST_AT:_STREAM_AT].view(B, PICTURES, len(PAST_FIELDS)),
        stacked[:, _STREAM_AT:_VIEW_AT],
        stacked[:, _VIEW_AT:],
    )
