"""The hybrid decoder: layers that differ only in how they remember."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kernels.ops import PLAIN, Ops
from model.append_plan import Append, AppendPlan, plan_append
from model.attention import RingAttention
from model.config import InfiniteVLConfig, LayerType
from model.delta_net import GatedDeltaNet
from model.layers import GatedMLP, RMSNorm, project
from model.state import ContextFullError, LayerState, StatePool


class DecoderLayer(nn.Module):
    """Norm, attention or delta rule, norm, MLP, each added to the residual stream."""

    def __init__(self, config: InfiniteVLConfig, layer_type: LayerType) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = (
            GatedDeltaNet(config)
            if layer_type == "linear_attention"
            else RingAttention(config, sliding=layer_type == "sliding_attention")
        )
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size, bias=False)

    def forward(
        self,
        x: Tensor,
        delta: Tensor | None,
        state: LayerState,
        plans: Sequence[AppendPlan],
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update the layer's state in place.

        Args:
            x: [N, hidden], the residual stream, without the layer before's output `delta`.
            rows: [R] int64: make the output of these tokens only; None for all.

        Returns:
            The residual stream and this layer's output, apart so that their sum and the next norm
            are one op: [R, hidden] each.
        """
        ops = plans[0].ops
        x, normed = self.input_layernorm.after(x, delta, ops)
        mixed = self.self_attn(normed, state, plans)
        if rows is not None:
            x, mixed = x[rows], mixed[rows]
        delta = project(self.self_attn.o_proj, mixed, ops)
        x, normed = self.post_attention_layernorm.after(x, delta, ops)
        return x, self.mlp(normed, ops)


class Decoder(nn.Module):
    """Token embedding, layers, final norm; the head is the embedding itself."""

    def __init__(self, config: InfiniteVLConfig) -> None:
        super().__init__()
        self.config = config
        # Left as it is, for random numbers on the meta device make torch import its compiler: 2 s.
        embedding = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(embedding, freeze=False)
        self.layers = nn.ModuleList(DecoderLayer(config, kind) for kind in config.layer_types)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, appends: Sequence[Append], pool: StatePool, ops: Ops = PLAIN) -> list[Tensor]:
        """Run tokens through all layers and remember them.

        Args:
            appends: of different slots; their tokens share the matrix products.

        Returns:
            Of each append the hidden vectors it wants, after the final norm: [B, T, hidden] (those
            past a length mean nothing), [B, 1, hidden] or [B, 0, hidden].

        Raises:
            ValueError: there are more tokens in an append than the pool's max_append.
            ContextFullError: a full-attention layer cannot hold the tokens; nothing is changed.
        """
        for append in appends:
            T = append.x.shape[1]
            if pool.max_append < T:
                raise ValueError(f"{T} tokens in one append, but the pool takes {pool.max_append}")
            if self.config.has_full_attention:
                _check_room(pool, append.slots, T if append.lengths is None else append.lengths)
        plans = [plan_append(self.config, pool, append, ops) for append in appends]
        rows = _wanted_rows(appends)
        parts = [append.x.flatten(0, 1) for append in appends]
        x, delta = parts[0] if len(parts) == 1 else torch.cat(parts), None
        last = len(self.layers) - 1
        for i, (layer, state) in enumerate(zip(self.layers, pool.layers, strict=True)):
            x, delta = layer(x, delta, state, plans, rows if i == last else None)
        for append in appends:
            _count(pool, append)
        hidden = self.norm.after(x, delta, ops)[1]
        assert isinstance(hidden, Tensor)
        shapes = [(append.x.shape[0], _num_wanted(append)) for append in appends]
        split = hidden.split([B * n for B, n in shapes])
        return [part.unflatten(0, shape) for part, shape in zip(split, shapes, strict=True)]

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] after the final norm -> [..., vocabulary] fp32."""
        return (hidden @ self.embed_tokens.weight.T).float()


def _num_wanted(append: Append) -> int:
    """Of how many tokens a row the hidden vectors are wanted."""
    return {"all": append.x.shape[1], "last": 1, "none": 0}[append.wanted]


def _wanted_rows(appends: Sequence[Append]) -> Tensor | None:
    """The places [R] int64, among all appends' tokens, of those that are wanted; None for all."""
    if all(append.wanted == "all" for append in appends):
        return None
    rows, first = [], 0
    for append in appends:
        B, T = append.x.shape[:2]
        starts = torch.arange(first, first + B * T, T, device=append.slots.device)
        match append.wanted:
            case "all":
                rows.append(torch.arange(first, first + B * T, device=append.slots.device))
            case "last":
                rows.append(starts + (T if append.lengths is None else append.lengths) - 1)
            case "none":
                rows.append(starts[:0])
        first += B * T
    return torch.cat(rows)


def _count(pool: StatePool, append: Append) -> None:
    """Advance the counters past the tokens that count."""
    slots, lengths = append.slots, append.lengths
    last = append.positions.amax(-1)  # [B, T]
    if lengths is None:
        pool.num_tokens[slots] += last.shape[1]
    else:
        pool.num_tokens[slots] += lengths
        steps = torch.arange(last.shape[1], device=last.device)
        last = last.masked_fill(steps >= lengths[:, None], -1)
    pool.next_position[slots] = torch.maximum(pool.next_position[slots], last.amax(-1) + 1)


def _check_room(pool: StatePool, slots: Tensor, new: Tensor | int) -> None:
    wanted = int((pool.num_tokens[slots] + new).max())
    if wanted > pool.max_context:
        raise ContextFullError(
            f"full attention is bounded to {pool.max_context} tokens and {wanted} would be needed; "
            "start the stream anew, allow a larger context, or use a sliding-window checkpoint"
        )
