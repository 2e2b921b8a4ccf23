"""Spec -> the terms of the model: blocks and repeats expanded into a dependency graph, with the
code of every line beside it.

A block that is used again with inputs and numbers of the same kind is expanded once and copied
after that, so that ten thousand layers cost little more than ten thousand nodes.
"""

from arspec.expansion.applied import Stack
from arspec.expansion.builder import Builder
from arspec.expansion.growing import Cut

__all__ = ["Builder", "Cut", "Stack"]
