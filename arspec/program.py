"""The expanded spec as the emitter needs it: blocks as they are used, lines with their code.

Code is Python text. ``{x_width}`` in it stands for a width that depends on who uses the block;
``widths`` of each use gives the user's own text for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from arspec.diagnostics import Span
from arspec.marks import relative
from arspec.values import Grid


@dataclass(frozen=True)
class Missing:
    """Something that the compiler proves but has no code for yet."""

    what: str
    span: Span
    help: str | None = None


@dataclass(frozen=True)
class Module:
    """One attribute of the class: ``self.attribute = construct``."""

    attribute: str
    construct: str


@dataclass(frozen=True)
class Call:
    """One use of a block: what its constructor and its forward are given, in the user's terms."""

    instance: Instance
    numbers: dict[str, str]
    widths: dict[str, str]
    inputs: dict[str, str]
    values: dict[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class UseLine:
    """The calls of a `use` line: one, or one per repetition with the outputs carried on."""

    attribute: str
    calls: tuple[Call, ...]
    repeat: str | None  # the text of the number of repetitions
    schedules: dict[str, str]  # numbers that change with the repetition: the text of their list
    zipped: dict[str, str]  # inputs that change with the repetition: the text of their list
    carried: tuple[str, ...]  # local names of the outputs, in the block's order

    def relative(self, path: str) -> UseLine:
        """With nodes named from below `path`."""

        def named(inputs: dict[str, str]) -> dict[str, str]:
            return {name: relative(code, path) for name, code in inputs.items()}

        calls = tuple(replace(call, inputs=named(call.inputs)) for call in self.calls)
        return replace(self, calls=calls, zipped=named(self.zipped))


@dataclass(frozen=True)
class Loop:
    """What one position of a recursion by equation computes.

    `statements`: ``target = code`` in an order in which each has what it needs of that position;
    `inputs`: the names that they read position by position; `earlier`: how they call what gives
    values of positions before, `depth` of them; `taken`: names that are not free.
    """

    statements: tuple[str, ...]
    inputs: tuple[str, ...]
    earlier: str
    depth: int
    attribute: str
    widths: str
    taken: frozenset[str]


@dataclass(frozen=True)
class ProgramLine:
    """One line of a body: modules for the constructor and one statement for forward."""

    name: str
    span: Span
    targets: tuple[str, ...]
    code: str
    modules: tuple[Module, ...] = ()
    grid: Grid = ()
    width: str = ""
    batched: bool = True
    use: UseLine | None = None
    before: tuple[str, ...] = ()  # statements that lead up to it (a chain with several inputs)
    mask: str = ""
    why: str = ""  # the reason of a shift, for a comment
    parameters: int = 0
    node: int = -1
    nodes: tuple[str, ...] = ()  # of a chain, or of those of its items that have the same clock
    adds_up: bool = False  # as `Facts.adds_up`
    cycle: tuple[str, ...] = ()  # the lines that need each other's earlier values, if it is those
    loop: Loop | None = None  # what they compute
    pair: tuple[str, ...] = ()  # the code of each target, where a line has several equations

    def relative(self, path: str) -> ProgramLine:
        """With the marks in its code naming nodes from below `path`."""
        before = tuple(relative(code, path) for code in self.before)
        pair = tuple(relative(code, path) for code in self.pair)
        use = None if self.use is None else self.use.relative(path)
        return replace(self, code=relative(self.code, path), before=before, pair=pair, use=use)


@dataclass
class Instance:
    """A body expanded for certain sizes; repetitions with equal sizes share one."""

    block: str
    numbers: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    lines: list[ProgramLine] = field(default_factory=list)
    outputs: tuple[str, ...] = ()
    missing: list[Missing] = field(default_factory=list)
    floats: frozenset[str] = frozenset()  # the numbers that are not whole
    path: str = ""  # of its lines where it was expanded first

    @property
    def parameters(self) -> int:
        return sum(line_parameters(line) for line in self.lines)

    @property
    def masks(self) -> tuple[str, ...]:
        """The masks of all its lines, those of the blocks that it uses included."""
        masks: list[str] = []
        for line in self.lines:
            if line.use is not None:
                masks += [m for call in line.use.calls for m in call.instance.masks]
            else:
                masks.append(line.mask)
        return tuple(masks)


def line_parameters(line: ProgramLine) -> int:
    if line.use is not None:
        return sum(call.instance.parameters for call in line.use.calls)
    return line.parameters


@dataclass(frozen=True)
class HeadLine:
    """How the distribution's parameters come from the last line."""

    modules: tuple[Module, ...]
    code: str
    distribution: str
    size: str
    per_channel: bool
    truncated: bool
    parameters: int
    missing: Missing | None
