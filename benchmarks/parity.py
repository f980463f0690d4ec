"""Does our model compute what the published code computes?

    python -m benchmarks.parity --dir tests/data/tiny

The folder holds a checkpoint (`config.json`, `model.safetensors`) and `expected.safetensors`, a
recording of the published code: frames, image tokens, last hidden vectors, questions asked in
mid-stream with their logits and greedy ids, and the final states. Prints the worst relative error
by group of tensors and exits 1 on a miss.

`--ops plain` runs plain torch, `--ops fused` the Triton kernels. On CUDA recorded ids are fed,
since one flipped tie changes all that follows.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.report import show
from kernels.ops import PLAIN, fused_ops
from model.infinitevl import InfiniteVL
from model.rope import frame_positions
from model.state import DeltaNetState, RingKVCache, StatePool
from model.weights import CheckpointError, load_weights

STREAM, FORK = 1, 2
PIXEL_SCALE = 32


class Recording:
    """An `expected.safetensors`, and what its shapes say."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.tensors = {name: tensor.to(device) for name, tensor in load_file(path).items()}
        self.num_frames = len(self["temporal_offset"])
        positions = self["frame.00.position_ids"]
        self.grid = int(positions[1].max()), int(positions[2].max())
        self.asked = sorted(
            {int(m[1]) for n in self.tensors if (m := re.match(r"ask\.(\d+)\.", n))}
        )

    @property
    def num_tokens(self) -> int:
        """The most tokens a slot comes to hold: all frames, and the longest question's."""
        rows, columns = self.grid
        questions = [
            len(self[f"ask.{i:02d}.input_ids"]) + len(self[f"ask.{i:02d}.greedy_ids"])
            for i in self.asked
        ]
        return 1 + self.num_frames * rows * columns + max(questions, default=0)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def pixels(self, number: int) -> Tensor:
        """Frame `number` as [1, P, 1176]: a pair of pictures in time."""
        return self["pixel_values_int8_x32"][number][None].float() / PIXEL_SCALE


class Worst:
    """The worst relative error of each group, and the groups that miss."""

    def __init__(self) -> None:
        self.errors: dict[str, float] = {}

    def add(self, group: str, expected: Tensor, got: Tensor) -> None:
        error = float("inf")
        if expected.shape == got.shape and bool(torch.isfinite(got).all()):
            difference = (got.double() - expected.double()).norm()
            error = float(difference / expected.double().norm().clamp_min(1e-30))
        self.errors[group] = max(error, self.errors.get(group, 0.0))


def run(vlm: InfiniteVL, recording: Recording, *, feed_recorded: bool) -> tuple[Worst, float]:
    """Play the recording through our model.

    Returns:
        The worst errors, and the share of greedy ids that are equal.
    """
    rows, columns = recording.grid
    pool = vlm.new_pool(2, max_append=rows * columns, max_context=recording.num_tokens)
    worst, agreed = Worst(), []
    slot = torch.tensor([STREAM], device=vlm.device)
    start = vlm.start_stream(STREAM, pool)
    tokens_per_second = vlm.config.vision.tokens_per_second
    for i in range(recording.num_frames):
        embeddings = vlm.encode_patches(recording.pixels(i), recording.grid)
        if i == 0:
            worst.add("vision", recording["vision.frame00"], embeddings[0])
        offset = recording["temporal_offset"][i : i + 1]
        times_s = offset.double() / tokens_per_second
        hidden = vlm.append_image_tokens(embeddings, times_s, slot, pool, recording.grid)[0]
        positions = frame_positions(times_s, rows, columns, tokens_per_second)[0]
        if i == 0:
            hidden = torch.cat([start[0], hidden])
            positions = torch.cat([torch.zeros_like(positions[:1]), positions])
        worst.add("hidden", recording[f"frame.{i:02d}.last_hidden"], hidden)
        worst.add("positions", recording[f"frame.{i:02d}.position_ids"], positions.T)
        if i in recording.asked:
            pool.copy(STREAM, FORK)
            agreed += answer(vlm, recording, f"ask.{i:02d}", pool, worst, feed_recorded)
    for group, expected, got in final_states(vlm, recording, pool):
        worst.add(group, expected, got)
    return worst, sum(agreed) / len(agreed) if agreed else 1.0


def answer(
    vlm: InfiniteVL,
    recording: Recording,
    name: str,
    pool: StatePool,
    worst: Worst,
    feed_recorded: bool,
) -> list[bool]:
    """Ask a recorded question on the forked slot; which greedy ids are equal."""
    fork = torch.tensor([FORK], device=vlm.device)
    ids = recording[f"{name}.input_ids"].long()[None]
    expected = recording[f"{name}.logits"]
    greedy = recording[f"{name}.greedy_ids"].long()
    for part in ids.split(pool.max_append, 1):
        logits = vlm.append_text(part, fork, pool)
    rows, agreed = [logits[0]], []
    for recorded in greedy:
        own = logits[0].argmax()
        agreed.append(bool(own == recorded))
        following = recorded if feed_recorded else own
        logits = vlm.decode(following[None], fork, pool)
        rows.append(logits[0])
    worst.add("logits", expected, torch.stack(rows))
    return agreed


def final_states(
    vlm: InfiniteVL, recording: Recording, pool: StatePool
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(group, recorded, ours) of every layer's state after the last frame."""
    for i, state in enumerate(pool.layers):
        name = f"final.layer.{i}."
        if isinstance(state, DeltaNetState):
            yield "recurrent", recording[name + "recurrent_state"], state.recurrent_state[STREAM]
            parts = [recording[f"{name}conv_state_{part}"] for part in "qkv"]
            past = state.conv_state.shape[1]
            recorded = torch.cat(parts)
            yield (
                "convolution",
                recorded[:, recorded.shape[1] - past :],
                state.conv_state[STREAM].T,
            )
        elif isinstance(state, RingKVCache):
            full = vlm.config.layer_types[i] == "full_attention"
            tags = (pool.full_tags if full else pool.sliding_tags)[STREAM]
            order = torch.argsort(tags)[len(tags) - recording[name + "keys"].shape[1] :]
            for part, ring in (("keys", state.keys), ("values", state.values)):
                yield part, recording[name + part], ring[STREAM, order].transpose(0, 1)


@torch.inference_mode()
def main(argv: list[str] | None = None) -> int:
    """0 if every tensor is near and every greedy id equal, 1 if not, 2 for bad input."""
    parser = argparse.ArgumentParser(description="Compare with a recording of the published code.")
    parser.add_argument("--dir", type=Path, default=Path("tests/data/tiny"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ops", choices=["plain", "fused"], default="plain")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    try:
        vlm = load_weights(args.dir, device, torch.float32)
        recording = Recording(args.dir / "expected.safetensors", device)
    except (CheckpointError, SafetensorError, OSError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    vlm.use_ops(fused_ops() if args.ops == "fused" else PLAIN)
    bound, feed_recorded = 1e-4, device.type == "cuda"
    try:
        worst, agreement = run(vlm, recording, feed_recorded=feed_recorded)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        print(f"error: {args.dir} is not a whole recording: {error}", file=sys.stderr)
        return 2
    agreed = feed_recorded or agreement == 1.0
    held = all(error < bound for error in worst.errors.values()) and agreed
    rows = [
        [group, f"{error:.1e}", f"{bound:.0e}", "ok" if error < bound else "MISS"]
        for group, error in worst.errors.items()
    ]
    wanted = "-" if feed_recorded else "100 %"
    rows.append(
        ["greedy ids equal", f"{100 * agreement:.1f} %", wanted, "ok" if agreed else "MISS"]
    )
    result = {
        "benchmark": "parity",
        "dir": str(args.dir),
        "device": str(device),
        "ops": args.ops,
        "bound": bound,
        "worst_relative_error": worst.errors,
        "greedy_agreement": agreement,
        "held": held,
    }
    show(f"Parity with {args.dir}", ["group", "worst", "bound", ""], rows, result)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
