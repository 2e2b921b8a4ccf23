"""YAML -> tree: values, places, refusals, and hostile texts."""

import gc
import subprocess
import sys
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from arspec.diagnostics import Diagnostic, Span, SpecError, lines_of
from arspec.source import (
    MAX_DEPTH,
    MAX_VALUES,
    Mapping,
    Scalar,
    Sequence,
    Tree,
    decode,
    from_plain,
    load,
    locate,
    locate_key,
    plain,
)


def value(text: str) -> object:
    tree = load(f"a: {text}")
    assert isinstance(tree, Mapping)
    return plain(tree)["a"]


def failures(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as found:
        load(text)
    assert str(found.value)
    return found.value.diagnostics


def failure(text: str) -> Diagnostic:
    (diagnostic,) = failures(text)
    return diagnostic


def nodes(tree: Tree):
    yield tree
    if isinstance(tree, Mapping):
        for key, inner in tree.items:
            yield key
            yield from nodes(inner)
    elif isinstance(tree, Sequence):
        for inner in tree.items:
            yield from nodes(inner)


# Values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4", 1e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2", -2),
        ("+24", 24),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("-1..1", "-1..1"),
        ("0..", "0.."),
        ("'1'", "1"),
        ('"true"', "true"),
        ("|\n  12\n", "12\n"),
        ("=", "="),
        ("x(time - 1) or y", "x(time - 1) or y"),
        ("{conv: {row: -1..0}, to: 64}", {"conv": {"row": "-1..0"}, "to": 64}),
        ("[relu, {linear: 8}]", ["relu", {"linear": 8}]),
        ("one\n  two", "one two"),
        ("999999999999999", 999999999999999),
    ],
)
def test_values(text: str, expected: object) -> None:
    got = value(text)
    assert got == expected
    assert type(got) is type(expected)


# Places

TEXT = (
    "\ufeffname: 'wave'  # comment\r\n"
    "größe, höhe: {conv: {time: -1..1}, to: 64}\r\n"
    "blocks:\r\n"
    "  layer(x, dilation):\r\n"
    "    out: [relu,\r\n"
    "      {linear: 日本}]\r\n"
    "none:\r\n"
)


@pytest.mark.parametrize(
    ("path", "span"),
    [
        ([], Span(1, 1, 12)),
        (["name"], Span(1, 7, 6)),
        (["größe, höhe"], Span(2, 14, 29)),
        (["größe, höhe", "conv"], Span(2, 21, 13)),
        (["größe, höhe", "conv", "time"], Span(2, 28, 5)),
        (["größe, höhe", "to"], Span(2, 40, 2)),
        (["größe, höhe", "nothing", "more"], Span(2, 14, 29)),
        (["blocks"], Span(4, 3, 18)),
        (["blocks", "layer(x, dilation)"], Span(5, 5, 10)),
        (["blocks", "layer(x, dilation)", "out"], Span(5, 10, 5)),
        (["blocks", "layer(x, dilation)", "out", 0], Span(5, 11, 4)),
        (["blocks", "layer(x, dilation)", "out", 1, "linear"], Span(6, 16, 2)),
        (["blocks", "layer(x, dilation)", "out", 9], Span(5, 10, 5)),
        (["none"], Span(7, 1, 4)),
    ],
)
def test_places(path: list[str | int], span: Span) -> None:
    assert locate(load(TEXT), path).span == span


def test_places_of_keys() -> None:
    tree = load(TEXT)
    key = locate_key(tree, ["größe, höhe", "to"])
    assert key == Scalar("to", "to")
    assert key.span == Span(2, 36, 2)
    assert locate_key(tree, ["name", "to"]) is None
    assert locate_key(tree, ["missing", "to"]) is None
    assert locate_key(tree, ["blocks", "layer(x, dilation)", "out", 0]) is None
    assert locate_key(tree, []) is None


def test_the_inside_of_quotation_marks() -> None:
    quoted = locate(load("a: 'x + y'"), ["a"])
    assert isinstance(quoted, Scalar)
    assert (quoted.span, quoted.inner) == (Span(1, 4, 7), Span(1, 5, 5))


def test_tree_access() -> None:
    tree = load("a: 1\nb: [2, 3]")
    assert isinstance(tree, Mapping)
    assert tree.get("a") == Scalar(1, "1")
    assert tree.get("c") is None
    assert tree.key("b") == Scalar("b", "b")
    assert plain(tree) == {"a": 1, "b": [2, 3]}


# Refusals


@pytest.mark.parametrize(
    ("text", "code", "span", "help_has"),
    [
        ("", "AR005", None, ""),
        ("# only this\n", "AR005", None, ""),
        ("---\n", "AR005", None, ""),
        ("~", "AR005", None, ""),
        ("a: 1\n---\nb: 2\n", "AR006", Span(2, 1, 3), ""),
        ("a: 1\nb: {c: 1, c: 2}", "AR007", Span(2, 11, 1), ""),
        ("a: 1\n'a': 2", "AR007", Span(2, 1, 3), ""),
        ("a:\n  3: 1", "AR008", Span(2, 3, 1), "letter"),
        ("true: 1", "AR008", Span(1, 1, 4), ""),
        ("~: 1", "AR008", Span(1, 1, 1), ""),
        ("'': 1", "AR008", Span(1, 1, 2), ""),
        ("? [a, b]\n: 1", "AR008", Span(1, 3, 6), ""),
        ("a: !!int 3", "AR009", Span(1, 4, 7), "tag"),
        ("a: !!python/object:os.system 3", "AR009", Span(1, 4, 27), ""),
        ("a: &x 3", "AR010", Span(1, 4, 4), "block"),
        ("a: *x", "AR010", Span(1, 4, 2), "name or a number"),
        ("<<: {a: 1}", "AR011", Span(1, 1, 2), "defaults"),
        ("a: 1234567890123456789", "AR014", Span(1, 4, 19), ""),
        ("a: " + "9" * 5000, "AR014", Span(1, 4, 5000), ""),
        ("a: 0x" + "f" * 5000, "AR014", Span(1, 4, 5002), ""),
        ("a: 1e999", "AR014", Span(1, 4, 5), ""),
        ("%YAML 1.1\n---\na: 1", "AR015", Span(1, 1, 9), ""),
        ("a: 1\nb: \x07", "AR003", Span(2, 4, 1), ""),
        ("a: \u2028", "AR003", Span(1, 4, 1), ""),
        ("a: x\u202ey", "AR003", Span(1, 5, 1), ""),
        ("a: \ud800", "AR003", Span(1, 4, 1), ""),
        ('a: "\\0"', "AR003", Span(1, 4, 4), ""),
        ("a: {time:0..1}", "AR017", Span(1, 5, 9), "time: 0..1"),
        ("key:value", "AR017", Span(1, 1, 9), "key: value"),
        ("a: {dilation: doubling(1, 512)}", "AR016", Span(1, 15, 10), "doubling(1..512)"),
        ("a: [doubling(1, 512)]", "AR016", Span(1, 5, 10), "doubling(1..512)"),
        ("a: {layer(x, y): {out: x}}", "AR016", Span(1, 5, 7), ""),
        # what YAML itself refuses
        ("a:\n\tb: 1", "AR004", Span(2, 1, 1), "blanks"),
        ("a: @x", "AR004", Span(1, 4, 1), "quotation"),
        ("a: {of: x[time - 1]}", "AR004", Span(1, 10, 1), "x(time - 1)"),
        ("a: [x[time - 1]]", "AR004", Span(1, 6, 1), "x(time - 1)"),
        ("a: {b: 1", "AR004", Span(1, 9, 1), "`{`"),
        ("a: [1, 2\nb: 3", "AR004", Span(2, 2, 1), "`[`"),
        ("a: 'x\n", "AR004", Span(1, 6, 1), "quotation mark"),
        ("a: b: c", "AR004", Span(1, 5, 1), "key: value"),
        ("a: 1\nb:2\nc: 3", "AR004", Span(2, 1, 1), "blank after the colon"),
        ("a:\n  b: 1\n c: 2", "AR004", Span(3, 2, 1), "same column"),
        ("é: 'ü' + b", "AR004", Span(1, 8, 1), "closing quotation mark"),
        ("a: }", "AR004", Span(1, 4, 1), "partner"),
        ('a: "\\q"', "AR004", Span(1, 5, 1), "backslash"),
        ("a: *", "AR004", Span(1, 5, 1), "`*`"),
    ],
)
def test_refusals(text: str, code: str, span: Span | None, help_has: str) -> None:
    found = failures(text)[0]
    assert (found.code, found.span) == (code, span)
    assert help_has in (found.help or "")


def test_a_duplicate_key_shows_both_places() -> None:
    found = failure("a: 1\nb:\n  a: 2\na: 3")
    assert found.span == Span(4, 1, 1)
    assert found.extra == ((Span(1, 1, 1), "first here"),)


def test_a_cut_call_is_shown_whole() -> None:
    found = failure("a: {b: f(1, 2, 3), c: 4}")
    assert found.message == "`f(1, 2, 3)` is cut at its comma"
    assert found.extra[0][0] == Span(1, 16, 2)


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: x(time - 1)(row - 1), c: tanh(y)}",
        "a: [f(1), g(2)]",
        "layer(x, y=1):\n  out: x",
        "a: {b: , c: 1}",
        "a: {b, c: 1}",
        "a: {'f(': 1, 'g)': 2}",
    ],
)
def test_no_false_alarm(text: str) -> None:
    load(text)


def test_all_errors_come_at_once() -> None:
    found = failures("a: !x 1\na: 2\n3: 4\nb: {c: &d 1}")
    assert [d.code for d in found] == ["AR009", "AR007", "AR008", "AR010"]


def test_bytes() -> None:
    assert decode("a: ü".encode()) == "a: ü"
    with pytest.raises(SpecError) as found:
        decode(b"a: 1\r\n\xc3\xbc: \xff", "f.yaml")
    (diagnostic,) = found.value.diagnostics
    assert (diagnostic.code, diagnostic.span) == ("AR001", Span(2, 4, 1))
    assert "f.yaml:2:4" in str(found.value)
    with pytest.raises(SpecError, match="AR002"):
        decode(b"a" * 10_000_000)


# Hostile texts

HOSTILE = {
    "10 MB": "a" * 10_000_000,
    "characters of several bytes": "ü" * 600_000,
    "flow lists": "[" * 100_000,
    "flow mappings": "{a: " * 100_000,
    "block lists": "- " * 100_000,
    "explicit keys": "? " * 100_000,
    "indentation": "".join(" " * i + "a:\n" for i in range(1200)),
    "many values": "[" + "1," * 400_000 + "]",
    "many lists": "[" + "[]," * 300_000 + "]",
    "many keys": "".join(f"k{i}: {i}\n" for i in range(70_000)),
    "same key": "k: 1\n" * 100_000,
    "control characters": "\x00\n" * 400_000,
    "tag directives": "".join(f"%TAG !a{i}! b\n" for i in range(40_000)),
    "anchors": "[" + "&a 1," * 100_000 + "]",
    "long integer": "a: " + "9" * 900_000,
    "long float": "a: " + "9" * 400_000 + "." + "9" * 400_000 + "e" + "9" * 9_000,
    "cut calls": "{" + ",".join("f(a, b)" for _ in range(90_000)) + "}",
    "open parentheses": "[" + "f(," * 130_000 + "]",
    "colons": ": " * 400_000,
    "quotation marks": '"' * 900_000,
    "documents": "---\n" * 200_000,
    "laughs": "a: &a [x]\n" + "".join(f"b{i}: [*a, *a, *a]\n" for i in range(9000)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused_soon(text: str) -> None:
    gc.freeze()  # what other tests have left is not searched for garbage meanwhile
    try:
        start = time.process_time()
        with pytest.raises(SpecError) as found:
            load(text)
        assert str(found.value)
        assert time.process_time() - start < 1
    finally:
        gc.unfreeze()


def test_the_bounds_are_as_said() -> None:
    load("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert failure("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2)).code == "AR012"
    load("[" + "1," * (MAX_VALUES - 1) + "]")
    assert failure("[" + "1," * MAX_VALUES + "]").code == "AR013"


NESTED = """
import sys, yaml
if sys.argv[1] == "pure":
    del yaml.CSafeLoader
from arspec.source import load
from arspec.diagnostics import SpecError
for text in ("[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000, "[{a: " * 100_000):
    try:
        load(text)
    except SpecError as found:
        print(found.diagnostics[0].code)
"""


@pytest.mark.parametrize("parser", ["fast", "pure"])
def test_deep_nesting_does_not_crash_the_process(parser: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", NESTED, parser], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout.split()) == (0, ["AR012"] * 5), ran.stderr


def test_both_parsers_give_the_same_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = load(TEXT)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    pure = load(TEXT)
    assert pure == fast
    assert [n.span for n in nodes(pure)] == [n.span for n in nodes(fast)]


# Any text

PIECES = ["a", "b: ", "- ", "? ", ": ", "\n", "\n  ", "{", "}", "[", "]", ", ", "'", '"', "#", " "]
PIECES += [
    "&x ",
    "*x",
    "!t ",
    "|\n",
    ">",
    "\t",
    "\r\n",
    "é",
    "1e5",
    "f(",
    ")",
    "...",
    "---\n",
    "\\",
]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@settings(deadline=None)
@given(TEXTS)
def test_any_text_is_a_tree_or_an_error(text: str) -> None:
    try:
        tree = load(text)
    except SpecError as found:
        str(found)
        spans = [d.span for d in found.diagnostics if d.span]
        spans += [span for d in found.diagnostics for span, _ in d.extra]
    else:
        spans = [node.span for node in nodes(tree)]
    lines = lines_of(text)
    for span in spans:
        line = lines[span.line - 1]
        assert span.length >= 1
        assert span.column >= 1
        assert span.column + span.length - 1 <= max(len(line), span.column)
        assert span.column <= len(line) + 1


# From Python

SPEC = {"a": [1, 0.5, None, True, {"b": "x + y"}], "c": {}, "d": ()}


def test_from_plain() -> None:
    tree = from_plain(SPEC)
    assert plain(tree) == {**SPEC, "d": []}
    assert locate(tree, ["a", 4, "b"]) == Scalar("x + y", "x + y")
    assert locate(tree, ["a", 3]) == Scalar(True, "true")
    assert locate(tree, ["a", 1]) == Scalar(0.5, "0.5")


def test_from_plain_agrees_with_the_text() -> None:
    text = "a: {conv: {row: -1..0}, to: 64, rate: 0.5, on: true}\nb: [relu, 3]"
    assert from_plain(plain(load(text))) == load(text)


CYCLE: dict[str, object] = {}
CYCLE["a"] = [CYCLE]
LAUGHS: list[object] = ["x"]
for _ in range(50):
    LAUGHS = [LAUGHS, LAUGHS]


@pytest.mark.parametrize(
    ("value", "code", "place"),
    [
        ({"a": [{1: 2}]}, "AR008", "a -> 0"),
        ({"a": {"": 2}}, "AR008", "a"),
        ({10**9999: 2}, "AR008", ""),
        ({"a": object()}, "AR018", "a"),
        ({"a": b"x"}, "AR018", "a"),
        ({"a": {1, 2}}, "AR018", "a"),
        ({"a": 10**9999}, "AR014", "a"),
        ({"a": float("nan")}, "AR014", "a"),
        ({"a": "\x1b[0m"}, "AR003", "a"),
        ({"\ud800": 1}, "AR003", ""),
        (CYCLE, "AR012", "a -> 0 -> a"),
        (LAUGHS, "AR013", "0 -> 0"),
    ],
)
def test_from_plain_refuses(value: object, code: str, place: str) -> None:
    start = time.process_time()
    with pytest.raises(SpecError) as found:
        from_plain(value)
    (diagnostic,) = found.value.diagnostics
    assert diagnostic.code == code
    assert place in "".join(diagnostic.notes)
    assert time.process_time() - start < 1
