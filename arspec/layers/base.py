"""What every op of the language states about itself: its settings and its facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

from arspec.graph import ALWAYS, Reach
from arspec.values import Features, Grid, Ref

if TYPE_CHECKING:
    from arspec.layers.site import Site


class Strict(BaseModel):
    """A mapping of the spec: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _checked(expected: str, test: Any) -> BeforeValidator:
    def check(value: object) -> object:
        if not test(value):
            raise PydanticCustomError("AR103", "{expected}", {"expected": expected})
        return value

    return BeforeValidator(check)


_NUMBER = {"type": ["number", "string"], "description": "a number, or an expression over params"}
Number = Annotated[Any, _checked("a number or an expression", _is_number), WithJsonSchema(_NUMBER)]
Name = Annotated[
    Any, _checked("a name", lambda v: isinstance(v, str)), WithJsonSchema({"type": "string"})
]
Flag = Annotated[
    Any,
    _checked("true or false", lambda v: isinstance(v, bool)),
    WithJsonSchema({"type": "boolean"}),
]
Text = Annotated[
    Any, _checked("text", lambda v: isinstance(v, str)), WithJsonSchema({"type": "string"})
]
Axes = Annotated[
    Any,
    _checked(
        "an axis or a list of axes",
        lambda v: (
            isinstance(v, str) or (isinstance(v, list) and all(isinstance(a, str) for a in v))
        ),
    ),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Nodes = Annotated[
    Any,
    _checked(
        "an equation, or a list of equations",
        lambda v: (
            isinstance(v, str) or (isinstance(v, list) and all(isinstance(a, str) for a in v))
        ),
    ),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "an equation over names, or a list of them",
        }
    ),
]
Rates = Annotated[
    Any,
    _checked(
        "a number, or a number per axis",
        lambda v: _is_number(v) or (isinstance(v, dict) and all(_is_number(n) for n in v.values())),
    ),
    WithJsonSchema({"anyOf": [_NUMBER, {"type": "object", "additionalProperties": _NUMBER}]}),
]


def _is_window(value: object, nested: bool = True) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(_is_number(v) for v in value.values())
    if nested and isinstance(value, list):
        return bool(value) and all(_is_window(v, False) for v in value)
    return _is_number(value)


WindowSpec = Annotated[
    Any,
    _checked("a size, a span such as -1..1, one of them per axis, or a list of these", _is_window),
    WithJsonSchema(
        {
            "anyOf": [
                _NUMBER,
                {"type": "object", "additionalProperties": _NUMBER},
                {"type": "array"},
            ],
            "description": "`3`, `-2..0`, `{row: -1..0, col: 3}`, or a list of windows (union)",
        }
    ),
]
MaskName = Literal["A", "B", "none"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one op says of the node it makes.

    `reads` gives the reach of each input slot. `construct` is the Python text that builds its
    module (None: it has none), `call` the text of its value, where ``{self}`` stands for that
    module. `missing` names what has no code yet. `state` are reaches of the node on itself.
    `given`: what projections of what is given are added to, if not to the value; then `call` takes
    them where it has the mark `GIVEN`.
    """

    grid: Grid
    features: Features
    reads: tuple[tuple[Ref, Reach], ...]
    due: int
    construct: str | None = None
    call: str = ""
    parameters: int = 0
    operations: int | None = None  # multiply-adds per position; None: one for each parameter
    missing: str | None = None
    state: tuple[Reach, ...] = ()
    given: Features | None = None
    mask: str = ""
    batched: bool = True
    table: int = 0  # of an embedding: how many symbols have a row in its weight
    adds_up: bool = False  # the sum of several is one product: weights and inputs side by side
    helpers: tuple[tuple[str, str], ...] = ()  # further modules: attribute, construct
    cut: tuple[int, ...] | None = None  # the earliest offset that an inferred mask hides
    depends: str = ALWAYS  # on which of the positions that it reads: see `graph`


class Op(Strict):
    """One op: a mapping whose op key holds the main argument; the other keys are settings."""

    key: ClassVar[str]
    makes_input: ClassVar[bool] = False  # has no input of its own: learned numbers
    takes_symbols: ClassVar[bool] = False  # reads integers, and shifts what it looked up itself
    takes_axes: ClassVar[bool] = False  # its input may be the positions of an axis

    of: Nodes | None = None
    latent: Flag = False

    @property
    def main(self) -> Any:
        return getattr(self, self.key)

    def facts(self, site: Site) -> Facts:
        raise NotImplementedError


class Weighted(Op):
    """An op with weights: what it can be told besides its main argument."""

    to: Number | None = None
    given: Nodes | None = None
    bias: Flag = True
    weight_norm: Flag = False
    tied: Name | None = None
    mask: MaskName | None = None

    def weights(self, outputs: int, fan_in: int) -> int:
        """How many numbers it learns: weight, bias, and the lengths g of weight normalisation."""
        return outputs * (fan_in + bool(self.bias) + bool(self.weight_norm))
