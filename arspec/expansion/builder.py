"""A term of the model, expanded from its network or its block."""

from __future__ import annotations

from arspec.expansion.applied import outputs_of
from arspec.expansion.uses import Uses
from arspec.layers import Use
from arspec.program import Instance
from arspec.scope import Scope
from arspec.spec import Line
from arspec.values import (
    Value,
)


class Builder(Uses):
    """Expands one term."""

    def expand_root(self, use: Use | None) -> tuple[Instance, Value, Scope]:
        """Expand what computes the variable: the network, or the block of its term."""
        root = Instance("network")
        if use is None:
            assert self.spec.network is not None
            scope = Scope(self.shared, "network")
            start = self.shared.variables[self.variable]
            return root, self._body(self.spec.network, scope, "", start, root), scope
        line = Line(
            (self.variable,),
            use,
            ("generate", self.variable),
            self.spec.key_span(("generate", self.variable)),
        )
        scope = Scope(self.shared, "generate")
        start = self.shared.variables[self.variable]
        value = self._line(line, scope, "", start, root)
        return root, outputs_of(value), scope
