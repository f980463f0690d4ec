"""The Triton renderer draws what the torch renderer draws."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.render import Renderer
from training.render_pack import FRAME, load_pack
from training.world import World, WorldStyle
from training.world_scene import split_scenes, stack_scenes

ROOT = Path(__file__).parent.parent


def difference(device: str, num_scenes: int) -> float:
    """The largest difference between the two, in grey levels, over varied scenes."""
    from training.render_kernel import draw_layers, packed

    scenes = []
    for seed in range(num_scenes):
        split = "exam" if seed % 3 == 2 else "train"
        world = World(seed, 5.0, WorldStyle(noise=0.0, split=split))
        scenes += [world.advance() for _ in range(20 + 7 * seed)][-1:]
    pack = load_pack()
    plain, stacked = Renderer(pack, "cpu"), stack_scenes(scenes)
    lines, widths = plain._lines(split_scenes(stacked).texts)
    inputs = [stacked, lines, widths, packed(pack.backgrounds), packed(pack.cells * 255)]
    drawn = draw_layers(*(t.to(device) for t in inputs), FRAME).float().cpu()
    return float((drawn - plain.compose_layers(stacked)).abs().max() * 255)


def test_it_draws_the_same_in_tritons_interpreter() -> None:
    """In a process of its own: the interpreter must be chosen before Triton is imported."""
    pytest.importorskip("triton", reason="triton is not installed: no interpreter to run it in")
    code = "from tests.test_training_render_kernel import difference; print(difference('cpu', 3))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # Pictures are kept in bytes: half a level, twice where one lies on another. Measured: 0.86.
    assert float(done.stdout) < 1.5


@pytest.mark.gpu
def test_it_draws_the_same_on_a_gpu() -> None:
    assert difference("cuda", 6) < 1.5


def test_a_packed_picture_keeps_every_byte() -> None:
    from training.render_kernel import packed

    picture = torch.randint(0, 256, (2, 4, 3, 5), dtype=torch.uint8)
    bytes_ = packed(picture).view(torch.uint8).view(2, 3, 5, 4).permute(0, 3, 1, 2)
    assert torch.equal(bytes_, picture)
    opaque = packed(picture[:, :3]).view(torch.uint8).view(2, 3, 5, 4)
    assert (opaque[..., 3] == 255).all()
