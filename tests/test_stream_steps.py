"""A picture that is encoded ahead of its step, by the thread that brought it."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from stream.graphs import make_steps
from tests.stream_helpers import FRAME_TOKENS, HandEngine, loaded

GRIDS = ((2, 2), (1, 4), (4, 1))


def test_a_picture_encoded_ahead_is_remembered_as_its_pixels_are() -> None:
    """Bitwise, whichever thread encodes it, and its time is told by stage."""
    vlm = loaded().vlm
    pool = vlm.new_pool(2, max_append=FRAME_TOKENS)
    steps = make_steps(vlm, pool, time.perf_counter, 2, 1)
    generator = np.random.default_rng(0)
    ahead, whole = 1, 2
    with torch.inference_mode(), ThreadPoolExecutor() as source:
        for slot in (ahead, whole):
            steps.start(slot)
        for number, grid in enumerate(GRIDS):
            image = generator.integers(0, 256, (50, 70, 3), dtype=np.uint8)
            staged = source.submit(steps.stage, image, grid).result()
            assert [*staged.stages_s] == ["preprocess", "vision"]
            watched = steps.watch([staged.picture], [number / 25], [ahead], grid)
            assert [*watched.stages_s] == ["decoder"]
            watched = steps.watch([torch.from_numpy(image)], [number / 25], [whole], grid)
            assert [*watched.stages_s] == ["preprocess", "vision", "decoder"]
    assert int(pool.num_tokens[ahead]) == 1 + len(GRIDS) * FRAME_TOKENS
    assert all(torch.equal(tensor[ahead], tensor[whole]) for tensor in pool.tensors())


def test_pictures_of_as_many_tokens_in_other_rows_keep_their_places() -> None:
    """A wide and a tall picture that come together are remembered as they would be alone."""
    both, wide, tall = HandEngine("a", "b"), HandEngine("a"), HandEngine("a")
    for _ in range(3):
        both.frame("a", (28, 112))
        both.frame("b", (112, 28))
        both.engine.step()
    wide.see("a", 3, (28, 112))
    tall.see("a", 3, (112, 28))
    for mine, alone in ((1, wide), (2, tall)):
        tensors = zip(both.engine.pool.tensors(), alone.engine.pool.tensors(), strict=True)
        assert all(torch.equal(a[mine], b[1]) for a, b in tensors)
