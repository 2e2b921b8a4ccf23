"""Model and proof -> the text of the standalone Python file."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from arspec import __version__
from arspec.arrange import Arranged, Arranger, Method
from arspec.arriving import Offset, arrivals, arriving
from arspec.causality import Proof
from arspec.classes import BlockClass, classes_of, shape_of, varying
from arspec.deferring import defer_sums
from arspec.diagnostics import SpecError, error
from arspec.expansion.cycles import staged
from arspec.files import seal, template_dir
from arspec.formatting import tidy
from arspec.frame import Frame
from arspec.library import library, model_class, reserved
from arspec.marks import PASSED, plain
from arspec.model import Declared, Model, TermModel
from arspec.names import local
from arspec.narrowest import narrowest
from arspec.program import Missing, ProgramLine, UseLine
from arspec.source import plain as plain_tree
from arspec.stepping import Plan, Unplanned, clocks_text, loops, plan, schedule_text
from arspec.summary import summary
from arspec.values import tuple_text


@dataclass(frozen=True)
class ClassText:
    """One class as the template prints it."""

    name: str
    doc: str
    arguments: str
    modules: tuple[str, ...]
    inputs: str
    result: str
    statements: tuple[str, ...]
    methods: tuple[MethodText, ...] = ()


@dataclass(frozen=True)
class MethodText:
    """What `forward` settles in a coarser loop, as the template prints it."""

    name: str
    doc: str
    inputs: str
    result: str
    statements: tuple[str, ...]


def emit(model: Model, proof: Proof) -> str:
    """The text of the module. Raises SpecError AR501 for what has no code yet."""
    _refuse(model, _missing(model))
    term = model.terms[0]
    taken = {*reserved(), *model.constants, model_class(model.spec.name)}
    variables = [
        code for name in model.variables for code in (local(name), f"{local(name)}_one_hot")
    ]

    def grouped(kinds: Mapping[int, object] | None = None) -> list[BlockClass]:
        classes = classes_of(term.root, dict(term.exports), taken, variables, kinds)
        uneven = _uneven(classes)
        if kinds is not None and uneven:
            raise Unplanned("repetitions in different loops")
        _refuse(model, uneven)
        defer_sums(classes)
        return classes

    context = _stepped(model, term, proof, grouped)
    body = _render("model.py.j2", context)
    context["constants"] = _used_constants(model, body)
    pieces = library().needed(body)
    text = _render(
        "file.py.j2",
        {
            **context,
            "imports": ["import itertools", *library().imports],
            "pieces": [piece.text for piece in pieces if not piece.steps],
            "sampler": [piece.text for piece in pieces if piece.steps],
            "body": body,
        },
    )
    return seal(tidy(text))


def _stepped(
    model: Model, term: TermModel, proof: Proof, grouped: Callable[..., list[BlockClass]]
) -> dict[str, Any]:
    """The context with the best sampler that there is a form for.

    That is a step to which conditions arrive, a step with all conditions whole from the start, or
    a step that evaluates all positions, and to which they arrive again. If uses of a block belong
    to different loops, the classes are made anew, one for each.
    """
    come, axes = arriving(model, term), len(term.frame.axes)

    def context(
        classes: list[BlockClass], stepping: Plan | None, some: Mapping[str, Offset]
    ) -> dict[str, Any]:
        *blocks, network = classes
        texts = [_block_text(model, one, stepping) for one in blocks]
        found = _context(model, term, network, proof, stepping, some)
        return {**found, "blocks": texts}

    # What keeps nothing but whole slabs of fewer axes may be what has no form.
    wide = {name: o for name, o in come.items() if len(model.variables[name].grid) == axes}
    for some in {len(some): some for some in (come, wide, {})}.values():
        for even, apart in product((False, True), repeat=2):
            with suppress(Unplanned):
                classes = grouped(loops(model, term, some, even) if apart else None)
                stepping = _staged(classes, plan(model, term, classes, some, even))
                return context(classes, stepping, stepping.arriving)
    return context(grouped(), None, come)


def _staged(classes: Sequence[BlockClass], stepping: Plan) -> Plan:
    """Recursions that a step evaluates at several places get a function for each."""
    for one in classes:
        for line in one.first.lines:
            if places := stepping.stages.get((id(one), line.name)):
                one.replaced[line.name] = staged(line, places)
    return stepping


def _used_constants(model: Model, body: str) -> list[str]:
    """The params that the code uses by name: changing the others in the file would do nothing."""
    words = set(re.findall(r"\w+", body))
    kept: list[str] = []
    for name, number in reversed(list(model.constants.items())):
        if name in words:
            words.update(re.findall(r"\w+", number.text))
            kept.insert(0, f"{name} = {number.text}")
    return kept


def spec_hash(model: Model) -> str:
    """A hash of what the spec says and of the parameters it was expanded with."""
    parts = [plain_tree(model.spec.tree), {k: v.value for k, v in model.constants.items()}]
    return hashlib.sha256(json.dumps(parts, sort_keys=False, default=str).encode()).hexdigest()


def _refuse(model: Model, missing: Sequence[Missing]) -> None:
    """Says what has no code yet, once per feature."""
    if missing:
        first = {m.what: m for m in reversed(missing)}
        found = [error("AR501", m.span, what=m.what, help=m.help) for m in reversed(first.values())]
        raise SpecError(found, model.spec.filename, model.spec.text)


def _uneven(classes: Sequence[BlockClass]) -> list[Missing]:
    """Repetitions of a block that are not of one class: a loop calls them all alike."""
    found = []
    for one in classes:
        for line in one.first.lines:
            if line.use is None:
                continue
            alike = {id(instance) for instance in one.children[line.use.attribute].instances}
            if any(id(call.instance) not in alike for call in line.use.calls):
                found.append(Missing("a `repeat` over windows that differ", line.span))
    return found


def _missing(model: Model) -> list[Missing]:
    missing: list[Missing] = []
    if len(model.terms) > 1 or (
        model.terms[0].root.lines and any(use is not None for _, use in model.spec.generate)
    ):
        name = model.generated[-1]
        span = model.spec.variables[name].span
        missing.append(Missing("`generate` by blocks", span))
    for term in model.terms:
        if term.delayed:
            span = model.spec.span(("order",))
            missing.append(Missing("an order that delays channels against each other", span))
        if model.variables[term.variable].end == "decision":
            missing.append(Missing("`end: decision`", model.spec.variables[term.variable].span))
        if term.head.missing is not None:
            missing.append(term.head.missing)
        seen: set[int] = set()
        stack = [term.root]
        while stack:
            instance = stack.pop()
            if id(instance) in seen:
                continue
            seen.add(id(instance))
            missing += instance.missing
            for line in instance.lines:
                if line.use is not None:
                    stack += [call.instance for call in line.use.calls]
    return missing


def _render(template: str, context: dict[str, Any]) -> str:
    import jinja2  # here, because importing it costs 70 ms that a check does not need

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_dir()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what comes from the spec is escaped by `_docstring` and `repr`
    )
    return environment.get_template(template).render(context)


# ------------------------------------------------------------------------------------ the classes


def _block_text(model: Model, one: BlockClass, stepping: Plan | None) -> ClassText:
    instance = one.first
    numbers = [f"{local(n)}: {_number_type(one, n)}" for n in instance.numbers]
    arguments = [*numbers, *(f"{hole}: {_hole_type(hole)}" for hole in one.arguments)]
    inputs = [*instance.inputs, *one.free]
    outputs = [*instance.outputs, *one.exports]
    drawn = stepping is not None and stepping.drawn(one)
    arranged = _arranged(one, stepping if drawn else None, inputs, outputs)
    statements = arranged.statements
    every = [*statements, *(s for method in arranged.methods for s in method.statements)]
    stored = [n for n in map(local, instance.numbers) if _reads(every, n)]
    for name in stored:  # a number of the block that its equations use
        statements = [_word(name).sub(f"self.{name}", statement) for statement in statements]
    returned = ", ".join(outputs)
    last = statements[-1].split("  # ")[0] if statements else ""
    if len(outputs) == 1 and last == f"{outputs[0]} = " + last.partition(" = ")[2] and last:
        comment = statements[-1].partition("  # ")[2]
        value = last.partition(" = ")[2]
        statements[-1] = f"{outputs[0]}: Tensor = {value}" + (f"  # {comment}" if comment else "")
    pair = f"{', '.join(instance.outputs)} = "
    if len(instance.outputs) > 1 and statements[-1].startswith(pair):
        returned = ", ".join([statements.pop().removeprefix(pair), *one.exports])
    statements.append(f"return {returned}")
    block = model.spec.blocks[one.block]
    signature = ", ".join(p.name for p in block.parameters)
    masked = " with masks" if one.name.startswith("Masked") else ""
    result = "Tensor" if len(outputs) == 1 else f"tuple[{', '.join(['Tensor'] * len(outputs))}]"
    return ClassText(
        name=one.name,
        doc=f"Block `{one.block}({signature})` of the spec{masked}.",
        arguments="".join(f", {argument}" for argument in arguments),
        modules=(*(f"self.{name} = {name}" for name in stored), *_modules(one), *arranged.modules),
        inputs="".join(f", {name}: Tensor" for name in inputs)
        + (", past: State | None = None" if drawn else ""),
        result=result,
        statements=tuple(statements),
        methods=tuple(_method_text(method, stored) for method in arranged.methods),
    )


def _method_text(method: Method, stored: Sequence[str] = ()) -> MethodText:
    statements = method.statements
    for name in stored:
        statements = [_word(name).sub(f"self.{name}", statement) for statement in statements]
    inputs = "".join(f", {name}: {method.type_of(name)}" for name in method.arguments)
    return MethodText(
        method.name,
        method.doc,
        f"{inputs}, past: State | None = None",
        method.result,
        tuple(statements),
    )


def _arranged(
    one: BlockClass,
    stepping: Plan | None,
    inputs: Sequence[str],
    outputs: Sequence[str],
    encoded: Sequence[str] = (),
    last: str = "",
) -> Arranged:
    """The statements of a class: as they are, or in the loops of a sampler."""
    if stepping is None:
        statements = [*encoded, *(s for _, made, _ in _statements(one, None) for s in made)]
        return Arranged([plain(s) for s in [*statements, *([last] if last else [])]], [])
    arranger = Arranger(stepping, one)
    arranger.add(None, encoded, [s.partition(" = ")[0] for s in encoded])
    for line, made, targets in _statements(one, stepping):
        arranger.line(line, made, targets)
    if last:
        arranger.head(last)
    return arranger.arranged(inputs, outputs)


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.]){re.escape(name)}\b")


def _reads(statements: list[str], name: str) -> bool:
    return any(_word(name).search(statement.split("  # ")[0]) for statement in statements)


def _number_type(one: BlockClass, name: str) -> str:
    return "float" if any(name in instance.floats for instance in one.instances) else "int"


def _hole_type(hole: str) -> str:
    return "list[int]" if hole.endswith("_groups") else "int"


def _modules(one: BlockClass) -> list[str]:
    """The constructor's assignments."""
    result = []
    for line in one.lines:
        result += [f"self.{m.attribute} = {one.fill(m.construct)}" for m in line.modules]
        if line.use is not None:
            result.append(f"self.{line.use.attribute} = {_use_construct(one, line)}")
    return result


def _use_construct(one: BlockClass, line: ProgramLine) -> str:
    use = line.use
    assert use is not None
    child = one.children[use.attribute]
    call = use.calls[0]
    changing: dict[str, str] = {}
    arguments: list[str] = []
    for number in child.first.numbers:
        name = local(number)
        if number in use.schedules:
            changing[name] = one.fill(use.schedules[number])
            arguments.append(name)
        else:
            arguments.append(one.fill(call.numbers[number]))
    for hole in child.arguments:
        texts = varying(use.calls, hole, one)
        if len(set(texts)) == 1:
            arguments.append(texts[0])
        else:
            changing[hole] = tuple_text(texts)
            arguments.append(hole)
    made = f"{child.name}({', '.join(arguments)})"
    if use.repeat is None:
        return made
    if not changing:
        return f"nn.ModuleList({made} for _ in range({one.fill(use.repeat)}))"
    names, lists = ", ".join(changing), list(changing.values())
    source = lists[0] if len(lists) == 1 else f"zip({', '.join(lists)}, strict=True)"
    return f"nn.ModuleList({made} for {names} in {source})"


def _statements(
    one: BlockClass, stepping: Plan | None
) -> Iterator[tuple[ProgramLine, list[str], list[str]]]:
    """The statements of forward line by line, each with the shape of what it makes."""
    lines = list(enumerate(one.lines))
    for (index, line), (_, following) in zip(lines, [*lines[1:], (0, None)], strict=True):
        result: list[str] = []
        if line.use is not None:
            outputs = _taken_apart(one, line.use, following)
            child = one.children[line.use.attribute]
            told = PASSED if stepping is not None and stepping.drawn(child) else ""
            exports = [local(f"{line.use.attribute}_{name}") for name in child.exports]
            made = _use_statements(one, index, line, outputs, told)
            yield line, made, [*outputs, *exports]
            continue
        if index and lines[index - 1][1].use is not None:
            previous = lines[index - 1][1].use
            if previous is not None and _taken_apart(one, previous, line) == line.targets:
                continue
        if line.name in one.deferred:
            continue
        if line.why:
            result.append(f"# {line.why}")
        result += [one.fill(statement) for statement in line.before]
        targets = ", ".join(line.targets)
        if len(line.targets) > 1:
            targets = ", ".join(t if _mentioned(one, t) else "_" for t in line.targets)
        shape = shape_of(one, index, line)
        each = " each" if len(line.targets) > 1 and shape else ""
        code = one.fill(one.code(line))
        if targets != code:
            result.append(f"{targets} = {code}" + (f"  # {shape}{each}" if shape else ""))
        yield line, result, list(line.targets)


def _taken_apart(one: BlockClass, use: UseLine, following: ProgramLine | None) -> tuple[str, ...]:
    """The names of a block's outputs: those of the next line, if all it does is to name them."""
    if following is None or following.use is not None or len(use.carried) < 2:
        return use.carried
    if following.code != ", ".join(use.carried) or following.before:
        return use.carried
    elsewhere = [line for line in one.first.lines if line is not following]
    used = any(name in re.findall(r"\w+", line.code) for line in elsewhere for name in use.carried)
    return use.carried if used else following.targets


def _use_statements(
    one: BlockClass, index: int, line: ProgramLine, outputs: tuple[str, ...], told: str
) -> list[str]:
    """The call of a block, or the loop over its repetitions, naming its `outputs`."""
    use = line.use
    assert use is not None
    child = one.children[use.attribute]
    call = use.calls[0]
    shape = shape_of(one, index, line)
    comment = f"  # {shape}" if shape else ""
    fixed = [n for n in call.inputs if n not in {local(z) for z in use.zipped}]
    free = child.free
    exported = {name: local(f"{use.attribute}_{name}") for name in child.exports}
    wanted = {n: e for n, e in exported.items() if _mentioned(one, e)}
    if use.repeat is None:
        targets = [*outputs, *(wanted.get(n, "_") for n in child.exports)]
        arguments = ", ".join([*call.inputs.values(), *free])
        return [f"{', '.join(targets)} = self.{use.attribute}({arguments}{told}){comment}"]
    loop = _loop_name(one, child.block, [*child.exports, *map(local, use.zipped)])
    carried = list(zip(fixed, outputs, strict=False))
    starts = [(target, call.inputs[name]) for name, target in carried]
    statements = []
    if any(target != code for target, code in starts):
        left, right = ", ".join(t for t, _ in starts), ", ".join(c for _, c in starts)
        statements.append(f"{left} = {right}")
    for name in wanted.values():
        statements.append(f"{name}: list[Tensor] = []")
    held = dict(carried)
    zipped = {local(name): code for name, code in use.zipped.items()}
    each = {name: f"{loop}_{name}" for name in zipped}
    arguments = ", ".join([held.get(n, each.get(n, call.inputs[n])) for n in call.inputs] + free)
    targets = [*outputs, *(f"{loop}_{n}" if n in wanted else "_" for n in child.exports)]
    source = f"self.{use.attribute}"
    variables = loop
    if zipped:
        variables = ", ".join([loop, *each.values()])
        source = f"zip({source}, {', '.join(zipped.values())}, strict=True)"
    statements.append(f"for {variables} in {source}:")
    statements.append(f"    {', '.join(targets)} = {loop}({arguments}{told}){comment}")
    for name, list_name in wanted.items():
        statements.append(f"    {list_name}.append({loop}_{name})")
    return statements


def _mentioned(one: BlockClass, name: str) -> bool:
    if name in one.first.outputs or name in one.exports:
        return True
    pattern = re.compile(rf"\b{re.escape(name)}\b")
    for line in one.first.lines:
        texts = [one.code(line), *line.before]
        if line.use is not None:
            texts += [*line.use.calls[0].inputs.values(), *line.use.zipped.values()]
        if any(pattern.search(text) for text in texts):
            return True
    return False


def _loop_name(one: BlockClass, block: str, parts: Sequence[str]) -> str:
    """The name of one repetition: neither it nor those of its parts may be a line's."""
    taken = {target for line in one.first.lines for target in line.targets} | set(one.first.inputs)
    name = local(block)
    while {name, *(f"{name}_{part}" for part in parts)} & taken:
        name += "_"
    return name


# -------------------------------------------------------------------------------------- the model


def _context(
    model: Model,
    term: TermModel,
    network: BlockClass,
    proof: Proof,
    stepping: Plan | None,
    come: Mapping[str, Offset],
) -> dict[str, Any]:
    spec = model.spec
    target = model.variables[term.variable]
    conditions = [model.variables[name] for name in model.conditions]
    texts = [plain(s) for _, made, _ in _statements(network, None) for s in made]
    words = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", " ".join([*texts, plain(term.head.code)])))
    frame = term.frame
    turns = [(local(v.name), _turn(v, frame)) for v in conditions]
    encoded = [f"{name} = {name}{turn}" for name, turn in turns if turn]
    encoded += [line for v in [target, *conditions] for line in _encoding(v, frame, words)]
    if any("dtype" in line for line in encoded):
        encoded.insert(0, "dtype = next(self.parameters()).dtype")
    names = [local(v.name) for v in [target, *conditions]]
    last = f"params: Tensor = {network.fill(term.head.code)}"
    arranged = _arranged(network, stepping, names, ["params"], encoded, last)
    return {
        "doc": _docstring(_header(model, proof)),
        "name": model_class(spec.name),
        "modules": [
            *_modules(network),
            *(f"self.{m.attribute} = {m.construct}" for m in term.head.modules),
            *arranged.modules,
        ],
        "target": local(target.name),
        "conditions": [local(v.name) for v in conditions],
        "arriving": arrivals(model, come),
        "from_start": [local(v.name) for v in conditions if v.name not in come],
        "statements": arranged.statements,
        "methods": [_method_text(method) for method in arranged.methods],
        "schedule": None if stepping is None else schedule_text(stepping),
        "clocks": {} if stepping is None else clocks_text(stepping),
        "step_shape": _step_shape(term, target),
        "lead": 0 if stepping is None else stepping.lead,
        "narrowest": [] if stepping is None else narrowest(stepping),
        "distribution": term.head.distribution,
        **_head_context(term, target),
        **_sampler_context(term, target),
        **_turns(term, target),
        "smoke": _smoke(target, conditions, term.limits),
        "summary": summary(model, proof),
        "codec": target.codec,
        "count": target.count.text,
    }


def _head_context(term: TermModel, target: Declared) -> dict[str, Any]:
    """How the head's output becomes (B, [channels,] *axes, parameters)."""
    axes = ", ".join(target.axes)
    separate = term.head.per_channel and target.channels > 1
    channel = f"{target.channels}, " if separate else ""
    return {
        "separate": separate,
        "channels": target.channels,
        "size": term.head.size,
        "axes": target.axes,
        "params_shape": f"(B, {channel}{axes}, {term.head.size})",
        "features_target": target.kind == "features",
    }


def _turns(term: TermModel, target: Declared) -> dict[str, Any]:
    """What brings x, its shape and the parameters into the order of drawing, and back."""
    dims = term.frame.dims
    return {
        "turn": _turn(target, term.frame),
        "turn_back": _turn(target, term.frame, back=True),
        "turn_params": _turn(target, term.frame, behind=1),
        "turn_params_back": _turn(target, term.frame, back=True, behind=1),
        "turn_shape": tuple_text(list(map(str, dims))),
        "turn_back_shape": tuple_text([str(dims.index(dim)) for dim in range(len(dims))]),
        "outermost": term.frame.axes[0],
    }


def _sampler_context(term: TermModel, target: Declared) -> dict[str, Any]:
    ordered = term.frame.channels > 1
    return {
        "ordered": ordered,
        "raster": term.graph.raster,
        "order": term.frame.order,
        "has_channels": target.channels > 1,
        "channel_axis": target.channels > 1 or target.kind == "features",
        "discrete": target.kind != "features",
        "feature_count": int(target.count.value),
        "top": term.head.truncated,
        "end": target.end,
    }


def _step_shape(term: TermModel, target: Declared) -> str:
    """The shape of the parameters of one position."""
    together = target.channels > 1 and term.head.per_channel and term.frame.channels == 1
    return f"(B, {f'{target.channels}, ' if together else ''}{term.head.size})"


def _turn(v: Declared, frame: Frame, *, back: bool = False, behind: int = 0) -> str:
    """A call that brings the axes of a tensor into the order of drawing, or back into its own.

    `behind`: how many dimensions it has behind them.
    """
    written, drawn = v.grid, frame.turned(v.grid)
    start, end = (drawn, written) if back else (written, drawn)
    last = len(start) + behind
    moved = [(k - last, end.index(axis) - last) for k, axis in enumerate(start)]
    changed = [(str(a), str(b)) for a, b in moved if a != b]
    return f".movedim({', '.join(map(tuple_text, zip(*changed, strict=True)))})" if changed else ""


def _encoding(v: Declared, frame: Frame, words: set[str]) -> list[str]:
    """Statements that turn a variable as the user gives it into features, channels last."""
    name, axes = local(v.name), len(v.axes)
    shape = ", ".join(["B", *(a if s == 1 else f"{a} / {s}" for a, s in frame.turned(v.grid))])
    lines = []
    if v.kind == "features":
        if name not in words:
            return []
        if v.count.value == 1 and axes:
            tail = ", ".join(f"{name}.shape[{i - axes}]" for i in range(axes))
            code = f"{name}.reshape(len({name}), {tail}, 1).to(dtype)"
        else:
            code = f"{name}.movedim(1, -1).to(dtype)" if axes else f"{name}.to(dtype)"
        return [f"{name} = {code}  # ({shape}, {v.count.text})"]
    if v.kind == "levels":
        if name not in words:
            return []
        code = f"scale_levels({name}, {v.count.text}, dtype)"
        if v.channels == 1:
            return [f"{name} = {code}.unsqueeze(-1)  # ({shape}, 1)"]
        code = f"{code}.movedim(1, -1)" if axes else code
        return [f"{name} = {code}  # ({shape}, {v.channels})"]
    if v.channels > 1 and axes:
        lines.append(f"{name} = {name}.movedim(1, -1)  # ({shape}, {v.channels})")
    if f"{name}_one_hot" in words:
        code = f"F.one_hot({name}, {v.count.text}).to(dtype)"
        width = v.count.text
        if v.channels > 1:
            code, width = (
                f"F.one_hot({name}, {v.count.text}).flatten(-2).to(dtype)",
                (f"{v.channels} * {v.count.text}"),
            )
        lines.append(f"{name}_one_hot = {code}  # ({shape}, {width})")
    return lines


def _smoke(
    target: Declared, conditions: Sequence[Declared], limits: Mapping[str, int]
) -> dict[str, Any]:
    """Random input of a small shape for the `__main__` run."""
    strides = [s for v in conditions for a, s in v.grid if a in target.axes]
    sizes = {a: 8 if len(target.axes) > 1 else 64 for a in target.axes}
    largest = max([int(s) for s in strides], default=1)
    for axis in sizes:
        sizes[axis] = min(max(sizes[axis], largest), limits.get(axis, largest + 64))
    made = {v.name: _random(v, sizes) for v in [target, *conditions]}
    call = ", ".join(f"{local(v.name)}={made[v.name]}" for v in conditions)
    own = dict(target.grid)
    shape = tuple(-(-sizes[a] // int(own[a])) for a in target.axes)
    return {"target": made[target.name], "conditions": call, "shape": shape}


def _random(v: Declared, sizes: dict[str, int]) -> str:
    lengths = [str(-(-sizes.get(axis, 8) // int(stride))) for axis, stride in v.grid]
    if v.kind == "features":
        return f"torch.randn({', '.join(['2', v.count.text, *lengths])})"
    channels = [str(v.channels)] if v.channels > 1 else []
    shape = tuple_text(["2", *channels, *lengths])
    return f"torch.randint({v.count.text}, {shape})"


def _header(model: Model, proof: Proof) -> list[str]:
    """The module's docstring: where it comes from and what was proven."""
    spec = model.spec
    options = [f"--set {shlex.quote(f'{k}={v}')}" for k, v in model.settings.items()]
    lines = [f"{spec.name}: {spec.paper}" if spec.paper else f"{spec.name}.", ""]
    lines += [
        f"Generated by arspec {__version__}. To generate it again:",
        "",
        *_command(["arspec build", spec.name, *options]),
        "",
        f"spec: sha256 {spec_hash(model)}",
        "body: sha256 {BODY_HASH}",
        "",
        "What was proven from the dependency graph:",
        "",
        *(f"    {line}" for line in summary(model, proof)),
    ]
    return lines


def _command(words: Sequence[str]) -> list[str]:
    """A shell command, continued where it grows too long for a line."""
    lines = ["   "]
    for word in words:
        if len(lines[-1]) + len(word) > 90:
            lines[-1] += " \\"
            lines.append("       ")
        lines[-1] += f" {word}"
    return lines


def _docstring(lines: Sequence[str]) -> str:
    """Text from the spec as the inside of a docstring: it can neither end it nor escape."""
    import textwrap

    escaped = []
    for line in lines:
        safe = "".join(c if c.isprintable() else " " for c in line)
        safe = safe.replace("\\", "\\\\").replace('"', '\\"')
        if len(safe) > 96:
            escaped += textwrap.wrap(safe, 96, break_long_words=False, break_on_hyphens=False)
        else:
            escaped.append(safe.rstrip())
    return "\n".join(escaped)
