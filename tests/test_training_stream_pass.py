"""Training computes what streaming computes, piece by piece, and reaches every weight."""

import dataclasses

import pytest
import torch
from torch import Tensor

from model.config import InfiniteVLConfig
from model.infinitevl import InfiniteVL
from tests.closeness import assert_close
from tests.small_models import LINEAR, SLIDING, SMALL, small_model
from training.carried import Carried
from training.stream_pass import Branches, Passed, stream_pass

GRID = (2, 3)
FRAMES = 12
MOMENTS = (12, 4)


def some_branches() -> list[Branches]:
    """Two short questions after every frame, a longer one after every third."""
    return [
        Branches(torch.randint(0, 60, (2, 12, 2, 5)), torch.randint(1, 6, (2, 12, 2))),
        Branches(torch.randint(0, 60, (2, 4, 1, 8)), torch.randint(1, 9, (2, 4, 1))),
    ]


def streamed(
    vlm: InfiniteVL, image_tokens: Tensor, times_s: Tensor, branches: list[Branches]
) -> list[Tensor]:
    """Last hidden vectors of the questions, by slots and forks; 0 for padding."""
    hidden = [torch.zeros(*b.ids.shape, SMALL.hidden_size) for b in branches]
    pool = vlm.new_pool(2, max_append=8)
    one, two = torch.tensor([1]), torch.tensor([2])
    for b in range(2):
        vlm.start_stream(1, pool)
        for f in range(FRAMES):
            vlm.append_image_tokens(image_tokens[b, f][None], times_s[b, f][None], one, pool, GRID)
            for out, asked, n in zip(hidden, branches, MOMENTS, strict=True):
                place, left = divmod(f + 1, FRAMES // n)
                if left:
                    continue
                for m in range(asked.ids.shape[2]):
                    pool.copy(1, 2)
                    length = int(asked.lengths[b, place - 1, m])
                    ids = asked.ids[b, place - 1, m, :length][None]
                    append = vlm._text(ids, two, pool, None, "all")
                    out[b, place - 1, m, :length] = vlm.language_model([append], pool)[0]
    return hidden


def two_streams(vlm: InfiniteVL) -> Carried:
    start = Carried.start(vlm, GRID[0] * GRID[1], torch.float32)
    return start.like(t.expand(2, *t.shape[1:]) for t in start.tensors())


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, sliding_window=7),
        dataclasses.replace(SMALL, sliding_window=500),
        dataclasses.replace(SMALL, layer_types=(LINEAR, SLIDING, LINEAR)),
        dataclasses.replace(SMALL, layer_types=(LINEAR, SLIDING)),
    ],
    ids=["window 20", "window 7", "window 500", "other order", "attention last"],
)
def test_a_pass_equals_streaming_whole_and_in_pieces(config: InfiniteVLConfig, pieces: int) -> None:
    """Questions off two streams at many moments, several at one moment, short and long."""
    vlm = small_model(config)
    with torch.no_grad():
        image_tokens = torch.randn(2, FRAMES, 6, 32)
        times_s = torch.arange(FRAMES, dtype=torch.float64)[None] / torch.tensor([[2.0], [5.0]])
        branches = some_branches()
        expected = streamed(vlm, image_tokens, times_s, branches)
        carried, got = two_streams(vlm), []
        for i in range(pieces):
            frames = slice(i * FRAMES // pieces, (i + 1) * FRAMES // pieces)
            asked = []
            for b, n in zip(branches, MOMENTS, strict=True):
                part = slice(i * n // pieces, (i + 1) * n // pieces)
                asked.append(Branches(b.ids[:, part], b.lengths[:, part]))
            passed = stream_pass(
                vlm, image_tokens[:, frames], times_s[:, frames], carried, asked, GRID
            )
            got.append(passed.hidden)
            carried = passed.carried
    for n, (one, *parts) in enumerate(zip(expected, *got, strict=True)):
        counts = torch.arange(one.shape[3]) < branches[n].lengths[..., None]
        assert_close(f"questions {n}", one[counts], torch.cat(parts, 1)[counts], 1e-4)


def test_a_stream_that_begins_anew_forgets_and_the_other_does_not() -> None:
    """`renewed` resets just the streams it is told to."""
    vlm = small_model()
    with torch.no_grad():
        frames, times_s = torch.randn(2, 4, 6, 32), torch.arange(4.0).double().expand(2, -1)
        start = two_streams(vlm)
        one = torch.ones(2, 1, 1, dtype=torch.int64)
        asked = [Branches(one[..., None], one)]
        old = stream_pass(vlm, frames, times_s, start, asked, GRID).carried
        new = old.renewed(torch.tensor([True, False]), start)
    for first, grown, mixed in zip(start.tensors(), old.tensors(), new.tensors(), strict=True):
        assert torch.equal(mixed[0], first[0]) and torch.equal(mixed[1], grown[1])
    assert old.num_tokens.tolist() == [25, 25] and new.num_tokens.tolist() == [1, 25]


def test_memories_are_the_states_that_a_shorter_pass_ends_with() -> None:
    """Of each linear layer, after every frame."""
    vlm = small_model()
    linear = [i for i, kind in enumerate(SMALL.layer_types) if kind == LINEAR]
    with torch.no_grad():
        frames, times_s = torch.randn(2, 4, 6, 32), torch.arange(4.0).double().expand(2, -1)
        one = torch.ones(2, 1, 1, dtype=torch.int64)
        asked = [Branches(one[..., None], one)]
        memories = stream_pass(vlm, frames, times_s, two_streams(vlm), asked, GRID).memories
        assert len(memories) == len(linear)
        for n in range(1, 5):
            start = two_streams(vlm)
            shorter = stream_pass(vlm, frames[:, :n], times_s[:, :n], start, asked, GRID)
            for memory, layer in zip(memories, linear, strict=True):
                state = shorter.carried.layers[layer][0]
                assert_close(f"{n} frames", memory[n - 1], state, 1e-5)


def test_every_weight_gets_a_gradient() -> None:
    """From a question's last token back to the patch kernel."""
    vlm = small_model().train().requires_grad_()
    patches = torch.randn(2 * FRAMES, 24, 588)
    image_tokens = vlm.encode_patches(patches, GRID).unflatten(0, (2, FRAMES))
    branches = Branches(torch.randint(0, 60, (2, 2, 1, 4)), torch.full((2, 2, 1), 4))
    times_s = torch.arange(FRAMES, dtype=torch.float64).expand(2, -1)
    carried = two_streams(vlm)
    passed = stream_pass(vlm, image_tokens, times_s, carried, [branches], GRID, watch=1)
    vlm.language_model.logits(passed.hidden[0][:, :, :, -1]).square().sum().backward()
    without = [
        name for name, p in vlm.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without == []
    assert passed.watched.shape == (2, FRAMES, 6, 32) and passed.watched.requires_grad
    assert passed.half_way[0].shape == (2, 2, 1, 4, 32)


def test_half_way_a_question_is_what_the_layers_so_far_make_of_it() -> None:
    """Before the first layer its embedding; later what is left if the other layers add nothing."""
    with torch.inference_mode():
        vlm = small_model()
        frames, times_s = torch.randn(2, 4, 6, 32), torch.arange(4.0).double().expand(2, -1)
        branches = Branches(torch.randint(0, 60, (2, 2, 1, 5)), torch.full((2, 2, 1), 5))

        def passed(watch: int) -> Passed:
            start = two_streams(vlm)
            return stream_pass(vlm, frames, times_s, start, [branches], GRID, watch=watch)

        decoder = vlm.language_model
        assert torch.equal(passed(0).half_way[0], decoder.embed_tokens(branches.ids))
        half_way = passed(2).half_way[0]
        for layer in decoder.layers[2:]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        assert_close("after two layers", decoder.norm(half_way), passed(0).hidden[0], 1e-5)
