"""What a convolution over any set of taps keeps between steps."""

from typing import Any

import torch
from torch import Tensor

from .caches2d import GridCache
from .state import Offset, State


class Matrices:
    """The weight of a `BoxConv` as a matrix per group, to multiply what one output reads."""

    def __init__(self, layer: Any) -> None:
        weight = layer.weight
        matrix = weight.reshape(layer.groups, -1, *weight.shape[1:]).permute(0, 3, 2, 1)
        self.matrix = matrix.flatten(1, 2)
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
        self.offset = bias.view(layer.groups, 1, -1)

    def product(self, taps: Tensor) -> Tensor:
        """(B, taps, inputs) -> (B, 1, outputs)"""
        rows = taps.reshape(*taps.shape[:2], len(self.matrix), -1).permute(2, 0, 1, 3).flatten(2)
        y = torch.baddbmm(self.offset, rows, self.matrix)
        return y.transpose(0, 1).reshape(len(taps), 1, -1)


class BoxCache(GridCache):
    """The inputs that a `BoxConv` of stride 1 still reads, and its weight as matrices."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output, layer.taps, layer.weight.shape[1] * layer.groups)
        self.layer, self.weights = layer, Matrices(layer)

    def run(self, x: Tensor, state: State) -> Tensor:
        self.keep(x, state)
        if not self.single:
            y: Tensor = self.layer.window(self.window(state))
            return y
        y = self.weights.product(self.read(state))
        return y.view(len(x), *[1] * len(self.spans), -1)
