"""A piece of many streams, and questions about it, in one differentiable pass.

Inference appends frame after frame to a slot and forks the slot for a question. Training computes
the same numbers for F frames of B streams at once, starting from what the streams carried over from
the pieces before, and for questions that branch off after some of the frames. The weights and the
projections are the model's own; only the order of the work differs.

B streams, F frames, P tokens a frame, L tokens of the frames that a window reaches back to; n
branch points a stream, M questions of T tokens at each; Z tokens in all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.gated_delta_net.naive import prepare
from kernels.rms_norm.naive import gated_rms_norm
from kernels.window_attention.sdpa import ring_attention
from model.attention import RingAttention
from model.decoder import DecoderLayer
from model.delta_net import GatedDeltaNet
from model.infinitevl import InfiniteVL
from model.rope import frame_positions, multimodal_rope, text_positions
from training.carried import Carried, State, window_tokens
from training.delta_scan import delta_branch, delta_scan


@dataclass(frozen=True, slots=True)
class Branches:
    """Questions at n evenly spread moments of each stream: after every (F / n)-th frame.

    ids [B, n, M, T] int64, padded at the end; lengths [B, n, M] int64.
    """

    ids: Tensor
    lengths: Tensor


class Asked(NamedTuple):
    """What all layers share of a set of branches.

    frames: between two branch points; shape: the questions' [B * n * M, T].
    """

    seen: Tensor  # [B * n, M * T, L + M * T] bool
    lengths: Tensor  # [B * n * M]
    counts: Tensor  # [B * n * M, T] bool
    frames: int
    shape: tuple[int, int]


class Shared(NamedTuple):
    """What all layers share. Z counts all tokens: those of the streams, then of the questions."""

    cos: Tensor  # [1, Z, 1, D]
    sin: Tensor
    seen: Tensor  # [B * blocks, L, 2 L] bool
    asked: tuple[Asked, ...]
    frame_tokens: int
    shape: tuple[int, int]  # the streams' [B, N]

    def parts(self, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[1, Z, ...] -> the streams' [B, N, ...], and each set of questions' own."""
        shapes = [self.shape, *(asked.shape for asked in self.asked)]
        x, *ys = t[0].split([a * b for a, b in shapes])
        pairs = zip(ys, self.asked, strict=True)
        return x.unflatten(0, self.shape), [y.unflatten(0, asked.shape) for y, asked in pairs]


class Passed(NamedTuple):
    """What a pass gives.

    hidden: last hidden vectors [B, n, M, T, hidden] of each set of branches; padding means nothing.
    watched: hidden vectors of the image tokens [B, F, P, hidden] after the layer asked for.
    half_way: those of each set of branches there, as `hidden`.
    memories: the states of each linear layer after every frame [F, B, H, K, V].
    carried: what the streams carry on.
    """

    hidden: tuple[Tensor, ...]
    watched: Tensor
    half_way: tuple[Tensor, ...]
    memories: tuple[Tensor, ...]
    carried: Carried


def _asked(branches: Branches, num_tokens: Tensor, frames: int, P: int, window: int) -> Asked:
    """Plan questions that come after every so many frames."""
    B, n, M, T = branches.ids.shape
    lengths = branches.lengths.flatten()
    steps = torch.arange(T, device=lengths.device)
    # A question's tokens see themselves and the frames before, none of the other questions.
    past = torch.arange(-window_tokens(window, P), 0, device=lengths.device)
    before = num_tokens[:, None] + P * frames * torch.arange(1, n + 1, device=lengths.device)
    seen_past = (past > steps[:, None] - window) & (before.view(-1, 1, 1) + past >= 0)
    own = (steps <= steps[:, None]) & (steps > steps[:, None] - window)
    own = torch.block_diag(*[own] * M)
    seen = torch.cat([seen_past.repeat(1, M, 1), own.expand(B * n, -1, -1)], -1)
    return Asked(seen, lengths, steps < lengths[:, None], frames, (B * n * M, T))


def _positions(branches: Branches, following: Tensor) -> Tensor:
    """Where a question's tokens are: [1, B * n * M * T, 3]."""
    _, n, M, T = branches.ids.shape
    frames = following.shape[1] // n
    starts = following[:, frames - 1 :: frames].flatten().repeat_interleave(M)
    return text_positions(starts, T).flatten(0, 1)[None]


def _stream_mask(num_tokens: Tensor, N: int, window: int, P: int) -> Tensor:
    """Blocks of L queries, each seeing its own block and the one before: [B * blocks, L, 2 L]."""
    L = window_tokens(window, P)
    i = torch.arange(L, device=num_tokens.device)
    j = torch.arange(-L, L, device=num_tokens.device)
    seen = (j <= i[:, None]) & (j > i[:, None] - window)
    start = num_tokens[:, None] + L * torch.arange(-(-N // L), device=num_tokens.device)
    return seen & (start.view(-1, 1, 1) + j >= 0)


def run_layer(
    layer: DecoderLayer, z: Tensor, state: State, shared: Shared, last: bool
) -> tuple[Tensor, State]:
    """One layer over all tokens [1, Z, hidden]; after the last one only the questions' are left.

    The state of a linear layer comes back as it is after every frame, [F, B, H, K, V].

    What the last layer puts out for frames is never read: only what questions read of them is made.
    """
    mixer = layer.self_attn
    normed = layer.input_layernorm(z)
    if isinstance(mixer, GatedDeltaNet):
        dz, state = _delta_net(mixer, normed, state, shared, last)
    else:
        dz, state = _attention(mixer, normed, state, shared, last)
    z = z[:, -dz.shape[1] :] + dz
    return z + layer.mlp(layer.post_attention_layernorm(z)), state


RunLayer = Callable[[DecoderLayer, Tensor, State, Shared, bool], tuple[Tensor, State]]


def stream_pass(
    vlm: InfiniteVL,
    image_tokens: Tensor,
    times_s: Tensor,
    carried: Carried,
    branches: Sequence[Branches],
    grid: tuple[int, int],
    *,
    watch: int = 0,
    run: RunLayer = run_layer,
) -> Passed:
    """Append F frames to B streams and ask.

    Args:
        image_tokens: [B, F, P, hidden], from the vision tower.
        times_s: [B, F] float64, seconds since each stream's first frame.
        carried: what the streams remember; `Carried.start` for new ones.
        grid: rows and columns of image tokens.
        watch: the number of layers after which hidden vectors are handed out.
        run: `run_layer`, or the same compiled.
    """
    decoder, config = vlm.language_model, vlm.config
    B, frames, P, _ = image_tokens.shape
    N, window = frames * P, config.sliding_window
    at = frame_positions(times_s.flatten(), *grid, config.vision.tokens_per_second)
    at = at.view(B, frames, P, 3)
    following = at.amax((2, 3)).cummax(1).values + 1
    following = torch.maximum(following, carried.next_position[:, None])  # [B, F]
    at = torch.cat([at.view(1, -1, 3), *(_positions(b, following) for b in branches)], 1)
    cos, sin = multimodal_rope(at, config.mrope_section, config.rope_theta)
    shared = Shared(
        cos=cos.unsqueeze(2),
        sin=sin.unsqueeze(2),
        seen=_stream_mask(carried.num_tokens, N, window, P),
        asked=tuple(
            _asked(b, carried.num_tokens, frames // b.ids.shape[1], P, window) for b in branches
        ),
        frame_tokens=P,
        shape=(B, N),
    )
    asked_ids = torch.cat([b.ids.flatten() for b in branches])
    z = torch.cat([image_tokens.flatten(0, 2), decoder.embed_tokens(asked_ids)])[None]
    watched, states, memories = z, [], []
    for number, (layer, state) in enumerate(zip(decoder.layers, carried.layers, strict=True)):
        if number == watch:
            watched = z
        assert isinstance(layer, DecoderLayer)
        z, state = run(layer, z, state, shared, number == len(decoder.layers) - 1)
        if isinstance(layer.self_attn, GatedDeltaNet):
            memories.append(state[0])
            state = memories[-1][-1], state[1]
        states.append(state)
    sizes = [b.ids.numel() for b in branches]

    def own(vectors: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(vectors.split(sizes), branches, strict=True)
        return tuple(part.unflatten(0, b.ids.shape) for part, b in pairs)

    on = Carried(tuple(states), carried.num_tokens + N, following[:, -1])
    return Passed(
        own(decoder.norm(z[0])),
        watched[0, : B * N].unflatten(0, (B, frames, P)),
        own(watched[0, B * N :]),
        tuple(memories),
        on,
    )


def _attention(
    mixer: RingAttention, z: Tensor, state: State, shared: Shared, last: bool
) -> tuple[Tensor, State]:
    q, k, v = mixer.project(z, shared.cos, shared.sin)
    (q, asked_q), (k, asked_k), (v, asked_v) = map(shared.parts, (q, k, v))
    L = state[0].shape[1]
    k, v = (torch.cat([past, new], 1) for past, new in zip(state, (k, v), strict=True))
    outputs = [] if last else [_banded_attention(q, k, v, shared.seen).flatten(0, 1)]
    for asked, own_q, *own in zip(shared.asked, asked_q, asked_k, asked_v, strict=True):
        groups, step = len(asked.seen), asked.frames * shared.frame_tokens
        keys, values = (
            torch.cat([_windows(t, L, step), new.reshape(groups, -1, *new.shape[2:])], 1)
            for t, new in zip((k, v), own, strict=True)
        )
        o = ring_attention(own_q.reshape(groups, -1, *q.shape[2:]), keys, values, asked.seen)
        outputs.append(o.flatten(0, 1))
    return mixer.o_proj(torch.cat(outputs).flatten(1)[None]), (k[:, -L:], v[:, -L:])


def _windows(t: Tensor, L: int, step: int) -> Tensor:
    """The L keys before each branch point: [B, L + N, G, D] -> [B * n, L, G, D].

    Cut in steps and put together from shifted copies, whose gradient is a few sums.
    """
    B, length, G, D = t.shape
    n, reach = (length - L) // step, -(-L // step)
    t = F.pad(t, (0, 0, 0, 0, reach * step - L, 0)).view(B, n + reach, step, G, D)
    windows = torch.stack([t[:, i : i + n] for i in range(1, reach + 1)], 2)
    return windows.view(B * n, reach * step, G, D)[:, reach * step - L :]


def _banded_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Attention by blocks: q [B, N, H, D] over k, v [B, L + N, G, D] -> [B, N, H, D]."""
    B, N = q.shape[:2]
    L = k.shape[1] - N
    pad = (0, 0, 0, 0, 0, -N % L)
    q, k, v = (F.pad(t, pad).unflatten(1, (-1, L)) for t in (q, k, v))
    k, v = (torch.cat([t[:, :-1], t[:, 1:]], 2).flatten(0, 1) for t in (k, v))
    return ring_attention(q.flatten(0, 1), k, v, seen).unflatten(0, (B, -1)).flatten(1, 2)[:, :N]


def _delta_net(
    mixer: GatedDeltaNet, z: Tensor, state: State, shared: Shared, last: bool
) -> tuple[Tensor, State]:
    recurrent, conv = state
    projected = mixer.in_proj(z)
    x, ys = shared.parts(projected)
    weights, gates = mixer.weights(), -2 * mixer.num_heads
    inputs, _, conv_after = prepare(x, x[..., gates:], weights, conv, None, None)
    with torch.autocast(z.device.type, enabled=False):  # the rule is fp32 throughout
        o, states = delta_scan(*inputs, shared.frame_tokens, recurrent)
    outputs = [] if last else [o.flatten(0, 1)]
    convolved = x[..., : mixer.in_sizes[0]].unflatten(1, (-1, shared.frame_tokens))
    for y, asked in zip(ys, shared.asked, strict=True):
        moments = slice(asked.frames - 1, None, asked.frames)
        before = states[moments].transpose(0, 1).flatten(0, 1)
        past = convolved[:, moments, -conv.shape[1] :].flatten(0, 1)
        past = past.repeat_interleave(len(y) // len(before), 0)
        inputs, _, _ = prepare(y, y[..., gates:], weights, past, asked.lengths, asked.counts)
        with torch.autocast(z.device.type, enabled=False):
            outputs.append(delta_branch(*inputs, before).flatten(0, 1))
    o = torch.cat(outputs).to(projected.dtype)[None]
    gate = projected[:, -o.shape[1] :].split(mixer.in_sizes, -1)[1].view(o.shape)
    o = gated_rms_norm(o, gate, weights.norm, weights.eps).flatten(2)
    return mixer.o_proj(o), (states, conv_after)
