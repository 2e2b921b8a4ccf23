"""Broken specs: each is an error at the user's own place, with a help, never a traceback.

A case is a good spec with one edit. `@` in the edited text marks the place that must be pointed at
(it is removed before the spec is read), so a case shows what the user sees.
"""

from __future__ import annotations

import ast
import io
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from arspec import compiler
from arspec.diagnostics import Span, SpecError

SPECS = {path.stem: path.read_text() for path in Path(__file__).parent.glob("specs/*.yaml")}
SECONDS = 1.0


@dataclass(frozen=True)
class Case:
    """`old` becomes `new` in the spec `base`; `code` begins the code, as a regular expression."""

    base: str
    old: str
    new: str
    code: str
    help: str = ""
    params: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        good = SPECS[self.base]
        assert good.count(self.old) == 1, f"`{self.old}` stands in {self.base} once"
        return good.replace(self.old, self.new)


CASES = {
    # keys, at every level
    "unknown key at the top": Case("rgb", "order:", "@oder:", "AR101", "`order`"),
    "unknown key of a variable": Case("rgb", "channels: 3", "@chanels: 3", "AR101", "`channels`"),
    "unknown setting of an op": Case(
        "rgb", "{conv: 3, mask: A,", "{conv: 3, @maks: A,", "AR101", "`mask`"
    ),
    "unknown setting inside a chain": Case(
        "rgb", "{conv: 3, mask: B}", "{conv: 3, @masc: B}", "AR101", "`mask`"
    ),
    "unknown setting of a head": Case(
        "strings_attention", "tied: stem}", "@tide: stem}", "AR101", "`tied`"
    ),
    "unknown op in defaults": Case(
        "rgb", "blocks:", "defaults: {@liner: {bias: false}}\n\nblocks:", "AR101", "`linear`"
    ),
    "unknown setting in defaults": Case(
        "rgb", "blocks:", "defaults: {linear: {@bais: false}}\n\nblocks:", "AR101", "`bias`"
    ),
    "unknown argument of a block": Case(
        "strings_conv", "{use: layer,", "{use: layer, @dilaton: 2,", "AR1", "`dilation`"
    ),
    "unknown repeated argument": Case(
        "strings_conv",
        "{dilation: doubling(1..2)}",
        "{@dilatoin: doubling(1..2)}",
        "AR1",
        "`dilation`",
    ),
    "two colons after a key": Case("rgb", "head: categorical", "@head:: categorical", "AR101"),
    "duplicate key at the top": Case(
        "rgb", "head: categorical", "head: categorical\n@head: categorical", "AR007"
    ),
    "duplicate line": Case("rgb", "  out:  x + body", "  out:  x + body\n    @out:  x", "AR007"),
    "duplicate setting": Case("rgb", "mask: A, to: 2 * h", "mask: A, @mask: A", "AR007"),
    "missing name": Case("rgb", "name: rgb\n", "", "AR102"),
    "missing generate": Case("rgb", "generate: image\n", "", "AR102"),
    "missing head": Case("rgb", "head: categorical", "", "AR102"),
    "missing network": Case("binary_pixelcnn", "network:", "netwrok:", "AR10[12]", "`network`"),
    "no colon's blank": Case(
        "rgb", "{conv: 3, mask: A,", "{@conv:3, mask: A,", "AR017", "`conv: 3`"
    ),
    "comma in an expression": Case(
        "strings_conv", "doubling(1..2)", "@doubling(1, 2)", "AR0", "doubling(1..512)"
    ),
    # types
    "a number as a line": Case("rgb", "out:  x + body", "out:  @3", "AR1", "params"),
    "a list as params": Case("rgb", "params: {h: 6}", "params: @[6]", "AR103"),
    "a number as variables": Case(
        "strings_window",
        "variables:\n  tokens: {classes: 5, axes: [time]}",
        "variables: @3",
        "AR103",
    ),
    "a text as channels": Case("rgb", "channels: 3", "channels: @[3]", "AR103"),
    "a truth value as width": Case("rgb", "{linear: h}", "{linear: @true}", "AR103"),
    "a fraction as width": Case("rgb", "{linear: h}", "{linear: @2.5}", "AR312"),
    "a width of zero": Case("rgb", "{linear: h}", "{linear: @0}", "AR312"),
    "a negative width": Case("rgb", "{linear: h}", "{linear: @-4}", "AR312"),
    "a negative dilation": Case("strings_conv", "dilation: dilation}", "dilation: @-1}", "AR312"),
    "an unknown mask": Case("rgb", "mask: A", "mask: @C", "AR103"),
    "an unknown norm": Case("strings_attention", "{norm: rms}", "{norm: @rmx}", "AR103", "`rms`"),
    "a text as bias": Case("rgb", "{linear: h}", "{linear: h, bias: @maybe}", "AR103"),
    "an empty chain": Case("rgb", "out:    [relu, {linear: 8}, relu]", "out:    @[]", "AR1"),
    "an empty body": Case(
        "binary_pixelcnn",
        "network:\n  stem: {conv: 3, mask: A, to: 6}\n  one:  {conv: 3, mask: B}\n"
        "  out:  [relu, {linear: 6}, relu]\n",
        "network: {}\n",
        "AR1",
    ),
    "two ops in one line": Case(
        "rgb", "{linear: 8}", "@{linear: 8, conv: 3}", "AR104", "two lines"
    ),
    "no op in a line": Case("rgb", "{linear: 8}", "@{to: 8}", "AR104"),
    "a probability above one": Case("strings_attention", "dropout: 0.1", "dropout: @1.5", "AR312"),
    "heads that do not divide": Case(
        "strings_window", "{attention: 2,", "{attention: @3,", "AR310"
    ),
    "an even centred window": Case("rgb", "{conv: 3, mask: A", "{conv: @4, mask: A", "AR303"),
    "an even window of a condition": Case(
        "conditioned",
        "stem:   {conv: 2, to: width}",
        "wide: {conv: @2, of: mel}\n  stem: {conv: 2, to: width, of: audio, given: wide}",
        "AR303",
    ),
    # names
    "unknown name in an equation": Case(
        "strings_conv", "tanh(filter)", "tanh(@fitler)", "AR105", "`filter`"
    ),
    "unknown function": Case("strings_conv", "tanh(filter)", "@tahn(filter)", "AR406", "`tanh`"),
    "unknown function in a chain": Case(
        "strings_conv", "[relu, {linear: width}", "[@reul, {linear: width}", "AR105", "`relu`"
    ),
    "a function as a line": Case("strings_conv", "out: x + z", "out: @relu", "AR114", "[relu]"),
    "unknown op": Case("rgb", "{linear: 8}", "{@lineer: 8}", "AR104", "`linear`"),
    "unknown head": Case(
        "rgb", "head: categorical", "head: @categoricla", "AR121", "`categorical`"
    ),
    "unknown block": Case("rgb", "{use: residual,", "{use: @residul,", "AR105", "`residual`"),
    "unknown variable in generate": Case(
        "rgb", "generate: image", "generate: @imge", "AR105", "`image`"
    ),
    "unknown parameter in a width": Case("rgb", "to: 2 * h}", "to: 2 * @hh}", "AR105", "`h`"),
    "unknown line in of": Case(
        "binary_gated", "to: 4, of: image}", "to: 4, of: @imag}", "AR105", "`image`"
    ),
    "unknown condition in given": Case(
        "conditioned", "given: [speaker, mel]", "given: [@speeker, mel]", "AR105", "`speaker`"
    ),
    "unknown axis in a shift": Case(
        "strings_window", "tokens(time - 1)", "@tokens(tiem - 1)", "AR", "`time`"
    ),
    "unknown axis of a window": Case(
        "binary_gated", "{row: -2..-1, col: -1..1}", "@{rwo: -2..-1, col: -1..1}", "AR308"
    ),
    "unknown axis in the order": Case(
        "rgb", "order: [row, col, channel]", "order: [@rwo, col, channel]", "AR", "`row`"
    ),
    "unknown line behind a dot": Case(
        "conditioned", "sum(layers.skip)", "sum(@layers.skp)", "AR", "`skip`"
    ),
    "unknown tied line": Case(
        "strings_attention", "tied: stem}", "tied: @stam}", "AR105", "`stem`"
    ),
    "misspelt parameter from outside": Case(
        "strings_attention", "depth: 2", "depth: 2", "AR122", "`depth`", (("dpth", "2"),)
    ),
    "a keyword as a line": Case("rgb", "body: [relu", "@lambda: [relu", "AR106"),
    "an attribute of every module as a line": Case(
        "binary_pixelcnn", "  one:", "  @train:", "AR106"
    ),
    "a function's name as a line": Case("binary_pixelcnn", "  one:", "  @tanh:", "AR106"),
    "a method's name as a line": Case("binary_pixelcnn", "  one:", "  @sample:", "AR106"),
    "start as a line": Case("binary_pixelcnn", "  one:", "  @start:", "AR106"),
    "step as a line": Case("binary_pixelcnn", "  one:", "  @step:", "AR106"),
    "log_prob as a line": Case("binary_pixelcnn", "  one:", "  @log_prob:", "AR106"),
    "head as a line": Case("binary_pixelcnn", "  one:", "  @head:", "AR106"),
    "a private name as a line": Case("binary_pixelcnn", "  one:", "  @_one:", "AR106"),
    "a dunder as a line": Case("binary_pixelcnn", "  one:", "  @__class__:", "AR106"),
    "a name in another script": Case("binary_pixelcnn", "  one:", "  @ünε:", "AR106"),
    "a condition named like a parameter of the calls": Case(
        "binary_gated", "label: {classes: 3}", "@lengths: {classes: 3}", "AR106"
    ),
    "a line that hides a variable": Case("binary_pixelcnn", "  one:", "  @image:", "AR107"),
    "a line that hides a parameter": Case("rgb", "  stem:", "  @h:", "AR107"),
    "a line that hides an axis": Case("binary_pixelcnn", "  one:", "  @row:", "AR107"),
    "a block's parameter that hides a variable": Case(
        "rgb", "residual(x):", "@residual(image):", "AR107"
    ),
    "a variable that hides a parameter": Case("rgb", "image: {levels", "@h: {levels", "AR107"),
    "a comma key with a name twice": Case(
        "strings_conv", "filter, gate:", "@filter, filter:", "AR107"
    ),
    "a signature that is none": Case("rgb", "residual(x):", "@residual(x:", "AR109"),
    "a signature with a parameter twice": Case("rgb", "residual(x):", "@residual(x, x):", "AR109"),
    "a name that is no name": Case("rgb", "name: rgb", 'name: @"rgb): pass #"', "AR106"),
    "a name that is a keyword": Case("rgb", "name: rgb", "name: @class", "AR106"),
    "a name that is a path": Case("rgb", "name: rgb", "name: @../../rgb", "AR106"),
    # wiring
    "a line nobody reads": Case(
        "binary_pixelcnn",
        "  out:",
        "  @idle: {linear: 6, of: one}\n  out2: {linear: 6, of: one}\n  out:",
        "AR1",
    ),
    "a block nobody uses": Case("rgb", "network:", "  @idle(x):\n    out: x\n\nnetwork:", "AR"),
    "a parameter nobody uses": Case("rgb", "params: {h: 6}", "params: {h: 6, @idle: 3}", "AR"),
    "a condition nobody uses": Case(
        "binary_pixelcnn", "generate:", "  @label: {classes: 3}\n\ngenerate:", "AR"
    ),
    "a block that uses itself": Case(
        "rgb", "out:  x + body", "out:  {use: @residual, of: x + body}", "AR"
    ),
    "blocks that use each other": Case(
        "rgb",
        "    out:  x + body",
        "    out:  {use: other, of: x + body}\n\n  other(x):\n    out:  {use: @residual}",
        "AR",
    ),
    "no default input after a comma line": Case(
        "strings_conv", "z:   tanh(filter) * sigmoid(gate)", "@z:   {linear: 3}", "AR"
    ),
    "of inside a chain": Case(
        "strings_conv",
        "[relu, {linear: width}, relu]",
        "[relu, {linear: width, of: @stem}, relu]",
        "AR114",
    ),
    "a missing argument": Case(
        "conditioned",
        "{use: layer, repeat: {dilation: doubling(1..4), times: 2}}",
        "{use: @layer, repeat: 2}",
        "AR",
    ),
    "a repeat of a million": Case("rgb", "repeat: 2}", "repeat: @1000000}", "AR"),
    "repeats of repeats": Case("rgb", "repeat: 2}", "repeat: @999 ** 9}", "AR"),
    "a repeat of zero": Case("rgb", "repeat: 2}", "repeat: @0}", "AR"),
    "widths that do not meet": Case(
        "binary_pixelcnn",
        "out:  [relu, {linear: 6}, relu]",
        "wide: {linear: 7}\n  out:  @one + wide",
        "AR301",
    ),
    "clocks that do not meet": Case(
        "conditioned",
        "stem:   {conv: 2, to: width}",
        "near:   {linear: 3, of: audio}\n  slow:   {linear: 3, of: mel}\n  both:   @near + slow\n"
        "  stem:   {conv: 2, to: width}",
        "AR30",
    ),
    "symbols in an equation of embeddings": Case(
        "strings_window", "{embed: 8, of: tokens(time - 1)}", "{embed: 8, of: @near}", "AR"
    ),
    "an embedding of numbers": Case(
        "series_gaussian", "{conv: 3, to: 4, of: humidity}", "{embed: 4, of: @humidity}", "AR307"
    ),
    "a mask that leaves nothing": Case(
        "binary_gated", "{row: 1, col: 3}, mask: A", "{row: 1, col: 1}, mask: @A", "AR304"
    ),
    "a condition on the clock of the target without known": Case(
        "conditioned", "axes: [time / 4], known: all}", "axes: [time / 4]}", "AR", "known"
    ),
    "an unknown knowledge": Case("conditioned", "known: all", "known: @always", "AR103"),
    "known of the generated variable": Case(
        "binary_pixelcnn", "axes: [row, col]}", "axes: [row, col], @known: all}", "AR"
    ),
    "two kinds of variable": Case(
        "rgb", "image: {levels: 3,", "@image: {levels: 3, classes: 3,", "AR118"
    ),
    "no kind of variable": Case("rgb", "image: {levels: 3,", "@image: {codec: mu_law,", "AR118"),
    "an axis twice": Case("binary_pixelcnn", "axes: [row, col]", "axes: @[row, row]", "AR"),
    "channel without channels": Case(
        "binary_pixelcnn", "generate: image", "generate: image\norder: [row, col, @channel]", "AR"
    ),
    "an order that forgets an axis": Case(
        "rgb", "order: [row, col, channel]", "order: @[row, channel]", "AR"
    ),
    "a head that does not fit the variable": Case(
        "series_gaussian", "head: gaussian", "head: @categorical", "AR"
    ),
    "gaussian symbols": Case("strings_conv", "head: categorical", "head: @gaussian", "AR"),
    "bernoulli of three levels": Case("rgb", "head: categorical", "head: @bernoulli", "AR"),
    # expressions and numbers
    "an expression that explodes": Case("rgb", "{linear: h}", "{linear: @9**9**9}", "AR4"),
    "a product that explodes": Case(
        "rgb", "{linear: h}", "{linear: @" + "*".join(["999999999"] * 200) + "}", "AR4"
    ),
    "an expression of many signs": Case(
        "strings_conv", "out: x + z", "out: " + "-" * 5000 + "x", "AR4"
    ),
    "parentheses without end": Case(
        "strings_conv", "out: x + z", "out: " + "(" * 5000 + "x" + ")" * 5000, "AR4"
    ),
    "a parenthesis not closed": Case("strings_conv", "out: x + z", "out: (x + z", "AR405"),
    "an index": Case(
        "strings_window", "tokens(time - 1)", '"tokens@[time - 1]"', "AR4", "(time - 1)"
    ),
    "an index in flow style": Case("strings_window", "tokens(time - 1)", "tokens[time - 1]", "AR0"),
    "a power by a hat": Case("strings_conv", "out: x + z", "out: x @^ z", "AR403"),
    "division by zero": Case("rgb", "to: 2 * h}", "to: 2 / (h - 6)}", "AR41"),
    "a schedule that explodes": Case(
        "strings_conv", "doubling(1..2)", "doubling(1..@2 ** 200)", "AR4"
    ),
    "a range that explodes": Case(
        "binary_gated",
        "{row: -2..-1, col: -1..1}",
        "{row: -2..-1, col: @-1000000000..1000000000}",
        "AR",
    ),
    "a window that is backwards": Case(
        "binary_gated", "{row: -2..-1, col: -1..1}", "{row: @-1..-2, col: -1..1}", "AR"
    ),
    "a number of many digits": Case("rgb", "{linear: h}", "{linear: @" + "9" * 5000 + "}", "AR014"),
    "not a number": Case("rgb", "params: {h: 6}", "params: {h: @.nan}", "AR"),
    "a parameter that needs itself": Case("rgb", "params: {h: 6}", "params: {h: @h + 1}", "AR"),
    "parameters that need each other": Case(
        "rgb", "params: {h: 6}", "params: {h: @k + 1, k: h + 1}", "AR"
    ),
    "code as a parameter": Case("rgb", "params: {h: 6}", "params: {h: __import__(@'os')}", "AR"),
    "a parameter from outside that is code": Case(
        "rgb", "params: {h: 6}", "params: {h: 6}", "AR", "", (("h", "__import__('os').getpid()"),)
    ),
    # hostile YAML
    "a tag": Case("rgb", "name: rgb", "name: @!!python/object/apply:os.getcwd []", "AR009"),
    "an anchor": Case("rgb", "{linear: h}", "@&a {linear: h}", "AR010"),
    "a merge key": Case("rgb", "channels: 3}", "channels: 3, @<<: 3}", "AR01"),
    "two documents": Case("rgb", "head: categorical", "head: categorical\n---\nname: two", "AR006"),
    "a tab": Case("rgb", "  stem:", "\tstem:", "AR00"),
    "a bracket not closed": Case(
        "rgb", "order: [row, col, channel]", "order: [row, col, channel", "AR00"
    ),
    "a control character": Case("rgb", "name: rgb", "name: rgb\x07", "AR003"),
    "deep nesting": Case("rgb", "{linear: h}", "[" * 100_000 + "]" * 100_000, "AR01"),
    "a million values": Case(
        "rgb", "params: {h: 6}", "params: {h: [" + "1, " * 10**6 + "]}", "AR0"
    ),
    "ten megabytes": Case("rgb", "name: rgb", "name: rgb # " + "x" * 10_000_000, "AR002"),
}


def analysed(text: str) -> compiler.Analysis:
    return compiler.analyse("-", {}, io.StringIO(text))


@pytest.mark.parametrize("name", CASES)
def test_broken(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    marked = case.text()
    text = marked.replace("@", "")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    began = time.perf_counter()
    with pytest.raises(SpecError) as refusal:
        compiler.analyse(path, dict(case.params))
    assert time.perf_counter() - began < SECONDS
    found = refusal.value.diagnostics
    assert found
    assert all(re.fullmatch(r"AR\d{3}", diagnostic.code) for diagnostic in found)
    first = found[0]
    assert re.match(case.code, first.code), f"{first.code}: {first.message}"
    if "@" in marked:
        assert first.span is not None
        assert (first.span.line, first.span.column) == place(marked)
    assert case.help in (first.help or ""), first.help
    assert inside(first.span, text)
    assert "mine.yaml" in str(refusal.value) or first.span is None


def place(marked: str) -> tuple[int, int]:
    before = marked[: marked.index("@")]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def inside(span: Span | None, text: str) -> bool:
    """Whether a place is one that the user can go to: at most one past the end of a line."""
    if span is None:
        return True
    lines = text.split("\n")
    return 1 <= span.line <= len(lines) and 1 <= span.column <= len(lines[span.line - 1]) + 1


SEVERAL = {"a variable that hides a parameter", "parameters that need each other"}


@pytest.mark.parametrize("name", sorted(CASES.keys() - SEVERAL))
def test_one_slip_is_one_message(name: str) -> None:
    """What only follows from the first error says nothing new."""
    case = CASES[name]
    with pytest.raises(SpecError) as refusal:
        compiler.analyse("-", dict(case.params), io.StringIO(case.text().replace("@", "")))
    assert [found.message for found in refusal.value.diagnostics[1:]] == []


@pytest.mark.parametrize("name", SPECS)
def test_the_good_ones_are_good(name: str) -> None:
    """Otherwise a case could be refused for something else than its edit."""
    analysis = compiler.analyse(Path(__file__).parent / "specs" / f"{name}.yaml", {})
    assert analysis.proof.causal


def test_independent_errors_come_together() -> None:
    text = SPECS["rgb"].replace("mask: A", "maks: A").replace("channels: 3", "chanels: 3")
    with pytest.raises(SpecError) as refusal:
        analysed(text)
    assert [found.code for found in refusal.value.diagnostics] == ["AR101", "AR101"]
    assert refusal.value.diagnostics[0].span.line < refusal.value.diagnostics[1].span.line


def test_a_paper_cannot_become_code() -> None:
    """Quotes, line breaks, backslashes and formats in `paper` stay text."""
    payload = '"""\\nimport os; os.abort()\\n""" {{ 7 * 7 }} {x} %s \\\\ \\""" #'
    text = SPECS["rgb"].replace(
        "name: rgb", f'name: rgb\npaper: "{payload}"'.replace('"""', '\\"\\"\\"')
    )
    source = compiler.emit(analysed(text))
    tree = ast.parse(source)
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert "os" not in imported
    assert "7 * 7" in (ast.get_docstring(tree) or "")


# --- what nobody thought of ----------------------------------------------------------------------


def mutated(text: str, generator: random.Random) -> str:
    """One random change: of a token, of a line, or of a character."""
    tokens = list(re.finditer(r"\w+|[^\w\s]", text))
    lines = text.split("\n")
    token = generator.choice(tokens)
    other = generator.choice(tokens)
    line = generator.randrange(len(lines))
    change = generator.randrange(8)
    if change == 0:
        return text[: token.start()] + other.group() + text[token.end() :]
    if change == 1:
        return text[: token.start()] + text[token.end() :]
    if change == 2:
        return text[: token.start()] + token.group() + " " + text[token.start() :]
    if change == 3:
        wild = generator.choice(
            ["0", "-1", "1e9", "null", "[]", "{}", "''", "x(", "..", "**", "10**9"]
        )
        return text[: token.start()] + wild + text[token.end() :]
    if change == 4:
        return "\n".join(lines[:line] + lines[line + 1 :])
    if change == 5:
        return "\n".join([*lines[:line], lines[line], *lines[line:]])
    if change == 6:
        other_line = generator.randrange(len(lines))
        lines[line], lines[other_line] = lines[other_line], lines[line]
        return "\n".join(lines)
    at = generator.randrange(len(text))
    return text[:at] + generator.choice("\t:-{}[],#&*!|>'\"%@`()é\u2028") + text[at:]


def check_mutations(count: int, seed: int) -> None:
    generator = random.Random(seed)
    refused = 0
    for _ in range(count):
        name = generator.choice(sorted(SPECS))
        text = mutated(SPECS[name], generator)
        began = time.perf_counter()
        try:
            analysis = analysed(text)
            if analysis.proof.causal:
                emitted(analysis)
        except SpecError as refusal:
            refused += 1
            check_refusal(refusal, text)
        except Exception as bug:
            pytest.fail(f"{type(bug).__name__}: {bug}\n{text}")
        assert time.perf_counter() - began < SECONDS, text
    assert refused > count / 3


def check_refusal(refusal: SpecError, text: str) -> None:
    assert refusal.diagnostics
    assert str(refusal)
    for found in refusal.diagnostics:
        assert inside(found.span, text), (found, text)


def emitted(analysis: compiler.Analysis) -> None:
    """What is accepted must compile, as far as it has code."""
    compile(compiler.emit(analysis), "emitted.py", "exec")


def test_mutations() -> None:
    check_mutations(400, seed=1)


@pytest.mark.fuzz
def test_many_mutations() -> None:
    check_mutations(20_000, seed=2)
