"""The ops of the language: FACTS, no torch. One file per family; one line here per op."""

from arspec.layers.attention import Attention
from arspec.layers.base import Facts, Op, Strict, Weighted
from arspec.layers.conv import Conv, Deconv, Pool, Up
from arspec.layers.linear import Embed, Linear, Weight
from arspec.layers.norm import Dropout, Norm
from arspec.layers.recurrent import Gru, Lstm
from arspec.layers.site import Site
from arspec.layers.use import Use

OPS: dict[str, type[Op]] = {
    op.key: op
    for op in (
        Linear, Embed, Conv, Deconv, Attention, Lstm, Gru, Norm, Dropout, Up, Pool, Weight, Use,
    )
}  # fmt: skip

__all__ = ["OPS", "Facts", "Op", "Site", "Strict", "Use", "Weighted"]
