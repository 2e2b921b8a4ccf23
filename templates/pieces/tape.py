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
LAYOUT = {
    "__get__",
    "__len__",
    "dim",
    "size",
    "stride",
    "numel",
    "is_floating_point",
    "is_contiguous",
}
# Functions that draw numbers.
DRAWS = {"rand", "randn", "randint", "bernoulli", "multinomial", "dropout"}

# What takes time and has a form with `out`.
PRODUCTS = {"addmm", "baddbmm", "mm", "bmm"}
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
    def attribute(self) -> str:
        """What it gets, if it is the `__get__` of an attribute."""
        return str(self.function.__self__.__name__) if self.name == "__get__" else ""

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
    def opaque(self) -> bool:
        """Whether it asks what a tensor holds, so that what follows may depend on it."""
        return not (self.outputs or self.in_place or self.name in LAYOUT)


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
    """A recorded step: the newest x, the calls, the parameters that come of it."""

    x: Tensor
    calls: list[Call]
    params: Tensor


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


def again(call: Call) -> Callable[[], Any]:
    """The call once more, with its result where it was."""
    function, args, kwargs, result = call
    if call.in_place:
        return partial(function, *args, **kwargs)
    if call.name == "linear":
        x, weight, *bias = args
        flat, out = x.reshape(-1, x.shape[-1]), result.view(-1, result.shape[-1])
        if len(flat) == 1 and len(weight) > 2 * len(weight.t()):  # faster if packed by inputs
            weight = weight.t().contiguous().t()
        if storage(flat) == storage(x) and bias and bias[0] is not None:
            return partial(torch.addmm, bias[0], flat, weight.t(), out=out)
        if storage(flat) == storage(x):
            return partial(torch.mm, flat, weight.t(), out=out)
    if call.name == "relu":
        return partial(torch.clamp_min, args[0], 0, out=result)
    if call.name == "to":
        return partial(result.copy_, args[0])
    if call.name == "one_hot":
        symbols = torch.arange(result.shape[-1], device=result.device)
        return partial(torch.eq, args[0].unsqueeze(-1), symbols, out=result)
    if call.name in PRODUCTS:
        return partial(getattr(torch, call.name), *args, **kwargs, out=result)
    if call.name in SLOW:
        return partial(copied, call)
    if call.name in ("add", "sub", "mul", "div") and isinstance(args[-1], int | float):
        number = torch.tensor(args[-1], dtype=result.dtype, device=result.device)
        args = (*args[:-1], number)  # a number of Python's is made a tensor at every call
    forms: list[Any] = [function, getattr(torch, call.name, function)]
    for form in forms:
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
    calls = [again(call) for call in lasting(step.calls)]

    def run(x: Tensor) -> Tensor:
        step.x.copy_(x)
        for call in calls:
            call()
        return step.params.clone()

    return run


def one_row(call: Call) -> bool:
    """Whether it is a product of a single row (of each matrix of a batch) and a matrix."""
    if call.name == "linear":
        return bool(call.args[0].numel() == call.args[0].shape[-1])
    return call.name in ROWS and bool(call.args[1].shape[-2] == 1)


def row_times(x: Tensor, weight: Tensor) -> Tensor:
    """x (1, k) @ weight (k, n) as a sum: compiled, it joins the operations around it."""
    return (x.transpose(-1, -2) * weight).sum(-2, keepdim=True)


def row_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` on one position."""
    y = (weight * x.reshape(-1)).sum(-1)
    return (y if bias is None else y + bias).view(*x.shape[:-1], -1)


def row_addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """`torch.addmm` or `torch.baddbmm` on one position."""
    return bias + row_times(x, weight)


# Products of one row as functions that compile into one loop with their neighbours.
ROWS = {"linear": row_linear, "addmm": row_addmm, "baddbmm": row_addmm}


def compiled(step: Step, moving: Callable[[], list[Tensor]]) -> Callable[[Tensor], Tensor]:
    """The same by torch.compile, as one graph. `moving`: what changes from step to step."""
    groups = outside(step, set(map(storage, moving())))
    key = signature(step, groups)
    if key not in Graph.compiled:  # one for all states
        options: Any = {"cpp_wrapper": True}  # else calling it takes as long as what it computes
        module = Graph(step, groups).module
        Graph.compiled[key] = torch.compile(module.forward, fullgraph=True, options=options)
    given = [group[0] if len(group) == 1 else torch.stack(group) for group in groups]
    return partial(Graph.compiled[key], *given)


def outside(step: Step, moving: set[int]) -> list[list[Tensor]]:
    """The tensors that a step finds. Those that never change are grouped by their shape.

    Such a group is given as one tensor, for a call costs by the number of its arguments.
    """
    known, alike = {id(step.x)}, dict[Hashable, list[Tensor]]()
    for call in step.calls:
        for t in call.inputs:
            if id(t) not in known:
                own = id(t) if storage(t) in moving else (t.shape, t.stride(), t.dtype)
                alike.setdefault(own, []).append(t)
                known.add(id(t))
        known.update(map(id, call.outputs))
    return list(alike.values())


def signature(step: Step, groups: list[list[Tensor]]) -> str:
    """A text that is the same for steps that compile to the same."""
    found = [t for group in groups for t in group]
    numbers = {id(t): number for number, t in enumerate([step.x, *found])}

    def said(value: Any) -> str:
        if isinstance(value, list | tuple):
            return f"[{','.join(map(said, value))}]"
        return f"t{numbers[id(value)]}" if isinstance(value, Tensor) else repr(value)

    lines = [f"{list(map(len, groups))}"]
    lines += [f"{t.shape} {t.stride()} {t.dtype} {t.device}" for t in [step.x, *found]]
    for call in step.calls:
        lines.append(f"{call.name}{call.attribute}{said([call.args, *call.kwargs.items()])}")
        for t in call.outputs:
            numbers[id(t)] = len(numbers)
    return "\n".join(lines)


class Graph:
    """A recorded step as a graph: `module(*given, x)` gives the parameters."""

    compiled: ClassVar[dict[str, Callable[..., Tensor]]] = {}

    def __init__(self, step: Step, groups: list[list[Tensor]]) -> None:
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
        self.graph.output(self.nodes[id(step.params)])
        self.module = fx.GraphModule(nn.Module(), self.graph)

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
            made = self.call(getattr, args[0], call.attribute)
        elif one_row(call):
            row: Any = ROWS[call.name]
            made = self.call(row, *args, **options)
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

    def enter(self, phase: object) -> None:
        """In another phase all steps are other programs; it never comes back."""
        if phase != self.phase:
            self.phase, self.recorded, self.made = phase, {}, {}

    def step(
        self,
        kind: Hashable,
        x: Tensor,
        evaluate: Callable[[Tensor], Tensor],
        make: Callable[[Step], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        """Evaluate a step, by its tape once two steps of its kind were the same program."""
        if kind in self.made:
            return self.made[kind](x)
        x = x.clone()
        with Tape() as tape:
            params = evaluate(x)
        steps = self.recorded.setdefault(kind, [])
        steps.append(Step(x, tape.calls, params))
        if len(steps) > 1 and same_program(*steps[-2:]):
            self.made[kind] = make(steps[-1])
        elif len(steps) > 3:  # steps of this model differ
            self.made[kind] = evaluate
        if kind in self.made:
            del self.recorded[kind]
        return params.clone()
