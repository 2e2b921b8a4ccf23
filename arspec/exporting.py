"""One step of a sampler as a module without memory: what it keeps goes in and comes out.

A step that changes a buffer of its module is exported to ONNX without an error, and the change is
lost. Here the layers run as in `model.step`, on a copy of what the inputs say they kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def exportable(model: nn.Module, state: Any) -> tuple[Step, tuple[Tensor, ...]]:
    """The step of a model with one axis, for `torch.export`, and the inputs that continue `state`.

    `state` is that of `model.start(batch, prompt, shape=(length,), ...)` before its first step. Of
    conditions that arrive it has to know what this step needs. Batch size and length are those of
    `state`, and no position before it is drawn: there, windows reach over the first position, and a
    step takes other branches.

    Raises: ValueError if the model is in training mode, has several axes, several drawings per
    position or no schedule; if the length of `state` is not known or its prompt too short.
    """
    if model.training:
        raise ValueError("the model is in training mode: call `model.eval()`")
    if len(getattr(state, "shape", ())) != 1:
        raise ValueError("only one axis, one drawing per position and a derived schedule export")
    if state.shape[0] is None:
        raise ValueError("the length is not known: `model.start(..., shape=(length,))`")
    if state.prev is None:
        raise ValueError("the state has made a step: needed is one of `model.start`")
    known, later = state.at[0], after(model, state)
    if known + min(offsets(state)) < 0 or shapes(state) != shapes(later):
        raise ValueError(f"a prompt of {known} is too short: not every layer has read one")
    step = Step(model, state).eval()
    return step, step.inputs(state)


class Step(nn.Module):
    """`forward(x_prev, position, *kept, *arriving, *given) -> (params, *kept)`, no side effects.

    `x_prev`, (B,) or (B, C), is what was drawn at the position before; `position`, (1,) and int64,
    is what `state.at` says, from `first` to `last`; `params` are those of `model.step`. The tensors
    kept replace those of the step before; those arriving are the newest values of conditions, as
    `model.step` takes them; those given (other conditions, and what follows from them) stay the
    same. `kept_names`, `arriving_names` and `given_names` are their names.
    """

    def __init__(self, model: nn.Module, state: Any) -> None:
        super().__init__()
        self.model, self.template = model, state.clone()
        self.template.compiles = True  # attention meets all positions, those to come masked
        self.params = model.step(None, state.clone())[0].shape[1:]  # type: ignore[operator]
        # Layers that read ahead take another branch where that would be behind the last position.
        self.first, self.last = state.at[0], state.shape[0] - 1 - max(offsets(state))
        self.kept_names = [name for name, _, _ in kept(state)]
        self.arriving_names = [arrival.name for arrival in arriving(state)]
        whole = [name for name in state.conditions if name not in self.arriving_names]
        self.conditions = [name for name in whole if reads(model, state, name)]
        self.given_names = [name for name, _ in given(state, self.conditions)]

    def inputs(self, state: Any) -> tuple[Tensor, ...]:
        """What continues a state of the same batch size and length: another prompt, conditions."""
        position = torch.tensor(state.at, device=state.like.device)
        tensors = [state.prev[..., 0], position]
        tensors += [getattr(owner, name) for _, owner, name in kept(state)]
        begun = state.clone()
        begun.begin()
        tensors += [arrival.newest.reshape(arrival.shape) for arrival in arriving(begun)]
        tensors += [tensor for _, tensor in given(state, self.conditions)]
        # Fresh ones, for an export takes two inputs that are one tensor for one; contiguous, for
        # AOTInductor reads every later input in the layout of the first.
        return tuple(t.clone(memory_format=torch.contiguous_format) for t in tensors)

    def forward(self, x_prev: Tensor, position: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        at: Any = position.item()  # while it is exported, a symbol
        torch._check(at >= self.first)  # type: ignore[no-untyped-call]
        torch._check(at <= self.last)  # type: ignore[no-untyped-call]
        state = self.template.clone()  # a step like all others: only the tensor says where
        state.position, state.prev = position, None
        following = iter(tensors)
        for _, owner, name in kept(state):
            setattr(owner, name, next(following).clone())  # the step writes into it
        for arrival in arriving(state):
            value = next(following).reshape(arrival.newest.shape)
            state.conditions = state.conditions | {arrival.name: value}
        for name, (loop, values) in state.opened.items():
            state.opened[name] = (loop, refilled(values, following))
        state.conditions = state.conditions | {name: next(following) for name in self.conditions}
        params = state.evaluate(self.model, state.newest(x_prev))
        params = params.reshape(state.batch, *self.params)
        return (params, *(getattr(owner, name).contiguous() for _, owner, name in kept(state)))


def offsets(state: Any) -> list[int]:
    """Where, from the position drawn (0), x_prev (-1) and the newest inputs of layers stand."""
    return [0, -1, *(cache.source[0] for cache in state.caches.values())]


def after(model: nn.Module, state: Any) -> Any:
    """The state a step later, the given one untouched."""
    return model.step(None, state.clone())[1]  # type: ignore[operator]


def reads(model: nn.Module, state: Any, name: str) -> bool:
    """Whether a step still reads a condition: then it fails, or tells nothing, without numbers."""
    other = state.clone()
    other.conditions = other.conditions | {name: other.conditions[name].to("meta")}
    try:
        params: Tensor = model.step(None, other)[0]  # type: ignore[operator]
    except RuntimeError:  # known and unknown numbers do not mix
        return True
    return params.is_meta


def kept(state: Any) -> Iterator[tuple[str, Any, str]]:
    """The tensors that a step changes: a name, what holds it, the attribute there."""
    for place, cache in state.caches.items():
        for attribute in cache.moving:
            if getattr(cache, attribute) is not None:
                yield f"{place}.{attribute}", cache, attribute
    for number, ring in enumerate(state.rings):
        yield f"rings.{number}", ring, "ring"


def arriving(state: Any) -> list[Any]:
    """The conditions of which each step brings the newest value."""
    return list(getattr(state, "arrivals", ()))


def shapes(state: Any) -> list[tuple[str, torch.Size]]:
    """The names and shapes of those tensors."""
    return [(name, getattr(owner, attribute).shape) for name, owner, attribute in kept(state)]


def given(state: Any, conditions: list[str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors that stay the same: what was computed once, and conditions."""
    for name, (_, values) in state.opened.items():
        for number, tensor in enumerate(flat(values)):
            yield f"{name}.{number}", tensor
    for name in conditions:
        yield name, state.conditions[name]


def flat(values: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples."""
    if isinstance(values, tuple):
        for value in values:
            yield from flat(value)
    else:
        yield values


def refilled(values: Any, following: Iterator[Tensor]) -> Any:
    """Nested tuples with other tensors."""
    if isinstance(values, tuple):
        return tuple(refilled(value, following) for value in values)
    return next(following)
