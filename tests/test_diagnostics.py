"""The report: its exact form, alignment, and that nothing of the user's reaches a terminal raw."""

import re
import string
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arspec.diagnostics import (
    MESSAGES,
    SECTIONS,
    SHOWN,
    Diagnostic,
    Span,
    SpecError,
    error,
    errors_page,
    nearest_name,
    note,
    printable,
    render,
    shorten,
)


def found(
    span: Span | None = None, label: str = "", extra=(), notes=(), help_=None, message="wrong"
) -> Diagnostic:
    return Diagnostic("AR201", "error", message, span, label, tuple(extra), tuple(notes), help_)


WAVENET = "\n" * 13 + "  mix: {conv: {time: -1..1}, to: 64}\n"


def test_the_frame() -> None:
    leak = found(
        Span(14, 15, 13),
        "reads t-1 .. t+1",
        notes=["path: audio -> stem -> mix -> logits"],
        help_="`conv: 3` reads t-2 .. t",
        message="`logits` at t depends on `audio` at t+1",
    )
    assert render([leak], "wavenet.yaml", WAVENET) == (
        "error[AR201]: `logits` at t depends on `audio` at t+1\n"
        "  --> wavenet.yaml:14:15\n"
        "   |\n"
        "14 |   mix: {conv: {time: -1..1}, to: 64}\n"
        "   |               ^^^^^^^^^^^^^ reads t-1 .. t+1\n"
        "   |\n"
        "   = path: audio -> stem -> mix -> logits\n"
        "   = help: `conv: 3` reads t-2 .. t"
    )


def frame(diagnostic: Diagnostic, text: str) -> list[str]:
    """The lines of the report from the first source line on."""
    return render([diagnostic], "f", text).split("\n")[3:]


def test_several_spans_in_the_order_of_the_text() -> None:
    text = "\n".join(f"line{n}" for n in range(1, 12))
    many = found(
        Span(8, 1, 4),
        "here",
        extra=[(Span(2, 1, 4), "one"), (Span(4, 5, 1), "two"), (Span(8, 5, 1), "three")],
    )
    assert frame(many, text) == [
        "2 | line2",
        "  | ---- one",
        "3 | line3",
        "4 | line4",
        "  |     - two",
        "...",
        "8 | line8",
        "  | ^^^^ here",
        "  |     - three",
    ]


def test_neighbouring_lines_need_no_dots() -> None:
    assert frame(found(Span(2), extra=[(Span(1), "")]), "a\nb") == [
        "1 | a",
        "  | -",
        "2 | b",
        "  | ^",
    ]


@pytest.mark.parametrize(
    ("line", "span", "shown", "marked"),
    [
        ("\tab: x", Span(1, 6, 1), "    ab: x", "        ^"),
        ("a\tb", Span(1, 2, 1), "a    b", " ^^^^"),
        ("日本: x", Span(1, 5, 1), "日本: x", "      ^"),
        ("日本: x", Span(1, 1, 2), "日本: x", "^^^^"),
        ("e\u0301: x", Span(1, 5, 1), "e\u0301: x", "   ^"),
        ("a\x1b[31mb", Span(1, 7, 1), "a\\x1b[31mb", "         ^"),
        ("a\u202eb", Span(1, 3, 1), "a\\u202eb", "       ^"),
        ("abc", Span(1, 4, 1), "abc", "   ^"),
        ("abc", Span(1, 99, 5), "abc", "   ^"),
        ("abc", Span(1, 2, 99), "abc", " ^^"),
        ("\n", Span(1, 1, 1), "", "^"),
        ("\ufeffab", Span(1, 1, 1), "ab", "^"),
    ],
)
def test_marks_stand_under_what_they_mark(line: str, span: Span, shown: str, marked: str) -> None:
    assert frame(found(span), line) == [f"1 | {shown}".rstrip(), f"  | {marked}"]


def test_a_long_line_is_cut_around_the_mark() -> None:
    text = "a: [" + "0, " * 3000 + "WRONG" + ", 0" * 3000 + "]"
    shown, marked = frame(found(Span(1, text.index("WRONG") + 1, 5)), text)
    assert len(shown) <= 110
    assert shown.startswith("1 | ...")
    assert shown.endswith("...")
    assert marked.index("^") == shown.index("WRONG")
    assert marked.count("^") == 5


def test_lines_end_as_in_yaml() -> None:
    assert frame(found(Span(2)), "a\r\nb\rc\x0bd\n") == ["2 | b", "  | ^"]
    assert frame(found(Span(3)), "a\r\nb\rc\x0bd\n") == ["3 | c\\x0bd", "  | ^"]


def test_without_a_place_there_is_no_frame() -> None:
    assert render([found(notes=["at: a"])], "f", "a") == "error[AR201]: wrong\n  = at: a"
    assert render([found(Span(1, 1, 1))], "f", "") == "error[AR201]: wrong"
    assert render([found(Span(9, 1, 1))], "f", "a") == "error[AR201]: wrong\n --> f:9:1"


def test_many_are_not_all_shown() -> None:
    report = render([found()] * (SHOWN + 3), "f", "")
    assert report.count("error[") == SHOWN
    assert report.endswith("... and 3 more")


def test_colour_only_when_asked() -> None:
    leak = found(Span(14, 15, 13), "x", extra=[(Span(1), "y")], notes=["z: z"], help_="h")
    plain = render([leak], "f", WAVENET)
    coloured = render([leak], "f", WAVENET, color=True)
    assert "\033" not in plain
    assert coloured != plain
    assert re.sub(r"\033\[[0-9;]*m", "", coloured) == plain


@settings(deadline=None)
@given(st.text(), st.text(max_size=30), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))
def test_nothing_steers_the_terminal(
    text: str, words: str, line: int, column: int, length: int
) -> None:
    span = Span(line, column, length)
    bad = found(span, words, [(Span(1, length, column), words)], [words], words, words)
    report = render([bad], words, text)
    for character in report.replace("\n", ""):
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
    report.encode("utf-8")


def test_printable() -> None:
    assert printable("a\tü\x1b[0m\n") == "a    ü\\x1b[0m\\n"


def test_error_and_note_take_their_text_from_the_registry() -> None:
    made = error("AR007", Span(2, 3, 4), label="here", key="{x}", help="rename", notes=["n"])
    assert made == Diagnostic(
        "AR007", "error", "key `{x}` is written twice", Span(2, 3, 4), "here", (), ("n",), "rename"
    )
    assert note("AR005", None).severity == "note"
    assert render([note("AR005", None)], "f", "") == "note[AR005]: the spec is empty"
    with pytest.raises(KeyError):
        error("AR000", None)


def test_long_fields_are_shortened() -> None:
    assert len(error("AR007", None, key="x" * 10**6).message) < 120
    assert shorten("x" * 80) == "x" * 80
    assert len(shorten("x" * 81)) == 80


def test_spec_error_prints_its_report() -> None:
    leak = found(Span(1))
    assert str(SpecError([leak], "f", "a")) == render([leak], "f", "a")
    assert SpecError(iter([leak])).diagnostics == (leak,)


@pytest.mark.parametrize(
    ("name", "known", "nearest"),
    [
        ("dilaton", ["dilation", "direction"], "dilation"),
        ("ocnv", ["conv", "deconv"], "conv"),
        ("widht", ["width", "right"], "width"),
        ("ReLU", ["relu", "elu"], "relu"),
        ("tanhh", ["tanh"], "tanh"),
        ("ca", ["ab", "cb", "c"], "c"),
        ("x", ["y"], None),
        ("X", ["x"], "x"),
        ("logits", ["digits", "audio"], "digits"),
        ("speaker", ["audio"], None),
        ("a", [], None),
        ("", ["a"], None),
        ("abcx", ["abcz", "abcy"], "abcy"),
    ],
)
def test_nearest_name(name: str, known: list[str], nearest: str | None) -> None:
    assert nearest_name(name, known) == nearest
    assert nearest_name(name, reversed(known)) == nearest


# The registry


@pytest.mark.parametrize("code", MESSAGES)
def test_messages_follow_the_house_style(code: str) -> None:
    message = MESSAGES[code]
    assert re.fullmatch(r"AR[0-9]{3}", code)
    assert code[:3] in SECTIONS
    fields = {name for _, name, _, _ in string.Formatter().parse(message.text) if name is not None}
    assert not any(field == "" or field.isdigit() for field in fields)
    filled = message.text.format(**dict.fromkeys(fields, "x"))
    start = re.sub(r"`[^`]*`", "", filled).strip()
    assert filled[0] == "`" or start[0].islower() or start.split()[0].isupper()
    assert not filled.endswith(".")
    assert filled.count("`") % 2 == 0
    assert message.cause.endswith(".")
    assert message.cure.endswith(".")


def test_the_page_has_every_code() -> None:
    page = errors_page()
    assert re.findall(r"^### (AR\d+): ", page, re.MULTILINE) == sorted(MESSAGES)
    assert "{{" not in page  # only `text` is a format string
    for message in MESSAGES.values():
        assert message.cure in page
        assert message.example in page
