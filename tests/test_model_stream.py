"""What a slot remembers: streamed equals whole, forks are free, memory is constant."""

import dataclasses

import pytest
import torch
from torch import Tensor

from model.append_plan import Append
from model.config import InfiniteVLConfig
from model.infinitevl import InfiniteVL
from model.rope import frame_positions, text_positions
from model.state import ContextFullError, StatePool
from tests.closeness import assert_close
from tests.small_models import FULL, FULL_ATTENTION, LINEAR, SLIDING, SMALL, slots, small_model

GRID = (2, 3)
TOKENS = 6


@pytest.fixture(autouse=True)
def _no_gradients() -> None:
    torch.set_grad_enabled(False)


def frames(count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 56, 84, 3), dtype=torch.uint8, generator=generator)


def watch(vlm: InfiniteVL, pool: StatePool, slot: int, pictures: Tensor, fps: float = 4) -> Tensor:
    """Feed frames one at a time; returns all last hidden vectors [1, T, hidden]."""
    hidden = []
    for i, picture in enumerate(pictures):
        time_s = torch.tensor([i / fps], dtype=torch.float64)
        hidden.append(
            vlm.append_frames(picture[None], time_s, slots(slot), pool, GRID, wanted="all")
        )
    return torch.cat(hidden, 1)


def ask(vlm: InfiniteVL, pool: StatePool, slot: int, ids: list[int], num_tokens: int) -> Tensor:
    """Append a question in slices and decode greedily; logits [num_tokens, vocabulary]."""
    for start in range(0, len(ids), pool.max_append):
        part = torch.tensor([ids[start : start + pool.max_append]])
        logits = [vlm.append_text(part, slots(slot), pool)]
    for _ in range(num_tokens - 1):
        logits.append(vlm.decode(logits[-1].argmax(-1), slots(slot), pool))
    return torch.cat(logits)


def slot_state(pool: StatePool, slot: int) -> list[Tensor]:
    return [tensor[slot].clone() for tensor in pool.tensors()]


MIXES = {
    "published": SMALL,
    "full": FULL_ATTENTION,
    "linear only": dataclasses.replace(SMALL, layer_types=(LINEAR, LINEAR)),
    "sliding only": dataclasses.replace(SMALL, layer_types=(SLIDING, SLIDING)),
    "full only": dataclasses.replace(SMALL, layer_types=(FULL,)),
    "one token window": dataclasses.replace(SMALL, sliding_window=1),
}


@pytest.mark.parametrize("config", MIXES.values(), ids=MIXES.keys())
def test_frames_one_at_a_time_equal_all_at_once(config: InfiniteVLConfig) -> None:
    """The decoder fed frame by frame computes what it computes on the whole video, ring wraps
    included: the whole pass masks attention over the entire history."""
    vlm, count = small_model(config), 60
    pool = vlm.new_pool(1, max_append=TOKENS, max_context=1000)
    whole_pool = vlm.new_pool(1, max_append=count * TOKENS, max_context=1000)
    vlm.start_stream(1, pool)
    vlm.start_stream(1, whole_pool)
    pictures = frames(count)
    streamed = watch(vlm, pool, 1, pictures)

    times = torch.arange(count, dtype=torch.float64) / 4
    positions = frame_positions(times, *GRID, config.vision.tokens_per_second).flatten(0, 1)[None]
    from model.preprocess import frames_to_patches

    patches = frames_to_patches(pictures, *GRID, config.vision, vlm.dtype)
    embeddings = vlm.encode_patches(patches, GRID).flatten(0, 1)[None]
    whole = vlm.language_model([Append(embeddings, positions, slots(1))], whole_pool)[0]

    assert_close("hidden", whole, streamed, 1e-4)
    if config is SMALL:
        assert count * TOKENS // pool.sliding_tags.shape[1] >= 10, "the ring must wrap ten times"


def test_streams_and_questions_in_one_batch_equal_each_alone() -> None:
    """Two streams share a step, three questions of different length share theirs."""
    vlm = small_model()
    pool = vlm.new_pool(5, max_append=TOKENS)
    alone = vlm.new_pool(2, max_append=TOKENS)
    videos = [frames(9, seed=5), frames(9, seed=6)]
    for slot in (1, 2):
        vlm.start_stream(slot, pool)
    for i in range(9):
        pair = torch.stack([video[i] for video in videos])
        times = torch.tensor([i / 4, i / 2], dtype=torch.float64)
        both = vlm.append_frames(pair, times, slots(1, 2), pool, GRID, wanted="all")
    questions = [[5, 6, 7, 8, 9, 1], [11], [12, 13, 14]]
    for slot, source in ((3, 1), (4, 2), (5, 1)):
        pool.copy(source, slot)
    ids = torch.tensor([q + [0] * (6 - len(q)) for q in questions])
    logits = vlm.append_text(ids, slots(3, 4, 5), pool, torch.tensor([6, 1, 3]))
    following = vlm.decode(torch.tensor([20, 21, 22]), slots(3, 4, 5), pool)

    for n, (video, fps) in enumerate(zip(videos, (4, 2), strict=True)):
        vlm.start_stream(1, alone)
        hidden = watch(vlm, alone, 1, video, fps)
        assert_close("stream", hidden[:, -TOKENS:], both[n : n + 1], 1e-4)
        for row, source in ((0, 0), (1, 1), (2, 0)):
            if source == n:
                alone.copy(1, 2)
                one = vlm.append_text(torch.tensor([questions[row]]), slots(2), alone)
                assert_close("question", one[0], logits[row], 1e-4)
                one = vlm.decode(torch.tensor([20 + row]), slots(2), alone)
                assert_close("decoded", one[0], following[row], 1e-4)


@pytest.mark.parametrize("config", [SMALL, FULL_ATTENTION], ids=["sliding", "full"])
def test_an_answer_leaves_its_stream_bitwise_unchanged(config: InfiniteVLConfig) -> None:
    """Forking, asking and answering touch nothing of the stream's slot, nor of any other."""
    vlm = small_model(config)
    pool = vlm.new_pool(3, max_append=TOKENS, max_context=200)
    for slot in (1, 2):
        vlm.start_stream(slot, pool)
        watch(vlm, pool, slot, frames(8, seed=slot))
    before = slot_state(pool, 1), slot_state(pool, 2)
    pool.copy(1, 3)
    ask(vlm, pool, 3, [1, 2, 3, 4, 5, 6, 7, 8, 9], 12)
    after = slot_state(pool, 1), slot_state(pool, 2)
    for was, is_now in zip(before, after, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(was, is_now, strict=True))


def test_padding_touches_no_slot_but_the_null_slot() -> None:
    """A padded row changes its own slot exactly as the unpadded row would, and no other."""
    vlm = small_model()
    pool = vlm.new_pool(3, max_append=TOKENS)
    for slot in (1, 2, 3):
        vlm.start_stream(slot, pool)
        watch(vlm, pool, slot, frames(5))
    vlm.append_text(torch.tensor([[7, 8]]), slots(2), pool)
    bystander = slot_state(pool, 3)
    vlm.append_text(torch.tensor([[7, 8, 0, 0, 0]]), slots(1), pool, torch.tensor([2]))
    for tensor in pool.tensors():
        if tensor[1].is_floating_point():
            assert_close("slot", tensor[2], tensor[1], 1e-5)
        else:
            assert torch.equal(tensor[2], tensor[1])
    assert all(map(torch.equal, bystander, slot_state(pool, 3)))


def test_a_question_longer_than_the_slack_is_sliced_and_right() -> None:
    """Slices of a long question give what one append of all of it gives."""
    vlm = small_model()
    question = [(7 * i) % 50 for i in range(100)]
    logits = []
    for max_append in (TOKENS, 100):
        pool = vlm.new_pool(1, max_append=max_append)
        vlm.start_stream(1, pool)
        watch(vlm, pool, 1, frames(7))
        logits.append(ask(vlm, pool, 1, question, 8))
    assert_close("logits", logits[1], logits[0], 1e-4)


def test_an_append_beyond_the_slack_is_refused() -> None:
    """More tokens than the ring's slack would overwrite keys that are still needed."""
    vlm = small_model()
    pool = vlm.new_pool(1, max_append=TOKENS)
    vlm.start_stream(1, pool)
    with pytest.raises(ValueError, match="7 tokens in one append, but the pool takes 6"):
        vlm.append_text(torch.zeros(1, 7, dtype=torch.long), slots(1), pool)


def test_reset_gives_a_fresh_slot() -> None:
    """After a reset a slot is bitwise a new one, and watches as a new one does."""
    vlm = small_model()
    pool = vlm.new_pool(1, max_append=TOKENS)
    new = slot_state(pool, 1)
    vlm.start_stream(1, pool)
    first = watch(vlm, pool, 1, frames(9))
    pool.reset(1)
    assert all(map(torch.equal, new, slot_state(pool, 1)))
    vlm.start_stream(1, pool)
    assert torch.equal(first, watch(vlm, pool, 1, frames(9)))


def test_state_bytes_and_addresses_are_constant() -> None:
    """From frame 10 to frame 400, with questions in between, nothing is ever allocated anew."""
    vlm = small_model()
    pool = vlm.new_pool(2, max_append=TOKENS)
    vlm.start_stream(1, pool)
    pictures = frames(10)
    watch(vlm, pool, 1, pictures)
    before = [(t.data_ptr(), t.numel(), t.dtype) for t in pool.tensors()], pool.nbytes
    for _ in range(39):
        watch(vlm, pool, 1, pictures)
        pool.copy(1, 2)
        ask(vlm, pool, 2, [1, 2, 3], 2)
    assert before == ([(t.data_ptr(), t.numel(), t.dtype) for t in pool.tensors()], pool.nbytes)


def test_the_recurrent_state_stays_fp32_in_a_bf16_model() -> None:
    """Weights and keys may be bf16; what accumulates over hours may not."""
    vlm = small_model().bfloat16()
    pool = vlm.new_pool(1, max_append=TOKENS)
    states = [layer for layer in pool.layers if hasattr(layer, "recurrent_state")]
    assert states and all(state.recurrent_state.dtype == torch.float32 for state in states)
    assert all(state.conv_state.dtype == torch.bfloat16 for state in states)


def test_full_attention_refuses_past_its_context_and_changes_nothing() -> None:
    """A Base model says how much it can hold, and a refused append leaves the slot as it was."""
    vlm = small_model(FULL_ATTENTION)
    pool = vlm.new_pool(1, max_append=TOKENS, max_context=1 + 4 * TOKENS)
    vlm.start_stream(1, pool)
    watch(vlm, pool, 1, frames(4))
    before = slot_state(pool, 1)
    with pytest.raises(ContextFullError, match="bounded to 25 tokens and 31 would be needed"):
        watch(vlm, pool, 1, frames(1))
    assert all(map(torch.equal, before, slot_state(pool, 1)))


def test_positions_follow_the_published_numbering() -> None:
    """Frames count rows and columns from 1, time moves at whole seconds, text follows the max."""
    vlm = small_model()
    times = torch.tensor([0.0, 0.99, 1.0, 2.5], dtype=torch.float64)
    positions = frame_positions(times, *GRID, 2)
    assert positions[0].tolist() == [[1, r, c] for r in (1, 2) for c in (1, 2, 3)]
    assert positions[:, 0, 0].tolist() == [1, 1, 3, 5]
    assert text_positions(torch.tensor([6]), 2).tolist() == [[[6, 6, 6], [7, 7, 7]]]
    pool = vlm.new_pool(1, max_append=TOKENS)
    vlm.start_stream(1, pool)
    assert pool.next_position[1] == 1
    watch(vlm, pool, 1, frames(1))
    assert pool.next_position[1] == 4, "one more than the last column"
    watch(vlm, pool, 1, frames(9))
    assert pool.next_position[1] == 6, "one more than the time of a frame at 2.0 s"
    vlm.append_text(torch.tensor([[1, 2, 3]]), slots(1), pool)
    assert (pool.next_position[1], pool.num_tokens[1]) == (9, 1 + 10 * TOKENS + 3)


def test_time_turns_keys_exactly_after_weeks_of_stream() -> None:
    """Two frames a second apart attend to each other as well after 100 days as at the start."""
    from kernels.rotary.naive import rotate
    from model.rope import multimodal_rope

    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(time: int) -> Tensor:
        turned = []
        for x, t in ((q, time + 2), (k, time)):
            positions = torch.tensor([[[t, 1, 1]]])
            cos, sin = multimodal_rope(positions, (2, 1, 1), 1e6)
            turned.append(rotate(x, cos.unsqueeze(2), sin.unsqueeze(2)))
        return (turned[0] * turned[1]).sum()

    late = 2 * 86_400 * 100
    torch.testing.assert_close(score(1), score(late), rtol=1e-4, atol=1e-4)
