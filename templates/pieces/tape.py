"""Steps that are the same program again and again: recorded, then run with no Python between.

A step in Python spends most of its time between the operations. What it keeps stays in the same
tensors, so the calls that one step makes, each with its result where it was, make the next one.
"""

import operator
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

# Functions that say how a tensor is laid out, not what it holds.
LAYOUT = {"__get__", "__len__", "dim", "size", "stride", "numel", "is_floating_point"}

DRAWS = {"rand", "randn", "randint", "bernoulli", "multinomial", "dropout"}  # they draw numbers

PRODUCTS = {"addmm", "baddbmm", "mm", "bmm"}  # what takes time and has a form with `out`
# What takes time and has none; the rest is tried.
SLOW = {"linear", "conv1d", "conv2d", "conv3d", "scaled_dot_product_attention"}


class Call(NamedTuple):
    """A call of a function of torch."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        return str(self.function.__name__)

    @property
    def inputs(self) -> list[Tensor]:
        return list(tensors((self.args, list(self.kwargs.values()))))

    @property
    def outputs(self) -> list[Tensor]:
        return list(tensors(self.result))

    @property
    def in_place(self) -> bool:
        return self.name == "__setitem__" or self.name[-2:-1] != "_" == self.name[-1]

    @property
    def drawn(self) -> bool:
        """Whether it draws numbers by a distribution that is always the same."""
        return self.name in DRAWS and not self.inputs

    @property
    def opaque(self) -> bool:
        """Whether it asks what a tensor holds, so that what follows may depend on it."""
        tells = bool(self.inputs) and not self.outputs
        return tells and not (self.in_place or self.name in LAYOUT)


class Tape(TorchFunctionMode):
    """Records every call of a function of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.calls.append(Call(function, args, kwargs or {}, result))
        return result


class Step(NamedTuple):
    """A recorded step: the newest x, the calls, what comes of it."""

    x: Tensor
    calls: list[Call]
    made: Tensor


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in nested lists and tuples."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


def storage(x: Tensor) -> int:
    """Where its numbers are."""
    return x.untyped_storage().data_ptr()


def same_program(one: Step, other: Step) -> bool:
    """Whether two steps make the same calls on the same tensors, but for their own results."""
    made = {id(one.x): other.x}

    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            if id(a) in made:
                return made[id(a)] is b
            return (a.data_ptr(), a.shape, a.stride()) == (b.data_ptr(), b.shape, b.stride())
        if isinstance(a, list | tuple) and isinstance(b, list | tuple):
            return len(a) == len(b) and all(map(equal, a, b))
        return not isinstance(a, Tensor) and not isinstance(b, Tensor) and bool(a == b)

    for before, after in zip(one.calls, other.calls, strict=False):
        made.update(zip(map(id, before.outputs), after.outputs, strict=False))
        if (
            before.opaque
            or before.function != after.function
            or not equal([before.args, *before.kwargs.items()], [after.args, *after.kwargs.items()])
            or not equal(before.result, after.result)
        ):
            return False
    return len(one.calls) == len(other.calls)


def lasting(calls: list[Call]) -> Iterator[Call]:
    """Those that have to be made again: neither views of what is there, nor of constants."""
    changed = {storage(call.args[0]) for call in calls if call.in_place}
    constant: set[int] = set()
    for call in calls:
        read, made = set(map(storage, call.inputs)), set(map(storage, call.outputs))
        if call.in_place:
            yield call
        elif read <= constant and not made & changed and call.name not in DRAWS:
            constant |= made
        elif not made & read and made:
            yield call


def accumulated(calls: list[Call], made: Tensor) -> list[Call]:
    """The same calls; a product that is only added to something is added up where the sum is."""
    read = [storage(made), *(storage(x) for call in calls for x in call.inputs)]
    kept: list[Call] = []
    for call in calls:
        product = kept[-1] if kept else call
        others = [x for x in call.inputs if x is not product.result]
        added = call.name == "add" and len(call.inputs) == 1 + len(others) == 2 and not call.kwargs
        if product.name == "linear" and added:
            x, weight, *bias = product.args
            parts = [*product.outputs, *call.outputs, *others]
            alike = len({(y.shape, y.dtype) for y in parts}) == 1
            whole = all(y.is_contiguous() for y in (x, *parts))
            if alike and whole and read.count(storage(product.result)) == 1:
                kept.pop()
                if any(b is not None for b in bias):
                    kept.append(Call(torch.add, (*others, *bias), {}, call.result))
                    others = [call.result]
                call = Call(product.function, (x, weight, *others), {}, call.result)
        kept.append(call)
    return kept


def again(call: Call) -> Callable[[], Any]:
    """The call once more, with its result where it was."""
    function, args, kwargs, result = call
    if call.in_place:
        return partial(function, *args, **kwargs)
    if call.name in ("rand", "randn"):
        fill = result.uniform_ if call.name == "rand" else result.normal_
        return partial(fill, generator=kwargs.get("generator"))
    if call.drawn:
        return partial(function, *args, **kwargs, out=result)
    if call.name == "linear":
        x, weight, *bias = args
        flat, out = x.reshape(-1, x.shape[-1]), result.view(-1, result.shape[-1])
        weight = weight.t()
        if weight.numel() <= 2**16 or weight.shape[1] > 2 * len(weight):
            weight = weight.contiguous()  # read faster so; larger ones are not kept twice
        if storage(flat) == storage(x) and not any(b is not None for b in bias):
            return partial(torch.mm, flat, weight, out=out)
        if storage(flat) == storage(x):
            if isinstance(bias[0], nn.Parameter) or bias[0].dim() > 1:  # not spread each time
                bias[0] = bias[0].expand_as(result).reshape(out.shape)
            total = out if storage(bias[0]) == storage(out) else bias[0]  # then it is not copied
            return partial(torch.addmm, total, flat, weight, out=out)
    if call.name == "relu":
        return partial(torch.maximum, args[0], result.new_zeros(()), out=result)
    if call.name in ("to", "long", "float"):
        return partial(result.copy_, args[0])
    if call.name == "one_hot":
        symbols = torch.arange(result.shape[-1], device=result.device)
        return partial(torch.eq, args[0].unsqueeze(-1), symbols, out=result)
    if call.name in PRODUCTS:
        return partial(getattr(torch, call.name), *args, **kwargs, out=result)
    if call.name in SLOW | DRAWS:
        return partial(copied, call)
    if call.name in ("add", "sub", "mul", "div") and isinstance(args[-1], int | float):
        number = result.new_tensor(args[-1])
        args = (*args[:-1], number)  # a number of Python's is made a tensor at every call
    for form in (function, getattr(torch, call.name, function)):
        with suppress(TypeError, RuntimeError):
            out = torch.empty_like(result)
            if form(*args, **kwargs, out=out) is out:
                return partial(form, *args, **kwargs, out=result)
    return partial(copied, call)


def copied(call: Call) -> None:
    """The same for a function that has no `out`."""
    results = tensors(call.function(*call.args, **call.kwargs))
    for old, new in zip(call.outputs, results, strict=True):
        old.copy_(new)


def replayed(step: Step) -> Callable[[Tensor], Tensor]:
    """The step as a function of the newest x."""
    calls = [again(call) for call in accumulated(list(lasting(step.calls)), step.made)]

    def run(x: Tensor) -> Tensor:
        step.x.copy_(x)
        for call in calls:
            call()
        return step.made.clone()

    return run


def columns(weight: Tensor) -> Tensor:
    """A weight (..., k, n) as blocks of columns (..., n / w, k, w), each read in one go."""
    inputs, outputs = weight.shape[-2:]
    if inputs > 256 or outputs % 16:
        return weight.mT.unsqueeze(-1)
    parts = weight.view(*weight.shape[:-1], -1, 16)
    return parts.transpose(-2, -3).contiguous()


def row_times(x: Tensor, blocks: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., 1, k) @ weight + bias as a sum: compiled, it joins the loops around it."""
    y = (x.mT.unsqueeze(-3) * blocks).sum(-2).flatten(-2)[..., None, :]
    return y if bias is None else y + bias


def by_rows(calls: list[Call], changing: set[int]) -> Iterator[Call]:
    """The same calls; products of a single row and a constant matrix as `row_times`."""
    changing = changing.union(*(map(storage, call.outputs) for call in calls))
    packed = dict[Hashable, Tensor]()
    for call in calls:
        weight = None
        if call.name == "linear" and call.args[0].numel() == call.args[0].shape[-1]:
            x, weight, *bias = (*call.args, *call.kwargs.values())
            weight = weight.t()
        elif call.name in ("addmm", "baddbmm") and call.args[1].shape[-2] == 1:
            *bias, x, weight = call.args
        if weight is None or x.dim() < 2 or not x.is_cpu or storage(weight) in changing:
            yield call
            continue
        key = (weight.data_ptr(), weight.shape, weight.stride())
        blocks = packed.setdefault(key, columns(weight))
        yield Call(row_times, (x, blocks, *bias), {}, call.result)


def compiled(step: Step, moving: Callable[[], list[Tensor]]) -> Callable[[Tensor], Tensor]:
    """The same by torch.compile, as one graph. `moving`: what changes from step to step.

    What a generator draws is drawn before, and given to the graph.
    """
    draws = [call for call in step.calls if call.drawn]
    changing = set(map(storage, [*moving(), *(t for call in draws for t in call.outputs)]))
    calls = list(by_rows([call for call in step.calls if not call.drawn], changing))
    groups = outside(step.x, calls, changing)
    given = [group[0] if len(group) == 1 else torch.stack(group) for group in groups]
    graph = Graph(groups, step._replace(calls=calls))
    run = graph.compile(*given, step.x)
    again_drawn = [again(call) for call in draws]

    def drawn_and_run(x: Tensor) -> Tensor:
        for call in again_drawn:
            call()
        return run(*given, x)

    return drawn_and_run


def outside(x: Tensor, calls: list[Call], moving: set[int]) -> list[list[Tensor]]:
    """The tensors but x that calls find. Those that never change are grouped by their shape.

    Such a group is given as one tensor, for a call costs by the number of its arguments.
    """
    known, alike = {id(x)}, dict[Hashable, list[Tensor]]()
    for call in calls:
        for t in call.inputs:
            if id(t) not in known:
                own = id(t) if storage(t) in moving else (t.shape, t.stride(), t.dtype)
                alike.setdefault(own, []).append(t)
                known.add(id(t))
        known.update(map(id, call.outputs))
    return list(alike.values())


class Graph:
    """A recorded step as a graph: a function of what it finds and of x."""

    compiled: ClassVar[dict[Hashable, Callable[..., Tensor]]] = {}  # one for all states

    def __init__(self, groups: list[list[Tensor]], step: Step) -> None:
        self.graph = fx.Graph()
        self.nodes: dict[int, fx.Node] = {}
        for number, group in enumerate(groups):
            given = self.graph.placeholder(f"given_{number}")
            for k, t in enumerate(group):
                self.nodes[id(t)] = self.call(operator.getitem, given, k) if group[1:] else given
        self.nodes[id(step.x)] = self.graph.placeholder("x")
        for call in step.calls:
            if call.outputs or call.in_place:
                self.add(call)
        self.graph.output(self.nodes[id(step.made)])
        self.rows = any(call.function is row_times for call in step.calls)

    def compile(self, *args: Tensor) -> Callable[..., Tensor]:
        """By torch.compile, for arguments like these."""
        like = tuple((t.shape, t.stride(), t.dtype, t.device) for t in args)
        key = str(self.graph), like
        if key not in self.compiled:
            # Without these, calling it takes as long as what it computes.
            options: Any = {"cpp_wrapper": True, "memory_planning": True, "size_asserts": False}
            if self.rows and max(t.numel() for t in args) < 2**20:
                options["cpp.threads"] = 1  # waiting for another takes longer than such a loop
            module = fx.GraphModule(nn.Module(), self.graph)
            made: Any = torch.compile(module.forward, fullgraph=True, options=options)
            if hasattr(made, "aot_compile"):
                made = made.aot_compile((args, {}))
                made.disable_guard_check()
                made = partial(made, module)
            self.compiled[key] = made
        return self.compiled[key]

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        return self.graph.call_function(function, args, kwargs)

    def node(self, value: Any) -> Any:
        """Nested lists and tuples, with nodes in the place of tensors."""
        if isinstance(value, list | tuple):
            return type(value)(map(self.node, value))
        return self.nodes[id(value)] if isinstance(value, Tensor) else value

    def add(self, call: Call) -> None:
        args = self.node(call.args)
        options = {key: self.node(value) for key, value in call.kwargs.items()}
        if call.name in ("__setitem__", "__getitem__"):
            made = self.call(getattr(operator, call.name[2:-2]), *args)
        elif call.name == "__get__":
            made = self.call(getattr, args[0], call.function.__self__.__name__)
        elif call.function == getattr(Tensor, call.name, None):
            made = self.graph.call_method(call.name, args, options)
        else:
            made = self.call(call.function, *args, **options)
        if isinstance(call.result, Tensor):
            self.nodes[id(call.result)] = made
        else:
            for k, part in enumerate(call.outputs):
                self.nodes[id(part)] = self.call(operator.getitem, made, k)


class Tapes:
    """The steps of a state, by their kind."""

    def __init__(self) -> None:
        self.recorded: dict[Hashable, list[Step]] = {}
        self.made: dict[Hashable, Callable[[Tensor], Tensor]] = {}
        self.phase: object = None

    def step(
        self,
        phase: object,
        kind: Hashable,
        x: Tensor,
        evaluate: Callable[[Tensor], Tensor],
        make: Callable[[Step], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        """Evaluate a step, by its tape once two steps of its kind were the same program."""
        if phase != self.phase:  # all steps are other programs; it never comes back
            self.phase, self.recorded, self.made = phase, {}, {}
        if kind in self.made:
            return self.made[kind](x)
        x = x.clone()
        with Tape() as tape:
            made = evaluate(x)
        steps = self.recorded.setdefault(kind, [])
        steps.append(Step(x, tape.calls, made))
        if len(steps) > 1 and same_program(*steps[-2:]):
            self.made[kind] = make(steps[-1])
        elif len(steps) > 3:  # steps of this model differ
            self.made[kind] = evaluate
        if kind in self.made:
            del self.recorded[kind]
        return made.clone()
