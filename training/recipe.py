"""The recipe of a training: a TOML file, read into numbers that are checked."""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from training.life import DataConfig


@dataclass(frozen=True, slots=True)
class Optimiser:
    """Muon for the matrices of the layers, AdamW for all else.

    Attributes:
        muon, adam: peak learning rates.
        hold: for which share of the training they stay, before they begin to fall.
        floor: the share of them that is left at the end.
        warm_up: steps from nothing to the peak, after every start.
        heads_first: steps at the very start in which the heads alone learn: for weights that know
            much.
        clip: the largest norm of all gradients together.
    """

    muon: float = 3e-3
    adam: float = 1.5e-3
    hold: float = 0.0
    floor: float = 0.01
    warm_up: int = 100
    heads_first: int = 0
    weight_decay: float = 0.05
    momentum: float = 0.95
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """All numbers of a training.

    Attributes:
        steps, seconds: the training ends with whichever runs out first, and the learning rate
            falls towards that end; 0 seconds: no limit.
        begin: how much of it counts as done at the start: for weights that know much.
        losses: the weight of each of `LOSSES`.
        log_every: steps.
    """

    steps: int
    seconds: float = 0.0
    begin: float = 0.0
    losses: tuple[float, ...] = (
        1.0, 0.3, 0.2, 0.1, 0.3, *[0.1] * 3, 0.3, *[0.1] * 6, *[0.2] * 2,
        *[0.2, 0.2, 0.1, 0.2, 0.1] * 2,
    )  # fmt: skip
    log_every: int = 50
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: Optimiser = field(default_factory=Optimiser)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.log_every < 1:
            raise ValueError(
                f"steps and log_every must be positive: {self.steps}, {self.log_every}"
            )
        if self.data.frames % self.data.dialogues:
            raise ValueError("dialogues must divide frames")
        if not 0.0 <= self.begin < 1.0:
            raise ValueError(f"begin must be 0 or more and below 1: {self.begin}")
        if not 0.0 <= self.optimiser.hold < 1.0:
            raise ValueError(f"hold must be 0 or more and below 1: {self.optimiser.hold}")

    def progress(self, step: int, seconds: float) -> float:
        """How much of the training is done, 0..1."""
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(max(step / self.steps, by_time), 1.0)

    def rate(self, step: int, since_start: int, seconds: float) -> float:
        """The share of the peak learning rates that a step gets."""
        left = (1.0 - self.progress(step, seconds)) / (1.0 - self.optimiser.hold)
        left = min(max(left, self.optimiser.floor), 1.0)
        return left * min(1.0, max(since_start + 1, 0) / self.optimiser.warm_up)


def read_recipe(file: Path) -> Recipe:
    """Read a recipe; raises ValueError naming a key that is not known."""
    values = tomllib.loads(file.read_text())
    data = DataConfig(**_known(DataConfig, values.pop("data", {}), file))
    optimiser = Optimiser(**_known(Optimiser, values.pop("optimiser", {}), file))
    return Recipe(**_known(Recipe, values, file), data=data, optimiser=optimiser)


def _known(kind: Any, values: dict[str, Any], file: Path) -> dict[str, Any]:
    """The values as keyword arguments, if the dataclass `kind` has all of them."""
    if unknown := values.keys() - {f.name for f in fields(kind)}:
        raise ValueError(f"{file} has {min(unknown)!r}, which no recipe has")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
