"""What do 8-bit weights and activations change?

    python -m benchmarks.precision --frames 1000             # nano, on streams it understands
    python -m benchmarks.precision --model random:4b         # where nothing else is at hand

One stream is watched by the model as it is and by the model in fp8. Every so often both are asked,
and go on from the same tokens (those that the first prefers): how often they prefer the same token,
and the Kullback-Leibler divergence of their predictions. Beside that, how far the recurrent states
have drifted apart: norm of the difference over the norm. On a CPU the 8-bit products are emulated:
the same numbers, slowly.
"""

import argparse
import random
import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.loading import load
from benchmarks.report import show
from model.checkpoint import DEFAULT_MODEL, LoadedModel
from model.infinitevl import InfiniteVL
from model.state import DeltaNetState, StatePool
from training.questions import ask
from training.render_frame import FrameRenderer
from training.render_pack import FRAME, load_pack
from training.world import World, WorldStyle

FPS = 5.0
ASK_EVERY, ASKED, TOKENS = 25, 2, 6
AGREE, DIVERGE = 0.99, 0.02
Moment = tuple[Tensor, list[str]]


class Mind:
    """A model and what it remembers."""

    def __init__(self, vlm: InfiniteVL, grid: tuple[int, int]) -> None:
        self._vlm, self._grid = vlm, grid
        self.pool: StatePool = vlm.new_pool(2, max_append=grid[0] * grid[1])
        vlm.start_stream(1, self.pool)

    def watch(self, picture: Tensor, time_s: float) -> None:
        device = self._vlm.device
        times_s = torch.tensor([time_s], dtype=torch.float64, device=device)
        slots = torch.tensor([1], device=device)
        self._vlm.append_frames(picture[None].to(device), times_s, slots, self.pool, self._grid)

    def predict(self, prompt: list[int], following: list[int] | None) -> Tensor:
        """Log probabilities [TOKENS, vocabulary], after `following` or the likeliest tokens."""
        self.pool.copy(1, 2)
        device = self._vlm.device
        slots = torch.tensor([2], device=device)
        logits = torch.zeros(0)
        for part in torch.tensor([prompt], device=device).split(self.pool.max_append, 1):
            logits = self._vlm.append_text(part, slots, self.pool)
        rows = [logits[0]]
        for i in range(TOKENS - 1):
            token = rows[-1].argmax() if following is None else torch.tensor(following[i])
            rows.append(self._vlm.decode(token.to(device)[None], slots, self.pool)[0])
        return torch.stack(rows).double().log_softmax(-1).cpu()

    def states(self) -> Tensor:
        """All recurrent states of the stream, in one row."""
        layers = [p for p in self.pool.layers if isinstance(p, DeltaNetState)]
        return torch.cat([layer.recurrent_state[1].flatten() for layer in layers]).double().cpu()


def drawn_stream(seed: int) -> Iterator[Moment]:
    """Frames of a drawn world, and now and then questions about it."""
    world, rng, noise = (
        World(seed, FPS, WorldStyle()),
        random.Random(seed),
        np.random.default_rng(seed),
    )
    renderer, number = FrameRenderer(load_pack()), 0
    while True:
        picture = torch.from_numpy(renderer.draw(world.advance(), noise))
        number += 1
        asked = [ask(world, rng) for _ in range(ASKED)] if number % ASK_EVERY == 0 else []
        yield picture, [qa.question for qa in asked if qa is not None]


@torch.inference_mode()
def compare(model: LoadedModel, other: LoadedModel, frames: int) -> dict[str, object]:
    """Watch and ask with both."""
    side = round(model.frame_tokens**0.5)
    grid = model.grid or (side, side)
    first, second = Mind(model.vlm, grid), Mind(other.vlm, grid)
    agree, divergence, drift = [], [], {}
    for number, (picture, questions) in zip(range(1, frames + 1), drawn_stream(7), strict=False):
        for mind in (first, second):
            mind.watch(picture, number / FPS)
        for question in questions:
            prompt = model.tokenizer.question_prompt(question)
            expected = first.predict(prompt, None)
            likeliest = expected.argmax(-1).tolist()
            got = second.predict(prompt, likeliest)
            # What would follow the end of an answer says nothing.
            end = model.tokenizer.im_end_id
            count = likeliest.index(end) + 1 if end in likeliest else TOKENS
            expected, got = expected[:count], got[:count]
            agree += (expected.argmax(-1) == got.argmax(-1)).tolist()
            divergence += (expected.exp() * (expected - got)).sum(-1).tolist()
        if number in (1, 10, 100, 1000, 10_000, frames):
            a, b = first.states(), second.states()
            drift[number] = float((a - b).norm() / a.norm())
    return {
        "tokens": len(agree),
        "top1_agreement": sum(agree) / len(agree),
        "kl_mean": sum(divergence) / len(divergence),
        "kl_p99": sorted(divergence)[int(0.99 * len(divergence))],
        "state_drift": drift,
    }


def main(argv: list[str] | None = None) -> int:
    """0 if fp8 may be used without a second thought, 1 if not."""
    parser = argparse.ArgumentParser(description="What 8-bit products change.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    found = compare(load(args.model), load(args.model, "fp8"), args.frames)
    agreement, divergence = found["top1_agreement"], found["kl_mean"]
    assert isinstance(agreement, float) and isinstance(divergence, float)
    passes = agreement >= AGREE and divergence <= DIVERGE
    rows = [[name.replace("_", " "), f"{value}"] for name, value in found.items()]
    rows.append([f"passes ({AGREE:.0%} agree, KL {DIVERGE})", "yes" if passes else "NO"])
    result = {
        "benchmark": "precision",
        "model": args.model,
        "frames": args.frames,
        "frame": FRAME,
        **found,
        "passes": passes,
    }
    show(f"fp8 beside the model as it is: {args.model}", ["", ""], rows, result)
    return 0 if passes else 1


if __name__ == "__main__":
    sys.exit(main())
