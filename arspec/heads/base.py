"""What an output distribution states about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from arspec.layers.base import Flag, Name, Number, Strict
from arspec.values import Num


@dataclass(frozen=True, slots=True)
class Drawn:
    """The variable that a head describes: its kind, its number of values and its channels.

    `kind` is "classes", "levels" or "features"; `count` how many; `channels` 1 if it has none.
    """

    kind: str
    count: Num
    channels: int
    ordered: bool


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """`size`: parameters per position and channel (all channels together unless `per_channel`).

    `distribution` is the Python text that builds the piece; `missing` what has no code yet;
    `truncated`: whether draws can be limited to the likeliest values (top-k, top-p).
    """

    size: Num
    per_channel: bool
    distribution: str
    missing: str | None = None
    truncated: bool = False


class Head(Strict):
    """One output distribution; its parameters are projected from the last line unless given."""

    key: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    parameters: ClassVar[tuple[str, ...]] = ()

    tied: Name | None = None
    bias: Flag = True

    @property
    def main(self) -> Any:
        return getattr(self, self.key)

    def misfit(self, drawn: Drawn) -> str | None:
        """Why it cannot describe a variable of that kind, if it cannot."""
        if drawn.kind in self.kinds:
            return None
        kinds = " or ".join(f"`{kind}`" for kind in self.kinds)
        return f"`{self.key}` describes a variable of {kinds}"

    @property
    def written(self) -> dict[str, Any]:
        """The parameters that the spec gives by equations of its own."""
        given = {name: getattr(self, name) for name in self.parameters}
        return {name: value for name, value in given.items() if value is not None}

    def facts(self, drawn: Drawn, components: Num) -> HeadFacts:
        raise NotImplementedError


__all__ = ["Drawn", "Head", "HeadFacts", "Number"]
