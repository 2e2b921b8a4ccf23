"""What a convolution over any set of taps keeps between steps."""

from typing import Any

import torch
from torch import Tensor

from .caches2d import GridCache
from .state import Offset, State


class BoxCache(GridCache):
    """The inputs that a `BoxConv` of stride 1 still reads, and its weight as a matrix per group."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        self.layer, weight = layer, layer.weight
        super().__init__(source, output, layer.taps, weight.shape[1] * layer.groups)
        # One position is one product per group with the taps of its window, features last.
        matrix = weight.reshape(layer.groups, -1, *weight.shape[1:]).permute(0, 3, 2, 1)
        self.matrix = matrix.flatten(1, 2)
        bias = weight.new_zeros(weight.shape[0]) if layer.bias is None else layer.bias
        self.offset = bias.view(layer.groups, 1, -1)

    def run(self, x: Tensor, state: State) -> Tensor:
        self.keep(x, state)
        if not self.single:
            y: Tensor = self.layer.window(self.window(state))
            return y
        taps = self.read(state)
        taps = taps.reshape(*taps.shape[:2], self.layer.groups, -1).permute(2, 0, 1, 3).flatten(2)
        y = torch.baddbmm(self.offset, taps, self.matrix)
        return y.transpose(0, 1).reshape(len(x), *[1] * len(self.spans), -1)
