"""Names that the emitted code needs for itself are refused, never shared in silence."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from shape_comments import MADE

import arspec
from arspec import compiler
from arspec.diagnostics import SpecError
from arspec.library import library
from arspec.names import TAKEN

SPECS = sorted(Path(__file__).parent.glob("specs*/*.yaml"))


def spec(network: dict[str, Any], **more: Any) -> dict[str, Any]:
    variables = {"x": {"classes": 3, "axes": ["time"]}, **more.pop("variables", {})}
    base = {"name": "q", "variables": variables, "generate": "x", "head": "categorical"}
    return {**base, "network": network, **more}


LABEL = {"lab": {"classes": 3}}
CLASHES = {
    "one-hot of a condition": spec(
        {"m_one_hot": {"conv": 2, "to": 3}, "c": {"conv": 3, "to": 3, "of": "m"},
         "out": "m_one_hot + c"},
        variables={"m": {"classes": 3, "axes": ["time"], "known": "all"}},
    ),
    "one-hot of the target": spec(
        {"x_one_hot": {"conv": 2, "to": 3}, "out": "x_one_hot + x(time - 1)"}
    ),
    "a projection of what is given": spec(
        {"a": {"conv": 2, "to": 3, "given": "lab"}, "a_lab": {"linear": 3}, "out": "a + a_lab"},
        variables=LABEL,
    ),
    "a comma key": spec(
        {"a, b": {"conv": 2, "to": 4}, "a_b": {"linear": 4, "of": "a"}, "out": "b + a_b"}
    ),
    "the distribution": spec({"distribution": {"conv": 2, "to": 4}}),
    "the list of a repeated line": spec(
        {"stem": {"conv": 2, "to": 4}, "layers": {"use": "layer", "repeat": 2},
         "layers_skip": {"linear": 4}, "s": "sum(layers.skip)", "out": "layers_skip + s"},
        blocks={"layer(a)": {"skip": {"conv": 2}, "out": "a + skip"}},
    ),
    "an output of a pair": spec(
        {"stem": {"conv": 2, "to": 4}, "layers": {"use": "two", "of": ["stem", "stem"]},
         "layers_0": {"linear": 4, "of": "stem"}, "u, v": "layers", "out": "layers_0 + u + v"},
        blocks={"two(a, b)": {"out": "a + b, b"}},
    ),
    "a local of sample": spec(
        {"out": {"conv": 2, "to": 4, "given": "device"}}, variables={"device": {"classes": 3}}
    ),
    "a module": spec(
        {"out": {"conv": 2, "to": 4, "given": "torch"}}, variables={"torch": {"classes": 3}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASHES)
def test_a_clash_is_an_error(name: str) -> None:
    with pytest.raises(SpecError) as found:
        compiler.analyse(CLASHES[name])
    assert {one.code for one in found.value.diagnostics} <= {"AR106", "AR107"}


EMBEDDED = {"embed": 4, "of": "x(time - 1)"}
MISUSES = {
    "tied to an equation": spec(
        {"out": "x(time - 1)"}, head={"categorical": 1, "tied": "out"}),
    "tied to a chain": spec(
        {"e": [EMBEDDED, "relu"], "out": {"linear": 4}}, head={"categorical": 1, "tied": "e"}),
    "tied to a linear": spec(
        {"e": {"linear": 4, "of": "x(time - 1)"}, "out": "relu(e)"},
        head={"categorical": 1, "tied": "e"}),
    "dropped attention": spec({"e": EMBEDDED, "out": {"attention": 2, "drop": 1.5}}),
    "a negative eps": spec({"e": EMBEDDED, "out": {"norm": "layer", "eps": -1}}),
    "a division by zero": spec({"e": EMBEDDED, "out": "e / 0"}),
    "a huge dilation": spec({"out": {"conv": 2, "to": 4, "dilation": 99_999_999_999}}),
    "a start out of bounds": spec(
        {"w": {"weight": 4, "within": "0..1", "init": 2}, "e": EMBEDDED, "out": "e * w"}),
    "a negative base": spec({"e": EMBEDDED, "out": {"attention": 2, "rope": -1}}),
    "an odd width of heads": spec(
        {"e": {"embed": 6, "of": "x(time - 1)"}, "out": {"attention": 2, "rope": 10000}}),
    "an order with a product": spec({"out": {"conv": 2, "to": 4}}, order=["time * 2"]),
    "an order with an axis twice": spec({"out": {"conv": 2, "to": 4}}, order=["time", "time"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_is_an_error(name: str) -> None:
    with pytest.raises(SpecError) as found:
        compiler.analyse(MISUSES[name])
    assert found.value.diagnostics


@pytest.mark.parametrize("value", ["9**9**9", "width", "(", "wdith * 2"])
def test_a_value_from_outside_is_blamed_as_such(value: str) -> None:
    with pytest.raises(SpecError) as found:
        compiler.analyse("wavenet", {"width": value})
    (error,) = found.value.diagnostics
    assert error.code == "AR124"
    assert error.span is None


@pytest.mark.parametrize(
    "name", ["state", "f", "place", "categorical", "causal_conv1d", "sequence"]
)
def test_a_model_is_not_called_as_what_its_file_needs(name: str) -> None:
    text = spec({"out": {"conv": 2, "to": 4}}) | {"name": name}
    model: Any = arspec.build(text)
    assert type(model).__name__.endswith("Model")
    assert model.sample(1, shape=(5,)).shape == (1, 5)


def test_what_emitted_methods_call_is_not_hidden_by_a_line_of_that_name() -> None:
    called: set[str] = set()
    for path in SPECS:
        analysis = compiler.analyse(path)
        if analysis.proof.causal and not analysis.model.terms[0].head.missing:
            called |= functions_called(emitted(analysis))
    assert {"held", "slower", "settled", "repeat"} <= called
    assert called <= TAKEN


def emitted(analysis: compiler.Analysis) -> str:
    try:
        return compiler.emit(analysis)
    except SpecError:  # it has no code yet
        return ""


def functions_called(text: str) -> set[str]:
    """The pieces that are functions and that `forward` and what it settles call by name."""
    tree = ast.parse(text)
    pieces = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    methods = [
        method
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name not in library().pieces
        for method in node.body
        if isinstance(method, ast.FunctionDef) and MADE.match(method.name)
    ]
    names = (node for method in methods for node in ast.walk(method) if isinstance(node, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Load)} & pieces
