"""What the user wrote in a setting: numbers, windows, names."""

from __future__ import annotations

from typing import Any, NoReturn

from arspec.diagnostics import Span, refuse
from arspec.equations import (
    Evaluator,
    number,
    number_text,
)
from arspec.expansion.growing import Growing
from arspec.expressions import Expr, Name, Range, parse
from arspec.layers.linear import Linear
from arspec.scope import Scope
from arspec.source import Path, Scalar, locate
from arspec.values import (
    Extent,
    Info,
    Num,
    Ref,
    Window,
)


class Settings(Growing):
    """Resolves raw settings in a scope."""

    def _evaluator(self, scope: Scope) -> Evaluator:
        return Evaluator(scope, self.frame, self.order)

    def expression(self, raw: str, path: Path) -> Expr:
        known = self.expressions.get(path)
        if known is None:
            node = locate(self.spec.tree, path)
            known = parse(raw, node.inner if isinstance(node, Scalar) else node.span)
            self.expressions[path] = known
        return known

    def number(self, raw: Any, path: Path, scope: Scope) -> Num:
        if isinstance(raw, int | float):
            return Num(raw, str(raw))
        expr = self.expression(str(raw), path)
        value = number(expr, scope)

        return Num(value, number_text(expr, scope))

    def window(self, raw: Any, path: Path, scope: Scope) -> Window:
        if isinstance(raw, list):
            boxes = [self.window(item, (*path, i), scope).boxes[0] for i, item in enumerate(raw)]
            return Window(tuple(boxes))
        if isinstance(raw, dict):
            return Window(
                ({axis: self._extent(v, (*path, axis), scope) for axis, v in raw.items()},)
            )
        if isinstance(raw, str):
            expr = self.expression(raw, path)
            if isinstance(expr, Name):
                value = scope.lookup(expr)
                if isinstance(value, Window):
                    return value
        return Window(({None: self._extent(raw, path, scope)},))

    def _extent(self, raw: Any, path: Path, scope: Scope) -> Extent:
        """A size, or literal offsets: a span, or one offset that is not positive."""
        if isinstance(raw, str):
            expr = self.expression(raw, path)
            if isinstance(expr, Range):
                ends = [
                    Num(number(e, scope), number_text(e, scope)) if e is not None else Num(0, "")
                    for e in (expr.low, expr.high)
                ]
                if path[-1] != "within" and (expr.low is None or expr.high is None):
                    self._fail(expr.span, "a span needs both ends", "such as `-2..0`")
                if path[-1] != "within":
                    self._check_span(ends, expr.span)
                return ends[0], ends[1]
        single = self.number(raw, path, scope)
        if not isinstance(single.value, int):
            self._fail(
                self.spec.span(path), f"a window of {single.value} positions", "a whole number"
            )
        if single.value > 0:
            if single.value > 1_000_000:
                refuse("AR116", self.spec.span(path), what="the window", limit="1,000,000")
            return single
        return single, single

    def _check_span(self, ends: list[Num], span: Span) -> None:
        low, high = ends
        if not (isinstance(low.value, int) and isinstance(high.value, int)):
            self._fail(span, "offsets are whole numbers")
        if low.value > high.value:
            self._fail(
                span,
                f"an empty span: {low.value} comes after {high.value}",
                f"`{high.value}..{low.value}`",
            )
        if max(abs(low.value), abs(high.value)) > 1_000_000:
            refuse("AR116", span, what="an offset", limit="1,000,000")

    def _tied(self, raw: str, path: Path, scope: Scope) -> tuple[str, Info, int]:
        """The embedding whose weight is shared: its attribute, its facts, how many symbols."""
        value = scope.simple(raw, self.spec.span(path))
        if not isinstance(value, Ref) or value.node not in self.tables:
            what = f"`{raw}` is not an embedding of symbols"
            self._fail(self.spec.span(path), what, "name a line such as `tokens: {embed: 512}`")
        return f"self.{raw}", value.info, self.tables[value.node]

    def projection(self, **written: Any) -> Linear:
        """A linear map that no line writes out: it follows the defaults of `linear`."""
        settings = {k: v for k, v in self.spec.defaults.get("linear", {}).items() if k != "mask"}
        return Linear(linear=1, **{**settings, **written})

    def _fail(self, span: Span, what: str, help: str | None = None) -> NoReturn:
        refuse("AR114", span, what=what, help=help)


def is_span(raw: str) -> bool:
    return ".." in raw and "(" not in raw
