"""A function of tensors, captured once as a CUDA graph and replayed for ever."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[[list[Tensor]], list[Tensor]]
_WARM_UPS = 3


class Graphed:
    """`function` by graph replay; its inputs always have the shapes and dtypes of the first ones.

    What it returns is overwritten by the next call. Gradients that it leaves in parameters are
    written anew by every replay, so nobody need clear them.
    """

    def __init__(self, function: Function, inputs: Sequence[Tensor]) -> None:
        self._inputs = [t.clone() for t in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                function(self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(self._inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Copy the inputs in, replay, and hand out the outputs."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._outputs
