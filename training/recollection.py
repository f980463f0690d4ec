"""What the memory of a stream tells of each thing, asked of the recurrent states themselves.

A question asks after one thing now and then, so answers alone teach slowly what has to be kept.
Here all things of a stream are looked up in its states, as layers look things up: by a normalised
query a head, from what a cell that shows the thing would say.

B streams, n moments, N things, H heads, K key dim, V value dim.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import InfiniteVLConfig

# What states tell of a thing is a few names and numbers.
TOLD = 64


class Recollection(nn.Module):
    """Looks things up in the states of all linear layers; thrown away after training."""

    def __init__(self, config: InfiniteVLConfig) -> None:
        super().__init__()
        layers = config.layer_types.count("linear_attention")
        heads, key_dim = config.num_linear_heads, config.linear_head_dim
        self._queries = (layers, heads, key_dim)
        self._eps = config.linear_norm_eps
        self.query = nn.Linear(config.hidden_size, layers * heads * key_dim, bias=False)
        self.told = nn.Linear(layers * heads * config.linear_value_dim, TOLD)

    def forward(self, things: Tensor, memories: Sequence[Tensor]) -> Tensor:
        """What states tell of things: [B, n, N, TOLD].

        Args:
            things: [B, n, N, hidden], what cells are told by.
            memories: of each linear layer, the states after n moments [n, B, H, K, V].
        """
        queries = F.normalize(self.query(things).unflatten(-1, self._queries), dim=-1)
        found = [
            torch.einsum("bntHk,nbHkv->bntHv", query, memory.to(query.dtype))
            for query, memory in zip(queries.unbind(3), memories, strict=True)
        ]
        # Layers read them so: direction, not size (`kernels.rms_norm`).
        read = torch.stack(found, 3)
        return self.told(F.rms_norm(read, read.shape[-1:], eps=self._eps).flatten(3))
