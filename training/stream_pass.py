"""A whole stream and many questions about it in one differentiable pass.

Inference appends frame after frame to a slot and forks the slot for a question. Training computes
the same numbers for F frames of B streams at once, and for Q questions that branch off after any of
them: a question reads its stream's keys inside the window and its recurrent state at the branch.
The weights and the projections are the model's own; only the order of the work differs.

B streams, F frames, P tokens a frame, N = 1 + F P stream tokens, Q questions of T tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.gated_delta_rule.chunk import chunk_gated_delta_rule
from kernels.window_attention.naive import visible
from kernels.window_attention.sdpa import ring_attention
from model.attention import RingAttention
from model.decoder import DecoderLayer
from model.delta_net import GatedDeltaNet
from model.infinitevl import InfiniteVL
from model.rope import frame_positions, multimodal_rope, text_positions
from training.delta_scan import delta_scan


@dataclass(frozen=True, slots=True)
class Branches:
    """Questions, and where each leaves its stream.

    ids [Q, T] int64, padded at the end; lengths, stream, frame [Q] int64: a question comes right
    after frame number `frame` of its stream.
    """

    ids: Tensor
    lengths: Tensor
    stream: Tensor
    frame: Tensor


@dataclass(frozen=True, slots=True)
class _Pass:
    """What all layers share: rotations, and each branch's place."""

    stream_rope: tuple[Tensor, Tensor]
    question_rope: tuple[Tensor, Tensor]
    branches: Branches
    counts: Tensor  # [Q, T] bool
    index: Tensor  # [Q, T], each question token's place in its stream
    frame_tokens: int
    window: int


def stream_pass(
    vlm: InfiniteVL,
    image_tokens: Tensor,
    times_s: Tensor,
    branches: Branches,
    grid: tuple[int, int],
) -> Tensor:
    """Last hidden vectors of the questions' tokens [Q, T, hidden]; padding means nothing.

    Args:
        image_tokens: [B, F, P, hidden], from the vision tower.
        times_s: [B, F] float64.
        grid: rows and columns of image tokens.
    """
    decoder, config = vlm.language_model, vlm.config
    B, F, P, _ = image_tokens.shape
    start = torch.full((B, 1), config.vision_start_token_id, device=image_tokens.device)
    x = torch.cat([decoder.embed_tokens(start), image_tokens.flatten(1, 2)], 1)
    tokens_per_second = config.vision.tokens_per_second
    frames = frame_positions(times_s.flatten(), *grid, tokens_per_second).view(B, F, P, 3)
    positions = torch.cat([frames.new_zeros(B, 1, 3), frames.flatten(1, 2)], 1)
    following = frames.amax((2, 3)).cummax(1).values + 1  # [B, F]

    y = decoder.embed_tokens(branches.ids)
    T = y.shape[1]
    steps = torch.arange(T, device=x.device)
    asked = text_positions(following[branches.stream, branches.frame], T)
    shared = _Pass(
        stream_rope=_rope(positions, config.mrope_section, config.rope_theta),
        question_rope=_rope(asked, config.mrope_section, config.rope_theta),
        branches=branches,
        counts=steps < branches.lengths[:, None],
        index=1 + (branches.frame[:, None] + 1) * P + steps,
        frame_tokens=P,
        window=config.sliding_window,
    )
    for layer in decoder.layers:
        assert isinstance(layer, DecoderLayer)
        x, y = _layer(layer, x, y, shared)
    return decoder.norm(y)


def _rope(positions: Tensor, section: tuple[int, int, int], theta: float) -> tuple[Tensor, Tensor]:
    cos, sin = multimodal_rope(positions, section, theta)
    return cos.unsqueeze(2), sin.unsqueeze(2)


def _layer(layer: DecoderLayer, x: Tensor, y: Tensor, shared: _Pass) -> tuple[Tensor, Tensor]:
    """One layer over the streams [B, N, hidden] and the questions [Q, T, hidden]."""
    mixer = layer.self_attn
    normed = layer.input_layernorm(x), layer.input_layernorm(y)
    if isinstance(mixer, GatedDeltaNet):
        dx, dy = _delta_net(mixer, *normed, shared)
    else:
        dx, dy = _attention(mixer, *normed, shared)
    x, y = x + dx, y + dy
    return (
        x + layer.mlp(layer.post_attention_layernorm(x)),
        y + layer.mlp(layer.post_attention_layernorm(y)),
    )


def _attention(mixer: RingAttention, x: Tensor, y: Tensor, shared: _Pass) -> tuple[Tensor, Tensor]:
    q, k, v = mixer.project(x, *shared.stream_rope)
    own_q, own_k, own_v = mixer.project(y, *shared.question_rope)
    x_out = mixer.o_proj(_banded_attention(q, k, v, shared.window).flatten(2))

    stream = shared.branches.stream
    past = shared.index[:, :1] - torch.arange(shared.window - 1, 0, -1, device=x.device)
    tags = torch.cat([past, shared.index.masked_fill(~shared.counts, -1)], 1)
    rows = past.clamp_min(0)
    keys = torch.cat([k[stream[:, None], rows], own_k], 1)
    values = torch.cat([v[stream[:, None], rows], own_v], 1)
    last = shared.index[:, :1] + shared.branches.lengths[:, None] - 1
    seen = visible(torch.minimum(shared.index, last), tags, shared.window)
    y_out = mixer.o_proj(ring_attention(own_q, keys, values, seen).flatten(2))
    return x_out, y_out


def _banded_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention within a window: blocks of one window, each seeing the one before too."""
    B, N, H, D = q.shape
    blocks = -(-N // window)
    pad = (0, 0, 0, 0, 0, blocks * window - N)
    q, k, v = (torch.nn.functional.pad(t, pad).unflatten(1, (blocks, window)) for t in (q, k, v))
    k, v = (torch.cat([torch.roll(t, 1, 1), t], 2) for t in (k, v))
    i = torch.arange(window, device=q.device)
    tags = torch.arange(-window, window, device=q.device)
    seen = (tags <= i[:, None]) & (tags > i[:, None] - window)
    # The first block has none before it.
    seen = seen & ((torch.arange(blocks, device=q.device) > 0)[:, None, None] | (tags >= 0))
    seen = seen.expand(B, -1, -1, -1).flatten(0, 1)
    o = ring_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), seen)
    return o.reshape(B, blocks * window, H, D)[:, :N]


def _delta_net(mixer: GatedDeltaNet, x: Tensor, y: Tensor, shared: _Pass) -> tuple[Tensor, Tensor]:
    B, P = x.shape[0], shared.frame_tokens
    width = mixer.conv_weight.shape[1] - 1
    empty = x.new_zeros(B, width, mixer.in_sizes[0])
    projected = mixer.in_proj(x)
    inputs, gate, _ = mixer.prepare(projected, empty, None, None)
    # The start token ends a chunk of its own, so that chunks and frames end together.
    q, k, v, g, beta = (_front_pad(t, P - 1) for t in inputs)
    with torch.autocast(x.device.type, enabled=False):
        o, states = delta_scan(q, k, v, g, beta, P)
    x_out = mixer.output(o[:, P - 1 :], gate)

    stream, frame = shared.branches.stream, shared.branches.frame
    before = shared.index[:, :1] - torch.arange(width, 0, -1, device=x.device)  # [Q, W - 1]
    past = projected[..., : mixer.in_sizes[0]][stream[:, None], before]
    lengths, counts = shared.branches.lengths, shared.counts
    inputs, gate_y, _ = mixer.prepare(mixer.in_proj(y), past, lengths, counts)
    with torch.autocast(y.device.type, enabled=False):  # the rule is fp32 throughout
        o_y, _ = chunk_gated_delta_rule(*inputs, states[stream, frame + 1])
    return x_out, mixer.output(o_y, gate_y)


def _front_pad(t: Tensor, count: int) -> Tensor:
    """Zeros before the first token: no decay, no write."""
    return torch.cat([t.new_zeros(t.shape[0], count, *t.shape[2:]), t], 1)
