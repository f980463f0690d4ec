"""Train the small checkpoint on worlds made on the fly.

    python -m training.train --out runs/nano                       # on a GPU
    python -m training.train --out runs/smoke --smoke              # two minutes on a CPU
    python -m training.train --out runs/nano --seconds 480         # a piece; run again to go on

Every step renders a batch of streams on the device, runs the vision tower and one pass over whole
streams with all their questions (no truncation), and takes the loss of the answers' tokens and of
what each cell of the frame shows. Weights and progress are kept in the run's folder; the
optimiser's moments are not, so a resumed piece warms up again.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.infinitevl import InfiniteVL
from model.preprocess import frames_to_patches
from model.vision_grid import VisionGrid
from model.weights import finish, random_weights
from training.data import IGNORED, Batch, Phase, loader
from training.nano import GRID, nano_config, save_checkpoint, shards
from training.render import Renderer, load_pack
from training.stream_pass import stream_pass
from training.vocabulary import write_tokenizer
from training.world import WorldStyle
from training.world_catalogue import load_catalogue

QUESTION_TOKENS = 64
EASY = WorldStyle(photo_share=0.3, clutter=1, noise=0.03)
CURRICULUM = (
    Phase(steps=800, streams=128, frames=4, questions=4, memory_share=0.0, style=EASY),
    Phase(steps=1400, streams=32, frames=16, questions=10, memory_share=0.5),
    Phase(steps=1800, streams=8, frames=64, questions=32, memory_share=0.7),
)
SMOKE = (Phase(steps=60, streams=4, frames=4, questions=4, memory_share=0.0, style=EASY),)


@dataclass(frozen=True, slots=True)
class Settings:
    """The optimiser's numbers."""

    learning_rate: float = 1.5e-3
    floor: float = 0.02
    warm_up: int = 150
    weight_decay: float = 0.05
    clip: float = 1.0
    cell_weight: float = 0.3
    background_weight: float = 0.15
    log_every: int = 50


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch with its pictures: patches [B * F, 256, 588], labels [B * F * 64] int64."""

    batch: Batch
    patches: Tensor
    labels: Tensor

    def tensors(self) -> list[Tensor]:
        return [self.patches, self.labels, *self.batch.tensors()]


class Trainer:
    """A model, its optimiser, and the loss of a batch."""

    def __init__(self, vlm: InfiniteVL, settings: Settings, device: torch.device) -> None:
        self.vlm = vlm.train().requires_grad_()
        self.settings, self.device = settings, device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.side = torch.cuda.Stream() if device.type == "cuda" else None
        self.grid = VisionGrid.build(vlm.config.vision, *GRID, device)
        # The tower sees as many frames in every phase: compiled once, it takes half the time.
        self.visual = torch.compile(vlm.visual) if device.type == "cuda" else vlm.visual
        self.cells = nn.Linear(
            vlm.config.hidden_size, load_catalogue("train").num_classes, device=device
        )
        self.renderer = Renderer(load_pack(), device)
        self.generator = torch.Generator(device).manual_seed(0)
        weights = [*vlm.parameters(), *self.cells.parameters()]
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.parameters = weights
        self.optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=(0.9, 0.95), fused=device.type == "cuda"
        )

    def prepare(self, batch: Batch) -> Prepared:
        """Draw a batch; on a stream of its own, so that it overlaps with the step before."""
        with torch.cuda.stream(self.side) if self.side else nullcontext():
            batch = batch.to(self.device)
            frames = self.renderer.render(batch.scenes, self.generator)
            config = self.vlm.config.vision
            patches = frames_to_patches(frames, *GRID, config, self.dtype)
            return Prepared(batch, patches, self.renderer.cell_labels(batch.scenes).flatten())

    def step(self, batch: Prepared, learning_rate: float) -> Tensor:
        """One optimiser step; (answer loss, cell loss, share of answers wholly right)."""
        if self.side:
            torch.cuda.current_stream().wait_stream(self.side)
            # Their memory is the side stream's: not to be reused before this step has read it.
            for tensor in batch.tensors():
                tensor.record_stream(torch.cuda.current_stream())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            answer_loss, cell_loss, right = self.losses(batch)
        loss = answer_loss + self.settings.cell_weight * cell_loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return torch.stack([answer_loss.detach(), cell_loss.detach(), right])

    def save(self, folder: Path, step: int, total: int) -> None:
        """Keep the weights in fp32 and how far the curriculum has come, in files of 16 MB."""
        state = {f"vlm.{name}": t.contiguous() for name, t in self.vlm.state_dict().items()}
        state |= {f"cells.{name}": t for name, t in self.cells.state_dict().items()}
        for number, shard in enumerate(shards(state)):
            save_file(shard, folder / f"weights-{number}.safetensors")
        (folder / "progress.json").write_text(json.dumps({"step": step, "of": total}))

    def resume(self, folder: Path) -> int:
        """Take up what `save` left; the step to go on from, 0 for a new run."""
        progress = folder / "progress.json"
        if not progress.exists():
            return 0
        state: dict[str, Tensor] = {}
        for file in sorted(folder.glob("weights-*.safetensors")):
            state |= load_file(file, device=str(self.device))
        for name, part in (("vlm.", self.vlm), ("cells.", self.cells)):
            own = {k.removeprefix(name): t for k, t in state.items() if k.startswith(name)}
            part.load_state_dict(own)
        return int(json.loads(progress.read_text())["step"])

    def losses(self, prepared: Prepared) -> tuple[Tensor, Tensor, Tensor]:
        batch, labels = prepared.batch, prepared.labels
        B, T = batch.times_s.shape
        image_tokens = self.visual(prepared.patches, self.grid)
        weight = torch.where(labels == 0, self.settings.background_weight, 1.0)
        cells = F.cross_entropy(self.cells(image_tokens).flatten(0, 1), labels, reduction="none")
        cell_loss = (cells.float() * weight).sum() / weight.sum()
        streams = image_tokens.unflatten(0, (B, T))
        hidden = stream_pass(self.vlm, streams, batch.times_s, batch.branches, GRID)
        asked = batch.targets != IGNORED
        logits = self.vlm.language_model.logits(hidden[asked])
        answer_loss = F.cross_entropy(logits, batch.targets[asked])
        guess = torch.full_like(batch.targets, IGNORED)
        guess[asked] = logits.argmax(-1)
        real = asked.any(1)
        right = ((guess == batch.targets).all(1) & real).sum() / real.sum().clamp_min(1)
        return answer_loss, cell_loss, right


def learning_rate(step: int, since_start: int, total: int, settings: Settings) -> float:
    """Linear from the peak to the floor over all steps, with a warm-up after every start."""
    left = 1.0 - step / total
    rate = settings.learning_rate * max(left, settings.floor)
    return rate * min(1.0, (since_start + 1) / settings.warm_up)


def initial_model(device: torch.device, seed: int) -> InfiniteVL:
    """Untrained weights whose linear layers can remember for minutes, not frames."""
    vlm = random_weights(nano_config(), seed, device)
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in vlm.named_parameters():
        if name.endswith("A_log"):
            parameter.data.uniform_(1.0, 4.0, generator=generator).log_()
        elif name.endswith("dt_bias"):
            # Steps spread over 2e-6 .. 3e-2: the usual start forgets within a few frames.
            step = parameter.data.uniform_(-13.1, -3.5, generator=generator).exp_()
            parameter.data.copy_(step + torch.log(-torch.expm1(-step)))
    return vlm


def batches(
    phases: tuple[Phase, ...], done: int, tokenizer_file: str, seed: int, workers: int
) -> Iterator[Batch]:
    """The batches of the curriculum from step `done` on."""
    for number, phase in enumerate(phases):
        skipped = min(done, phase.steps)
        done -= skipped
        if skipped == phase.steps:
            continue
        own_seed = seed * 1000 + number * 100 + skipped
        source = iter(loader(phase, tokenizer_file, own_seed, QUESTION_TOKENS, workers))
        for _ in range(phase.steps - skipped):
            yield next(source)


def train(args: argparse.Namespace, phases: tuple[Phase, ...], settings: Settings) -> None:
    """Run until the curriculum or the time is over, then save."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    folder, started = Path(args.out), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_file = folder / "tokenizer.json"
    if not tokenizer_file.exists():
        write_tokenizer(tokenizer_file)
    trainer = Trainer(initial_model(device, args.seed), settings, device)
    first = trainer.resume(folder)
    total = sum(phase.steps for phase in phases)
    if first >= total:
        print(f"{folder} has been trained to the end: {total} steps")
        return
    step, recent = first, []
    stream = batches(phases, first, str(tokenizer_file), args.seed, args.workers)
    ahead = trainer.prepare(next(stream))
    for step in range(first, total):
        current, following = ahead, next(stream, None)
        if following is not None:
            ahead = trainer.prepare(following)
        rate = learning_rate(step, step - first, total, settings)
        recent.append(trainer.step(current, rate))
        if (step + 1) % settings.log_every == 0:
            means = torch.stack(recent).mean(0).tolist()
            recent.clear()
            log(folder, step + 1, rate, time.monotonic() - started, means)
        if args.seconds and time.monotonic() - started > args.seconds:
            break
    trainer.save(folder, step + 1, total)
    save_checkpoint(finish(trainer.vlm), tokenizer_file, folder / "checkpoint")


def log(folder: Path, step: int, rate: float, seconds: float, means: list[float]) -> None:
    names = ("answer_loss", "cell_loss", "answers_right")
    line = {"step": step, "learning_rate": rate, "seconds": round(seconds, 1)}
    line |= {name: round(value, 4) for name, value in zip(names, means, strict=True)}
    print(json.dumps(line), flush=True)
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the small checkpoint.")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long; 0: never")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--smoke", action="store_true", help="a short run on a CPU")
    args = parser.parse_args()
    if args.smoke:
        train(args, SMOKE, replace(Settings(), warm_up=10, log_every=10))
    else:
        train(args, CURRICULUM, Settings())


if __name__ == "__main__":
    main()
