"""One model, its optimisers, and what its streams carry from step to step."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from kernels.ops import PLAIN
from model.infinitevl import InfiniteVL
from model.preprocess import frames_to_patches
from model.vision_grid import VisionGrid
from training.carried import Carried
from training.data import Batch
from training.graphed import Graphed
from training.losses import Heads, losses
from training.muon import Muon
from training.nano import GRID, shards
from training.recipe import Recipe
from training.render import Labels, Renderer
from training.render_pack import FRAME, load_pack
from training.stream_pass import RunLayer, run_layer

PROGRESS = "progress.json"
FRAME_TOKENS = GRID[0] * GRID[1]
# Memory of the optimisers that is kept in half precision between pieces.
_HALVED = ("momentum_buffer", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch with its pictures: patches [B * F, 256, 588], and what their cells show."""

    batch: Batch
    patches: Tensor
    labels: Labels


class Trainer:
    """Takes steps; on CUDA the pass and its gradient are compiled and replayed as one graph."""

    def __init__(self, vlm: InfiniteVL, recipe: Recipe, device: torch.device) -> None:
        self.vlm = vlm.train().requires_grad_()
        self.vlm.use_ops(PLAIN)
        self.recipe, self.device = recipe, device
        self.cuda = device.type == "cuda"
        self.dtype = torch.bfloat16 if self.cuda else torch.float32
        self.grid = VisionGrid.build(vlm.config.vision, *GRID, device)
        self.heads = Heads(vlm.config).to(device)
        self.renderer = Renderer(load_pack(looks=True), device)
        self.generator = torch.Generator(device).manual_seed(0)
        self.side = torch.cuda.Stream() if self.cuda else None
        self._draw: Callable[[Tensor, Tensor], Tensor] = self._drawn
        self._run_layer: RunLayer = run_layer
        self._graphed: Graphed | None = None
        self._carried: dict[int, Carried] = {}
        self._make_optimisers()

    def _make_optimisers(self) -> None:
        optimiser = self.recipe.optimiser
        named, heads = list(self.vlm.named_parameters()), list(self.heads.parameters())
        self.parameters = [p for _, p in named] + heads
        matrices = [p for name, p in named if _is_matrix(name, p)]
        others = [p for name, p in named if not _is_matrix(name, p)]
        # The heads last: what is saved of AdamW goes by number.
        groups = [{"params": others}, {"params": heads}]
        self.muon = Muon(
            matrices,
            lr=optimiser.muon,
            weight_decay=optimiser.weight_decay,
            momentum=optimiser.momentum,
        )
        self.adam = torch.optim.AdamW(
            groups, lr=optimiser.adam, betas=(0.9, 0.95), weight_decay=0.0, fused=self.cuda
        )

    def compile(self) -> None:
        """Let layers be compiled: worth a minute where thousands of steps follow."""
        for block in (*self.vlm.visual.blocks, self.vlm.visual.merger):
            block.compile(dynamic=False)
        self._run_layer = torch.compile(run_layer, dynamic=False)
        self._draw = torch.compile(self._drawn, dynamic=False)

    def prepare(self, batch: Batch) -> Prepared:
        """Draw a batch; on a stream of its own, so that it overlaps with the step before."""
        with torch.cuda.stream(self.side) if self.side else nullcontext():
            tensors = [t.to(self.device, non_blocking=True) for t in batch.tensors()]
            batch = batch.like(tensors)
            shape = (len(batch.scenes), 3, FRAME, FRAME)
            noise = torch.randn(
                shape, generator=self.generator, device=self.device, dtype=self.dtype
            )
            patches = self._draw(batch.scenes, noise)
            return Prepared(batch, patches, self.renderer.labels(batch.scenes))

    def _drawn(self, scenes: Tensor, noise: Tensor) -> Tensor:
        frames = self.renderer.compose(scenes, noise)
        return frames_to_patches(frames, *GRID, self.vlm.config.vision, self.dtype)

    def step(
        self, prepared: Prepared, rate: float, heads_rate: float | None = None
    ) -> list[Tensor]:
        """One optimiser step at a share of the peak rates: the losses, and questions by kind.

        Args:
            rate: of the model and, without `heads_rate`, of the heads.

        Returns:
            [len(LOSSES)], asked [NUM_KINDS], right [NUM_KINDS]; on CUDA the next step overwrites
            them.
        """
        batch = prepared.batch
        inputs = [prepared.patches, *prepared.labels, *batch.tensors()]
        if self.side:
            torch.cuda.current_stream().wait_stream(self.side)
            # Their memory is the side stream's: not to be reused before this step has read it.
            for tensor in inputs:
                tensor.record_stream(torch.cuda.current_stream())
        carried = self._carry(batch)
        outputs = self._compute(batch, carried, [*inputs, *carried.tensors()])
        results, after = outputs[:3], carried.like(outputs[3:])
        self._carried[batch.group] = after.like(t.clone() for t in after.tensors())
        if dist.is_initialized():
            self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.optimiser.clip)
        peaks = self.recipe.optimiser
        own, heads = self.adam.param_groups
        self.muon.param_groups[0]["lr"] = peaks.muon * rate
        own["lr"] = peaks.adam * rate
        heads["lr"] = peaks.adam * (rate if heads_rate is None else heads_rate)
        self.muon.step()
        self.adam.step()
        return results

    def _average_gradients(self) -> None:
        """Over all processes; each trains on streams of its own."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat, dist.ReduceOp.AVG)
        parts = flat.split([g.numel() for g in gradients])
        torch._foreach_copy_(
            gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]
        )

    def _carry(self, batch: Batch) -> Carried:
        """What the streams of a batch remember; those that begin remember their start token."""
        start = Carried.start(self.vlm, FRAME_TOKENS, self.dtype)
        before = self._carried.get(batch.group)
        if before is None:
            B = len(batch.fresh)
            return start.like(t.expand(B, *t.shape[1:]) for t in start.tensors())
        return before.renewed(batch.fresh, start).wiped(batch.wiped)

    def _compute(self, batch: Batch, carried: Carried, inputs: list[Tensor]) -> list[Tensor]:
        """Losses and gradients."""

        def function(tensors: list[Tensor]) -> list[Tensor]:
            patches, *rest = tensors
            split = len(Labels._fields)
            labels, rest = Labels(*rest[:split]), rest[split:]
            own = batch.like(rest[: len(batch.tensors())])
            before = carried.like(rest[len(batch.tensors()) :])
            for parameter in self.parameters:
                parameter.grad = None
            with torch.autocast(self.device.type, torch.bfloat16, self.cuda, cache_enabled=False):
                out = losses(
                    self.vlm, self.heads, self.grid, patches, labels, own, before, self._run_layer
                )
            weighted = [w * loss for w, loss in zip(self.recipe.losses, out.each, strict=True)]
            torch.stack(weighted).sum().backward()
            return [out.each.detach(), out.asked, out.right, *_detached(out.carried.tensors())]

        if not self.cuda:
            return function(inputs)
        if self._graphed is None:
            self._graphed = Graphed(function, inputs)
        return self._graphed(inputs)

    def save(self, folder: Path, progress: dict[str, float]) -> None:
        """Keep weights, optimisers and how far the training has come, in files of 16 MB."""
        state = {f"vlm.{name}": t for name, t in self.vlm.state_dict().items()}
        state |= {f"heads.{name}": t for name, t in self.heads.state_dict().items()}
        for prefix, optimiser in (("muon", self.muon), ("adam", self.adam)):
            for number, memory in optimiser.state_dict()["state"].items():
                for key, tensor in memory.items():
                    kept = tensor.bfloat16() if key in _HALVED else tensor
                    state[f"{prefix}.{number}.{key}"] = kept
        parts = shards({name: t.contiguous() for name, t in state.items()})
        for number, part in enumerate(parts):
            save_file(part, folder / f"state-{number}.safetensors")
        (folder / PROGRESS).write_text(json.dumps(progress) + "\n")

    def resume(self, folder: Path) -> None:
        """Take up what `save` left."""
        state: dict[str, Tensor] = {}
        for file in sorted(folder.glob("state-*.safetensors")):
            state |= load_file(file, device=str(self.device))
        self.vlm.load_state_dict(_under(state, "vlm."))
        self.heads.load_state_dict(_under(state, "heads."), strict=False)
        for prefix, optimiser in (("muon.", self.muon), ("adam.", self.adam)):
            memory: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under(state, prefix).items():
                number, _, key = name.partition(".")
                whole = tensor.float() if key in _HALVED else tensor
                memory.setdefault(int(number), {})[key] = whole
            optimiser.load_state_dict(optimiser.state_dict() | {"state": memory})


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """What Muon takes: products of layers, not tables, kernels and single weights."""
    apart = ("embed_tokens", "patch_embed", "conv_weight")
    return parameter.ndim == 2 and not any(part in name for part in apart)


def _detached(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.detach() for t in tensors]
