"""Program -> the classes of the emitted file: uses of a block that have the same code are one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from arspec.names import class_name, local
from arspec.program import Call, Instance, ProgramLine

_HOLE = re.compile(r"\{(\w+)\}")
_LOCAL = re.compile(r"\b[a-z]\w*")


@dataclass(eq=False)
class BlockClass:
    """One class of the emitted file. `holes` maps each width that its uses decide to its text:
    that of its uses where they agree, else the name of a constructor argument."""

    block: str
    instances: list[Instance]
    children: dict[str, BlockClass]
    name: str = ""
    exports: tuple[str, ...] = ()
    holes: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    free: list[str] = field(default_factory=list)
    deferred: set[str] = field(default_factory=set)  # lines that their users evaluate
    rewritten: dict[str, str] = field(default_factory=dict)  # the code of lines that do so
    replaced: dict[str, ProgramLine] = field(default_factory=dict)  # lines in a sampler's form

    def code(self, line: ProgramLine) -> str:
        """The code of a line of this class."""
        return self.rewritten.get(line.name, line.code)

    @property
    def first(self) -> Instance:
        return self.instances[0]

    @property
    def lines(self) -> list[ProgramLine]:
        """The lines as they are emitted."""
        return [self.replaced.get(line.name, line) for line in self.first.lines]

    def fill(self, text: str) -> str:
        """`text` with every ``{x_width}`` replaced, and doubled braces single again."""
        filled = _HOLE.sub(lambda m: self.holes.get(m[1], m[0]), text)
        return filled.replace("{{", "{").replace("}}", "}")


def classes_of(
    root: Instance,
    exports: dict[str, set[str]],
    taken: set[str],
    variables: list[str],
    kinds: Mapping[int, object] | None = None,
) -> list[BlockClass]:
    """The classes, each after those that it uses; the last one is the model's own body.

    `kinds`: by the id of an instance what it has to agree in with the others of its class.
    """
    found: dict[object, BlockClass] = {}
    by_instance: dict[int, BlockClass] = {}
    _group(root, exports, kinds or {}, found, by_instance)
    classes = list(found.values())
    _name(classes[:-1], taken)
    for one in reversed(classes):  # users before what they use: holes are filled downwards
        _fill_children(one, by_instance, classes)
    for one in classes:
        _find_free(one, variables)
    return classes


def _group(
    instance: Instance,
    exports: dict[str, set[str]],
    apart: Mapping[int, object],
    found: dict[object, BlockClass],
    by_instance: dict[int, BlockClass],
) -> BlockClass:
    if id(instance) in by_instance:
        return by_instance[id(instance)]
    children: dict[str, BlockClass] = {}
    lines: list[object] = []
    for line in instance.lines:
        if line.use is None:
            lines.append((line.targets, line.before, line.code, line.modules))
            continue
        kinds = []
        for call in line.use.calls:
            child = _group(call.instance, exports, apart, found, by_instance)
            kinds.append((id(child), tuple(call.widths.items())))
            children[line.use.attribute] = child
        use, first = line.use, line.use.calls[0]
        numbers = tuple((n, t) for n, t in first.numbers.items() if n not in use.schedules)
        lines.append(
            (
                use.attribute,
                tuple(kinds),
                use.repeat,
                tuple(use.schedules.items()),
                tuple(use.zipped.items()),
                use.carried,
                tuple(first.inputs.items()),
                numbers,
                line.modules,
            )
        )
    kind = apart.get(id(instance))
    key = (instance.block, instance.numbers, instance.inputs, instance.outputs, kind, *lines)
    if key not in found:
        names = exports.get(instance.block, set())
        order = [*instance.inputs, *(t for line in instance.lines for t in line.targets)]
        wanted = tuple(n for n in order if n in {local(name) for name in names})
        found[key] = BlockClass(instance.block, [], children, exports=wanted)
    found[key].instances.append(instance)
    by_instance[id(instance)] = found[key]
    return found[key]


def _name(classes: list[BlockClass], taken: set[str]) -> None:
    """`Block`; a second one with masks `MaskedBlock`; further ones are numbered."""
    used = set(taken)
    for one in classes:
        same = [other for other in classes if other.block == one.block]
        plain = class_name(one.block)
        masked = any(one.first.masks)
        mixed = any(any(other.first.masks) != masked for other in same)
        name = f"Masked{plain}" if masked and mixed else plain
        number = 2
        candidate = name if name not in used else f"{name}Block"
        while candidate in used:
            candidate, number = f"{name}{number}", number + 1
        used.add(candidate)
        one.name = candidate


def _fill_children(
    one: BlockClass, by_instance: dict[int, BlockClass], classes: list[BlockClass]
) -> None:
    """Decide the holes of `one` from all its uses."""
    texts: dict[str, set[str]] = {}
    for user in classes:
        for line in user.first.lines if user is not one else []:
            for call in line.use.calls if line.use else ():
                if by_instance[id(call.instance)] is one:
                    for hole, text in call.widths.items():
                        texts.setdefault(hole, set()).add(user.fill(text))
    used = holes_in(one)
    for hole in sorted(used & set(texts)):
        agreed = texts[hole]
        text = next(iter(agreed))
        if len(agreed) == 1 and not _LOCAL.search(text.replace("channel_groups", "")):
            one.holes[hole] = text
        else:
            one.holes[hole] = hole
            one.arguments.append(hole)


def holes_in(one: BlockClass) -> set[str]:
    """The widths that the code of a class, or what it passes on, leaves to its users."""
    found: set[str] = set()
    for line in one.first.lines:
        texts = [line.code, *line.before, *(m.construct for m in line.modules)]
        for call in line.use.calls if line.use else ():
            child = one.children[line.use.attribute] if line.use else None
            wanted = holes_in(child) if child else set()
            texts += [text for hole, text in call.widths.items() if hole in wanted]
        for text in texts:
            found.update(_HOLE.findall(text))
    return found


def _find_free(one: BlockClass, variables: list[str]) -> None:
    """The variables that a block reads though they are not among its inputs."""
    texts = []
    for line in one.first.lines:
        texts += [line.code, *line.before]
        if line.use is not None:
            texts += line.use.calls[0].inputs.values()
            texts += one.children[line.use.attribute].free
            texts += line.use.zipped.values()
    words = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", " ".join(texts)))
    one.free = [name for name in variables if name in words and name not in one.first.inputs]


def varying(calls: tuple[Call, ...], hole: str, user: BlockClass) -> list[str]:
    """The text of a width for each repetition."""
    return [user.fill(call.widths[hole]) for call in calls]


def shape_of(one: BlockClass, index: int, line: ProgramLine) -> str:
    """The trailing comment with the shape of a line's value: ``(B, time, WIDTH)``."""
    grids = {instance.lines[index].grid for instance in one.instances}
    widths = {one.fill(instance.lines[index].width) for instance in one.instances}
    if len(widths) > 1 or "" in widths or "{" in next(iter(widths)):
        return ""
    width = next(iter(widths))
    if re.fullmatch(r"[\d\s*+()]+", width):
        width = str(eval(width, {"__builtins__": {}}))  # digits and signs only
    if len(grids) > 1:
        return f"(B, *, {width})"
    axes = [axis if stride == 1 else f"{axis} / {stride}" for axis, stride in line.grid]
    return f"({', '.join([*(['B'] if line.batched else []), *axes, width])})"
