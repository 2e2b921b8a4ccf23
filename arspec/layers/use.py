"""`use`: apply a block of the spec, once or stacked over a schedule."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict

from arspec.layers.base import Name, Op


class Use(Op):
    """The other keys are arguments, checked against the block's signature."""

    model_config = ConfigDict(extra="allow", frozen=True)

    key: ClassVar[str] = "use"
    use: Name
    repeat: Any = None

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})
