"""Marks in the text of an expression: where a sampler has something to say.

Ops put them into their `call`; `stepping.py` reads them, and nothing of them reaches the file.

- ``KEEPS``: an argument for what the layer keeps, after the input that it reads;
- ``first(axis)``: an argument for where the positions of a call start on an axis of the variable;
- ``hoisted(...)``: an expression that is a node of its own, which a coarser loop may compute;
- ``standing(...)``: an expression that a step evaluates at another place than the rest of the line.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PASSED = "\x07"
"""Stands in a call for what it is told to keep, if a step makes it."""

ITEM = "\x00"
"""Stands in an item of a chain for what the item before it made."""

KEEPS = "\x02\x02"
SHIFT = "\x03shift\x03"
GIVEN = "\x0egiven\x0e"
"""Stands in a call for a last argument: the projections of what is given, if any are."""

KEPT = re.compile("\x02[^\x02]*\x02")
FIRST = re.compile("\x04([^\x04]*)\x04")
STANDING = re.compile("\x10(-?\\d+)\\|([^\x10]*)\x10")
_HEADER = re.compile("\x05([^|\x05]*)\\|([^\x05]*)\x05")
_REST = re.compile("\x05[^\x05]*\x05|\x06|\x07")


def named(code: str, node: str) -> str:
    """Says whose input a `KEEPS` follows."""
    return code.replace(KEEPS, f"\x02{node}\x02")


def first(axis: str) -> str:
    """An argument for where positions start."""
    return f"\x04{axis}\x04"


def hoisted(code: str, node: str, name: str) -> str:
    """An expression that is node `node`; alone it would be called `name`."""
    return f"\x05{node}|{name}\x05{code}\x06"


def standing(code: str, place: int) -> str:
    """An expression at a place on the only axis, relative to the position that is drawn."""
    return f"\x10{place}|{code}\x10"


class Part(NamedTuple):
    """An expression inside another that is a node of its own, and where it stands there."""

    node: str
    name: str
    code: str
    start: int
    end: int


def outermost(code: str) -> Part | None:
    """The first expression that is a node of its own, with those inside it."""
    header = _HEADER.search(code)
    if header is None:
        return None
    depth, at = 1, header.end()
    while depth:
        inner = _HEADER.match(code, at)
        depth += 1 if inner else -(code[at] == "\x06")
        at = inner.end() if inner else at + 1
    return Part(header[1], header[2], code[header.end() : at - 1], header.start(), at)


def whole(code: str) -> Part | None:
    """The node that an expression is, all of it."""
    part = outermost(code)
    return part if part and (part.start, part.end) == (0, len(code)) else None


def parts(code: str) -> list[str]:
    """The nodes that are expressions of their own inside a line."""
    return re.findall("\x05([^|\x05]*)\\|", code)


def relative(code: str, path: str) -> str:
    """Nodes named from below `path`."""
    return code.replace(f"\x02{path}", "\x02").replace(f"\x05{path}", "\x05")


def plain(code: str) -> str:
    """The text without marks."""
    code = STANDING.sub(lambda m: m[2], code)
    return _REST.sub("", FIRST.sub("", KEPT.sub("", code)))


class Mark(NamedTuple):
    """A layer that keeps something: its node, its module's path, how many marks its node has.

    `reads`: the text of the input that it keeps.
    """

    node: str
    module: str
    among: int
    reads: str


_CALLED = re.compile(r"self\.(\w+)(?:\[\"?(\w+)\"?\])?$")


def argument(code: str, end: int) -> tuple[int, int]:
    """Where the first argument stands of the call whose last one ends there."""
    depth, at, first = 1, end, end
    while depth:
        at -= 1
        depth += {")": 1, "]": 1, "(": -1, "[": -1}.get(code[at], 0)
        if depth == 1 and code[at] == ",":
            first = at
    return at + 1, first


def module_of(called: str) -> str:
    """The path of the layer that a text ends with."""
    found = _CALLED.search(plain(called))
    assert found is not None, called
    return found[1] + (f".{found[2]}" if found[2] else "")


def marked(code: str) -> list[Mark]:
    """The layers that keep something in a text."""
    found = []
    for match in KEPT.finditer(code):
        start, end = argument(code, match.start())
        module = module_of(code[: start - 1])
        found.append((match[0].strip("\x02"), module, plain(code[start:end])))
    nodes = [node for node, _, _ in found]
    return [Mark(node, module, nodes.count(node), reads) for node, module, reads in found]
