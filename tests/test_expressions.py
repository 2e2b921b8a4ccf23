"""Expressions: what they mean, what they refuse, and that nothing makes them slow or crash."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arspec.diagnostics import Span, SpecError
from arspec.expressions import (
    FUNCTIONS,
    Binary,
    Call,
    Expr,
    Name,
    Number,
    Range,
    Shift,
    Unary,
    children,
    evaluate,
    names,
    parse,
    text,
)


def read(source: str) -> Expr:
    return parse(source, Span(1, 1, max(len(source), 1)))


def failure(source: str):
    with pytest.raises(SpecError) as found:
        read(source)
    (diagnostic,) = found.value.diagnostics
    return diagnostic


def everything(expr: Expr):
    yield expr
    for inner in children(expr):
        yield from everything(inner)


a, b, c = Name(("a",)), Name(("b",)), Name(("c",))


@pytest.mark.parametrize(
    ("source", "tree"),
    [
        ("a", a),
        ("halved.u", Name(("halved", "u"))),
        ("012", Number(12)),
        ("1e-4", Number(1e-4)),
        (".5", Number(0.5)),
        ("a - b - c", Binary("-", Binary("-", a, b), c)),
        ("a - (b - c)", Binary("-", a, Binary("-", b, c))),
        ("a + b * c", Binary("+", a, Binary("*", b, c))),
        ("a ** b ** c", Binary("**", a, Binary("**", b, c))),
        ("-a ** b", Unary("-", Binary("**", a, b))),
        ("a ** -b", Binary("**", a, Unary("-", b))),
        ("-a * b", Binary("*", Unary("-", a), b)),
        ("a or b ++ c", Binary("or", a, Binary("++", b, c))),
        ("a ++ b + c", Binary("++", a, Binary("+", b, c))),
        ("a++b", Binary("++", a, b)),
        ("-1..1", Range(Unary("-", Number(1)), Number(1))),
        ("-1..+1", Range(Unary("-", Number(1)), Number(1))),
        ("-3..-1", Range(Unary("-", Number(3)), Unary("-", Number(1)))),
        ("0..", Range(Number(0), None)),
        ("..3", Range(None, Number(3))),
        ("0.1..1.5", Range(Number(0.1), Number(1.5))),
        ("1..2 * a", Range(Number(1), Binary("*", Number(2), a))),
        ("tanh(a)", Call("tanh", a)),
        ("doubling(1..512)", Call("doubling", Range(Number(1), Number(512)))),
        ("a(row)", Shift(a, "row", Number(0))),
        ("a(row - 1)", Shift(a, "row", Unary("-", Number(1)))),
        ("a(row + b)", Shift(a, "row", b)),
        ("a(row - b + c)", Shift(a, "row", Binary("+", Unary("-", b), c))),
        ("a(row - 1)(col + 1)", Shift(read("a(row - 1)"), "col", Number(1))),
        ("(variance(time - 1) or a)", Binary("or", read("variance(time - 1)"), a)),
        ("relu", Name(("relu",))),
    ],
)
def test_meaning(source: str, tree: Expr) -> None:
    assert read(source) == tree
    assert read(text(tree)) == tree


def test_canonical_text() -> None:
    assert text(read("a+(b*c)**-2..3 ++(x(time-1))")) == "a + (b * c) ** -2..3 ++ x(time - 1)"


def test_spans_count_from_the_origin() -> None:
    expr = parse("tanh(ab) * x(row - 1)", Span(7, 10, 21))
    assert isinstance(expr, Binary)
    assert expr.span == Span(7, 10, 21)
    assert expr.left.span == Span(7, 10, 8)
    assert children(expr.left)[0].span == Span(7, 15, 2)
    assert expr.right.span == Span(7, 21, 10)
    assert children(expr.right)[1].span == Span(7, 27, 3)


def test_a_span_with_parentheses_holds_them() -> None:
    assert read("(a) + (b)").span == Span(1, 1, 9)


def test_names() -> None:
    found = [n.parts for n in names(read("tanh(a) + b.u(time - lag)(row + 1) ** -c or 0..d"))]
    assert found == [("a",), ("b", "u"), ("lag",), ("c",), ("d",)]


@pytest.mark.parametrize(
    ("source", "code", "column", "length", "help_has"),
    [
        ("", "AR401", 1, 1, ""),
        ("   ", "AR401", 1, 3, ""),
        ("doubling(1, 512)", "AR403", 11, 1, "1..512"),
        ("x[time - 1]", "AR403", 2, 1, "x(time - 1)"),
        ("a == b", "AR403", 3, 2, "conditions"),
        ("a if b else c", "AR404", 3, 2, "conditions"),
        ("a % 2", "AR403", 3, 1, "dilation"),
        ("a @ b", "AR403", 3, 1, "linear"),
        ("a ^ 2", "AR403", 3, 1, "a ** b"),
        ("a // 2", "AR403", 3, 2, "a / b"),
        ("0...3", "AR403", 2, 3, "0..3"),
        ("2x", "AR403", 1, 2, "2 * x"),
        ("1_000", "AR403", 2, 4, "digits"),
        ("1.2.3", "AR403", 1, 5, "one dot"),
        ("größe", "AR403", 3, 1, "a-z"),
        ("'a'", "AR403", 1, 1, "texts"),
        ("lambda", "AR404", 1, 6, "lambda_"),
        ("a.if", "AR404", 1, 4, "conditions"),
        ("tanhh(a)", "AR406", 1, 5, "`tanh`"),
        ("ReLU(a)", "AR406", 1, 4, "`relu`"),
        ("tanhh(a * b)", "AR406", 1, 5, "`tanh`"),
        ("foo(1)", "AR406", 1, 3, "foo(time - 1)"),
        ("x(time * 2)", "AR406", 1, 1, "x(time - 1)"),
        ("tanh(a)(row - 1)", "AR407", 1, 8, "a line of its own"),
        ("(a + b)(row - 1)", "AR407", 1, 8, "a line of its own"),
        ("2(a)", "AR407", 1, 2, "a * b"),
        ("(a + b", "AR405", 7, 1, ""),
        ("a + b)", "AR405", 6, 1, ""),
        ("a b", "AR405", 3, 1, ""),
        ("a +", "AR405", 4, 1, ""),
        ("x(row - 1", "AR405", 10, 1, ""),
        ("1..2..3", "AR405", 5, 2, ""),
        ("1..(2..3)", "AR405", 4, 1, ""),
        ("..", "AR405", 3, 1, ""),
        ("9" * 30, "AR412", 1, 30, ""),
        ("1e999", "AR412", 1, 5, ""),
        ("a " * 1001, "AR402", 1, 2002, ""),
        ("a" * 2001, "AR402", 1, 2001, ""),
        ("a " * 900, "AR402", 1, 1800, ""),
        ("+".join("a" * 60), "AR402", 1, 119, "names"),
        ("(" * 60, "AR402", 51, 10, "names"),
        ("-" * 400 + "1", "AR402", 51, 351, "names"),
        ("2" + "**2" * 60, "AR402", 151, 31, "names"),
        ("x" + "(t-1)" * 60, "AR402", 1, 301, "names"),
        ("exp(" * 60, "AR402", 201, 40, "names"),
    ],
)
def test_refusals(source: str, code: str, column: int, length: int, help_has: str) -> None:
    found = failure(source)
    assert (found.code, found.span) == (code, Span(1, column, length))
    assert help_has in (found.help or "")


def test_every_function_is_called() -> None:
    for function in FUNCTIONS:
        assert isinstance(read(f"{function}(a)"), Call)


def test_a_folded_text_stays_on_its_first_line() -> None:
    with pytest.raises(SpecError) as found:
        parse("aaaa + bbbb + %", Span(3, 5, 6))
    span = found.value.diagnostics[0].span
    assert span is not None
    assert (span.line, span.column) == (3, 11)


# Numbers


def value(source: str) -> int | float:
    numbers = {"a": 512, "zero": 0, "half": 0.5, "huge": 10**40, "nan": math.nan}
    return evaluate(read(source), lambda name: numbers[name.parts[0]])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a / 2", 256),
        ("a / 3", 512 / 3),
        ("-a + 2 * 3 ** 2", -494),
        ("2 ** -1", 0.5),
        ("-2 ** 2", -4),
        ("(-2) ** 3", -8),
        ("a * half", 256.0),
        ("sqrt(a * 2)", 32.0),
        ("exp(log(a))", math.exp(math.log(512))),
        ("10 ** 15", 10**15),
        ("half ** 5000", 0.0),
    ],
)
def test_value(source: str, expected: float) -> None:
    got = value(source)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("9 ** 9 ** 9", "AR412"),
        ("(-9) ** 9 ** 8", "AR412"),
        ("10 ** 15 + 1", "AR412"),
        ("-(10 ** 15) - 1", "AR412"),
        ("999999999999 * 999999999999", "AR412"),
        ("1e200 * 1e200", "AR412"),
        ("1e200 ** 2", "AR412"),
        ("exp(1000)", "AR412"),
        ("huge", "AR412"),
        ("1 / zero", "AR411"),
        ("1.5 / zero", "AR411"),
        ("zero ** -1", "AR411"),
        ("(-1) ** half", "AR413"),
        ("log(zero)", "AR413"),
        ("sqrt(-1)", "AR413"),
        ("nan", "AR413"),
        ("relu(a)", "AR410"),
        ("1..2", "AR410"),
        ("a or a", "AR410"),
        ("a ++ a", "AR410"),
        ("a(time - 1)", "AR410"),
    ],
)
def test_no_value(source: str, code: str) -> None:
    start = time.process_time()
    with pytest.raises(SpecError) as found:
        value(source)
    assert found.value.diagnostics[0].code == code
    assert time.process_time() - start < 0.1


# Any text

PIECES = ["a", "b.u", "relu(", "(", ")", "x(row - 1", "..", " ", "+", "-", "*", "/", "**", "++"]
PIECES += [" or ", "1", "0.5", "2e3", "12", ",", "[", "%", ".", "é", "if", "9" * 20, "\t"]
SOURCES = st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@settings(deadline=None)
@given(SOURCES)
def test_any_text_is_an_expression_or_an_error(source: str) -> None:
    try:
        expr = read(source)
    except SpecError as found:
        places = [d.span for d in found.diagnostics]
        str(found)
    else:
        places = [node.span for node in everything(expr)]
        assert read(text(expr)) == expr
        assert text(read(text(expr))) == text(expr)
    for span in places:
        assert span is not None
        assert span.line == 1
        assert span.length >= 1
        assert 1 <= span.column <= span.column + span.length - 1 <= max(len(source), 1) + 1


def trees() -> st.SearchStrategy[Expr]:
    leaves = st.sampled_from([a, b, Name(("b", "u"))]) | st.builds(
        Number, st.integers(0, 10**15) | st.floats(0, 1e300)
    )

    def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        ends = inner.filter(lambda tree: not isinstance(tree, Range))
        operators = st.sampled_from(["or", "++", "+", "-", "*", "/", "**"])
        shifts = st.builds(Shift, st.just(a) | st.just(read("a(row - 1)")), st.just("col"), inner)
        return st.one_of(
            st.builds(Binary, operators, inner, inner),
            st.builds(Unary, st.just("-"), inner),
            st.builds(Call, st.sampled_from(sorted(FUNCTIONS)), inner),
            st.builds(Range, ends, ends | st.none()),
            st.builds(Range, st.none(), ends),
            shifts,
        )

    return st.recursive(leaves, grow, max_leaves=12)


@settings(deadline=None)
@given(trees())
def test_the_text_of_any_tree_means_that_tree(tree: Expr) -> None:
    assert read(text(tree)) == tree


@settings(deadline=None)
@given(trees())
def test_any_tree_has_a_value_or_an_error(tree: Expr) -> None:
    try:
        got = evaluate(tree, lambda name: 3 if len(name.parts) == 1 else -0.5)
    except SpecError:
        return
    assert math.isfinite(got)
    assert isinstance(got, float) or abs(got) <= 10**15
