"""The names that one body can see, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from arspec.diagnostics import Span, nearest_name, refuse
from arspec.expressions import FUNCTIONS, Name
from arspec.values import AxisName, Num, Ref, Value


@dataclass
class Shared:
    """What every body of a term sees: params, variables, axes; and what has been read of it."""

    numbers: Mapping[str, Num]
    variables: Mapping[str, Ref]
    axes: Mapping[str, str]  # axis -> the variable that declares it
    used: set[str] = field(default_factory=set)
    used_lines: set[tuple[str, str]] = field(default_factory=set)
    exports: dict[str, set[str]] = field(default_factory=dict)
    target: str = ""


@dataclass
class Scope:
    """One body while it is expanded. `values` grows line by line."""

    shared: Shared
    body: str
    values: dict[str, Value] = field(default_factory=dict)
    later: Mapping[str, Ref] = field(default_factory=dict)  # lines below, as far as guessed
    guessing: bool = False
    recursive: set[str] = field(default_factory=set)
    lines: frozenset[str] = frozenset()  # the names of all lines of the body

    def lookup(self, name: Name) -> Value:
        """What a name stands for; a dot looks inside a block that was used."""
        first, *rest = name.parts
        value = self.simple(first, name.span)
        for i, part in enumerate(rest):
            if not hasattr(value, "inside"):
                self._fail(
                    name,
                    f"`{'.'.join(name.parts[: i + 1])}` has no inside",
                    "a dot looks inside a line that uses a block",
                )
            value = value.inside(part, name, self)
        return value

    def simple(self, name: str, span: Span) -> Value:
        if name in self.values:
            self.shared.used_lines.add((self.body, name))
            return self.values[name]
        if name in self.later:
            self.shared.used_lines.add((self.body, name))
            self.recursive.add(name)
            return self.later[name]
        for known in (self.shared.numbers, self.shared.variables):
            if name in known:
                self.shared.used.add(name)
                return known[name]
        if name in self.shared.axes:
            return AxisName(name)
        known_names = [
            *self.values,
            *self.later,
            *self.shared.numbers,
            *self.shared.variables,
            *self.shared.axes,
            *FUNCTIONS,
        ]
        near = nearest_name(name, known_names)
        hint = f"did you mean `{near}`?" if near else None
        refuse("AR105", span, name=name, help=hint)

    def made_name(self, name: str, span: Span, why: str) -> str:
        """A name that the emitted code needs for itself; no line may have it."""
        if name in self.lines:
            refuse("AR107", span, name=name, other=why, help=f"rename the line `{name}`")
        return name

    def number_named(self, name: Name) -> Num:
        value = self.lookup(name)
        if isinstance(value, Num):
            return value
        kind = "an axis" if isinstance(value, AxisName) else "a node"
        if isinstance(value, Ref | AxisName):
            self._fail(
                name,
                f"`{'.'.join(name.parts)}` is {kind}, not a number",
                "a number comes from `params` or a block's parameter",
            )
        self._fail(name, f"`{'.'.join(name.parts)}` is not a number")

    def length_code(self, axis: str) -> str:
        """The Python text of an axis' length: taken from the variable that declares it."""
        owner = self.shared.axes[axis]
        variable = self.shared.variables[owner]
        self.shared.used.add(owner)
        place = [a for a, _ in variable.info.grid].index(axis) + 1
        return f"{variable.raw or variable.code}.shape[{place}]"

    def _fail(self, name: Name, what: str, help: str | None = None) -> NoReturn:
        refuse("AR114", name.span, what=what, help=help)
