"""Train the small checkpoint on worlds made on the fly.

    python -m training.train --out runs/nano                                 # on a GPU
    python -m training.train --out runs/nano --piece 480                     # so long; again: go on
    torchrun --nproc-per-node 2 -m training.train --out runs/nano            # on two
    python -m training.train --out runs/more --weights assets/nano --recipe training/more.toml
    python -m training.train --out runs/smoke --recipe training/smoke.toml   # two minutes on a CPU

Every step draws a piece of some streams on the device, lets the model watch it from where it left
off, and takes the loss of the answers to a question or two a frame and of what the cells of the
frames show. The run's folder holds all that is needed to go on, a log, and the checkpoint.
"""

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from model.infinitevl import InfiniteVL
from model.weights import finish, load_weights, random_weights
from training.asking import FAMILY_NAMES
from training.data import Batch, loader
from training.losses import LOSSES
from training.nano import nano_config, save_checkpoint
from training.questions import FAMILIES
from training.recipe import Recipe, read_recipe
from training.trainer import PROGRESS, Prepared, Trainer
from training.vocabulary import write_tokenizer

SAVE_EVERY_S = 120.0


def initial_model(device: torch.device, seed: int) -> InfiniteVL:
    """Untrained weights whose linear layers can remember for minutes, not frames."""
    vlm = random_weights(nano_config(), seed, device)
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in vlm.named_parameters():
        if name.endswith("A_log"):
            parameter.data.uniform_(1.0, 4.0, generator=generator).log_()
        elif name.endswith("dt_bias"):
            # Steps spread over 1e-7 .. 3e-2: the usual start forgets within a few frames.
            step = parameter.data.uniform_(-16.0, -3.5, generator=generator).exp_()
            parameter.data.copy_(step + torch.log(-torch.expm1(-step)))
    return vlm


class Log:
    """Means of what the steps since the last line gave, as JSON lines."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._sums: list[Tensor] = []
        self._steps = 0

    def add(self, results: list[Tensor]) -> None:
        """Take the results of a step; nothing waits for the device."""
        if not self._sums:
            self._sums = [torch.zeros_like(t) for t in results]
        torch._foreach_add_(self._sums, results)
        self._steps += 1

    def write(self, step: int, rate: float, seconds: float) -> None:
        """Write a line and start anew; raises FloatingPointError if a loss is no number."""
        each, asked, right = (t.tolist() for t in self._sums)
        losses = {name: round(v / self._steps, 4) for name, v in zip(LOSSES, each, strict=True)}
        line = {"step": step, "rate": round(rate, 4), "seconds": round(seconds, 1), **losses}
        line |= shares(asked, right)
        self._sums, self._steps = [], 0
        print(json.dumps({k: v for k, v in line.items() if k != "families"}), flush=True)
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if not all(map(math.isfinite, each)):
            raise FloatingPointError(f"a loss is no number at step {step}: {losses}")


def shares(asked: list[float], right: list[float]) -> dict[str, object]:
    """How many answers were wholly right: of perception, of memory, of far memory, by family."""

    def share(kinds: list[int]) -> float | None:
        total = sum(asked[k] for k in kinds)
        return round(sum(right[k] for k in kinds) / total, 4) if total else None

    number = {name: i for i, name in enumerate(FAMILY_NAMES)}
    perception = [2 * number[name] + far for name in FAMILIES["perception"] for far in (0, 1)]
    memory = [2 * number[name] for name in FAMILIES["memory"]]
    return {
        "perception": share(perception),
        "memory": share(memory),
        "far": share([kind + 1 for kind in memory]),
        "families": {n: [share([2 * i]), share([2 * i + 1])] for n, i in number.items()},
    }


def train(args: argparse.Namespace, recipe: Recipe) -> None:
    """Run until the recipe or the piece is over, saving now and then."""
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_file = provide_tokenizer(folder, args.weights)
    saved = folder / PROGRESS
    before = {"step": recipe.begin * recipe.steps, "seconds": recipe.begin * recipe.seconds}
    if saved.exists():
        before = json.loads(saved.read_text())
    first, clock = int(before["step"]), Clock(float(before["seconds"]))
    if recipe.progress(first, clock.seconds) >= 1.0:
        print(f"{folder} has been trained to the end: {first} steps")
        return
    rank = int(os.environ.get("RANK", "0"))
    seed = args.seed + 100_000 * rank
    workers = loader(recipe.data, str(tokenizer_file), seed, first, recipe.steps, args.workers)
    batches = iter(workers)
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(args.seed)
    device = join_others()
    vlm = load_weights(args.weights, device) if args.weights else initial_model(device, args.seed)
    trainer = Trainer(vlm, recipe, device)
    heads_first = recipe.optimiser.heads_first
    if saved.exists():
        trainer.resume(folder)
        heads_first = 0
    if device.type == "cuda":
        trainer.compile()
    log = Log(folder / ("log.jsonl" if rank == 0 else f"log-{rank}.jsonl"))
    over_at_s = clock.seconds + (args.piece or float("inf"))
    for step, current in enumerate(ahead(trainer, batches), first):
        heads_rate = recipe.rate(step, step - first, clock.seconds)
        rate = recipe.rate(step, step - first - heads_first, clock.seconds)
        log.add(trainer.step(current, rate, heads_rate))
        done = step + 1
        if done % recipe.log_every and done < recipe.steps:
            continue
        clock.look()
        log.write(done, rate, clock.seconds)
        over = recipe.progress(done, clock.seconds) >= 1.0 or clock.seconds >= over_at_s
        if rank == 0 and (over or clock.seconds - clock.saved_s > SAVE_EVERY_S):
            clock.saved_s = clock.seconds
            trainer.save(folder, {"step": done, "seconds": clock.seconds})
        if over:
            break
    if rank == 0:
        save_checkpoint(finish(trainer.vlm), tokenizer_file, folder / "checkpoint")
    if dist.is_initialized():
        dist.destroy_process_group()


def provide_tokenizer(folder: Path, weights: Path | None) -> Path:
    """The run's tokenizer: that of the weights it begins with, or one made from what is said."""
    file = folder / "tokenizer.json"
    if not file.exists():
        # Other processes may be at it, too: none is to read half of it.
        whole = folder / f"tokenizer-{os.getpid()}.json"
        if weights:
            shutil.copyfile(weights / file.name, whole)
        else:
            write_tokenizer(whole)
        whole.replace(file)
    return file


def join_others() -> torch.device:
    """The device to train on; with the other processes, if torchrun has started several."""
    if "RANK" not in os.environ:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Each process sees its own GPU alone: what one compiles then serves them all.
    local = int(os.environ["LOCAL_RANK"])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[local] if visible else str(local)
    device = torch.device("cuda", 0)
    dist.init_process_group("nccl", device_id=device)
    return device


class Clock:
    """Seconds of training, all pieces together; what is compiled in the first steps is not counted.

    `saved_s` is when the run was last saved.
    """

    def __init__(self, spent_s: float) -> None:
        self.seconds = self.saved_s = spent_s
        self._last_s: float | None = None

    def look(self) -> None:
        """Count the time since the last look; all processes see the same."""
        now_s = time.monotonic()
        passed = torch.tensor(0.0 if self._last_s is None else now_s - self._last_s)
        self._last_s = now_s
        if dist.is_initialized():
            passed = passed.cuda()
            dist.broadcast(passed, 0)
        self.seconds += float(passed)


def ahead(trainer: Trainer, batches: Iterator[Batch]) -> Iterator[Prepared]:
    """Prepared batches, each drawn while the step before it runs."""
    following = trainer.prepare(next(batches))
    for batch in batches:
        current, following = following, trainer.prepare(batch)
        yield current


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the small checkpoint.")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parent / "nano.toml")
    parser.add_argument("--weights", type=Path, help="a checkpoint's folder to begin with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--piece", type=float, default=0.0, help="stop after so many seconds")
    parser.add_argument("--workers", type=int, default=8)
    args = parser.parse_args()
    train(args, read_recipe(args.recipe))


if __name__ == "__main__":
    main()
