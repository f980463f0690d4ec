"""The hybrid decoder: layers that differ only in how they remember."""

import torch
from torch import Tensor, nn

from model.append_plan import AppendPlan, plan_append
from model.attention import RingAttention
from model.config import InfiniteVLConfig, LayerType
from model.delta_net import GatedDeltaNet
from model.layers import GatedMLP, RMSNorm
from model.state import ContextFullError, DeltaNetState, LayerState, StatePool


class DecoderLayer(nn.Module):
    """Norm, attention or delta rule, norm, MLP, each added to the residual stream."""

    def __init__(self, config: InfiniteVLConfig, layer_type: LayerType) -> None:
        super().__init__()
        self.layer_type = layer_type
        linear = layer_type == "linear_attention"
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = GatedDeltaNet(config) if linear else RingAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size, bias=False)

    def forward(self, x: Tensor, state: LayerState, plan: AppendPlan) -> Tensor:
        """x [B, T, hidden] -> [B, T, hidden]; updates the layer's state in place."""
        normed = self.input_layernorm(x)
        if isinstance(state, DeltaNetState):
            x = x + self.self_attn(normed, state, plan)
        else:
            ring = plan.full if self.layer_type == "full_attention" else plan.sliding
            x = x + self.self_attn(normed, state, plan, ring)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Token embedding, layers, final norm; the head is the embedding itself."""

    def __init__(self, config: InfiniteVLConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, kind) for kind in config.layer_types)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        slots: Tensor,
        pool: StatePool,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Run tokens through all layers and remember them.

        Args:
            x: [B, T, hidden] embeddings, T at most the pool's max_append.
            positions: [B, T, 3] int64.
            slots: [B] int64, all different.
            lengths: [B] int64: only the first so many tokens of a row count; None for all.

        Returns:
            [B, T, hidden] after the final norm; rows past a length mean nothing.

        Raises:
            ValueError: T is more than the pool's max_append.
            ContextFullError: a full-attention layer cannot hold the tokens; nothing is changed.
        """
        T = x.shape[1]
        if pool.max_append < T:
            raise ValueError(f"{T} tokens in one append, but the pool takes {pool.max_append}")
        if self.config.has_full_attention:
            _check_room(pool, slots, T if lengths is None else lengths)
        plan = plan_append(self.config, pool, slots, positions, lengths)
        for layer, state in zip(self.layers, pool.layers, strict=True):
            x = layer(x, state, plan)
        self._count(pool, slots, positions, lengths)
        return self.norm(x)

    def _count(
        self, pool: StatePool, slots: Tensor, positions: Tensor, lengths: Tensor | None
    ) -> None:
        """Advance the counters past the tokens that count."""
        last = positions.amax(-1)  # [B, T]
        if lengths is None:
            pool.num_tokens[slots] += positions.shape[1]
        else:
            pool.num_tokens[slots] += lengths
            steps = torch.arange(last.shape[1], device=last.device)
            last = last.masked_fill(steps >= lengths[:, None], -1)
        pool.next_position[slots] = torch.maximum(pool.next_position[slots], last.amax(-1) + 1)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] after the final norm -> [..., vocabulary] fp32."""
        return (hidden @ self.embed_tokens.weight.T).float()


def _check_room(pool: StatePool, slots: Tensor, new: Tensor | int) -> None:
    wanted = int((pool.num_tokens[slots] + new).max())
    if wanted > pool.max_context:
        raise ContextFullError(
            f"full attention is bounded to {pool.max_context} tokens and {wanted} would be needed; "
            "start the stream anew, allow a larger context, or use a sliding-window checkpoint"
        )
