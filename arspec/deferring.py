"""Sums of projections over the repetitions of a block, taken out of the loop.

In `skips: sum(layers.skip)` with `skip: {linear: n, of: z}` nothing needs the single terms. The
loop then hands over z, and one call sums the projections: term by term in `forward`, and in a step
as one matrix product, where thirty small ones would cost more to start than to do. The parameters
stay where the spec has them, `layers.3.skip.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from arspec.classes import BlockClass
from arspec.marks import PASSED
from arspec.names import local
from arspec.program import ProgramLine


def defer_sums(classes: Sequence[BlockClass]) -> None:
    """Mark, in every class, what is left out of a block and what its user calls instead."""
    for one in classes:
        for line in one.first.lines:
            match = re.fullmatch(r"sum\((\w+)\)", line.code)
            if match and not line.before:
                _defer(classes, one, line, match[1])


def _defer(classes: Sequence[BlockClass], one: BlockClass, line: ProgramLine, listed: str) -> None:
    for used in one.first.lines:
        use = used.use
        if use is None or use.repeat is None or use.zipped:
            continue
        child = one.children[use.attribute]
        names = [name for name in child.exports if local(f"{use.attribute}_{name}") == listed]
        if not names:
            continue
        (name,) = names
        projection = next((x for x in child.first.lines if x.targets == (name,)), None)
        source = projection and re.fullmatch(rf"self\.{projection.name}\((\w+)\)", projection.code)
        if projection is None or not source or not projection.adds_up:
            continue
        if not _only_summed(classes, one, child, line, name):
            continue
        child.deferred.add(projection.name)
        kept = [e for e in child.exports if e != name]
        child.exports = tuple(dict.fromkeys([*kept, source[1]]))
        inputs = local(f"{use.attribute}_{source[1]}")
        linears = f"[layer.{projection.name} for layer in self.{use.attribute}]"
        one.rewritten[line.name] = f"summed({linears}, {inputs}{PASSED})"
        return


def _only_summed(
    classes: Sequence[BlockClass],
    one: BlockClass,
    child: BlockClass,
    line: ProgramLine,
    name: str,
) -> bool:
    """Whether nothing but that line reads a value of the block, and only this class uses it."""
    word = re.compile(rf"\b\w*{name}\b")
    inside = [code for x in child.first.lines for code in (x.code, *x.before)]
    inside += [code for x in child.first.lines if x.use for code in x.use.calls[0].inputs.values()]
    users = [user for user in classes if child in user.children.values()]
    if users != [one] or name in child.first.outputs:
        return False
    if any(re.search(rf"(?<![\w.]){name}\b", code) for code in inside):
        return False
    outside = [code for x in one.first.lines if x is not line for code in (x.code, *x.before)]
    outside += [
        code
        for x in one.first.lines
        if x.use
        for code in (*x.use.calls[0].inputs.values(), *x.use.zipped.values())
    ]
    return not any(word.search(code) for code in outside) and name not in one.exports
