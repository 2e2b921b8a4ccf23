"""Which outputs of a module depend on which inputs, measured.

The evidence that stands beside the proof: it looks at nothing but the module's behaviour. One
probe is never enough, for gradients miss what is not differentiable (argmax, where, detach) or dead
at the present weights (a ReLU, a projection that starts at zero), and perturbations lose a
dependency that is too faint for a difference. So both are taken, in float64, at several redraws of
all parameters, and their union counts.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SEEDS = (11, 23, 37, 53)
SCALES = (3.0, 30.0)
"""A perturbation's size; the second one passes thresholds that the first does not reach."""
FAINT = 1e-11
"""What lies below this fraction of the largest response is rounding, not dependence."""


def dependency(
    module: nn.Module,
    x: Tensor,
    conditions: Mapping[str, Tensor] | None = None,
    *,
    of: str | None = None,
    joint: bool = False,
    classes: int | None = None,
    outputs: Sequence[int] | None = None,
    seeds: tuple[int, ...] = SEEDS,
    faint: float = FAINT,
    perturb: bool = True,
) -> Tensor:
    """Which output positions depend on which positions of an input, (outputs, inputs), bool.

    `module(x, **conditions)` must return (batch, *positions, parameters). `of` names the condition
    to be measured (default: `x`), of shape (batch, *positions); if `joint`, (batch, channels,
    *positions) with the channels drawn together, which then count as one position. Positions are
    flattened in the order of the tensor's dimensions.

    An integer input is perturbed by other symbols below `classes` (default: the largest one
    present, plus one), and its gradient is taken where it is first read as a number.

    For causality keep `faint`; for a receptive field, where the far end of a long chain is fainter
    than any rounding, set it to 0: then every gradient that is not zero counts. `perturb=False`
    leaves out the perturbations, for modules that are known to be differentiable, and `outputs`
    takes gradients of these output positions only.

    The module itself is left as it is.
    """
    inputs = {name: _double(value) for name, value in dict(conditions or {}, **{"": x}).items()}
    probe = _Probe(copy.deepcopy(module).double().eval(), inputs, of or "", joint)

    found: Tensor | None = None
    with plain_kernels(), _kept_generator():
        for seed in seeds:
            randomise(probe.module, seed)
            seen = _gradients(probe, seed, outputs, classes, faint)
            if perturb:
                seen |= _perturbations(probe, seed, classes)
            found = seen if found is None else found | seen
    if found is None:
        raise ValueError("`seeds` is empty: nothing was measured")
    return found


def randomise(module: nn.Module, seed: int) -> None:
    """Redraw every parameter, weights to the scale of their inputs; buffers stay, for masks."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(drawn / fan_in**0.5)


class _Probe:
    """Runs a module on its inputs with one of them replaced, reseeding before each run."""

    def __init__(
        self, module: nn.Module, inputs: Mapping[str, Tensor], of: str, joint: bool
    ) -> None:
        self.module = module
        self.inputs = inputs
        self.of = of
        self.positions = (self.measured[0, 0] if joint else self.measured[0]).numel()
        for parameter in module.parameters():
            parameter.requires_grad_(
                False
            )  # so that whatever needs a gradient comes from the input

    @property
    def measured(self) -> Tensor:
        return self.inputs[self.of]

    def changed_at(self, position: int | Tensor, other: Tensor) -> Tensor:
        """The measured input, one position or several of it as in `other`."""
        shape = (self.measured.shape[0], -1, self.positions)
        changed = self.measured.clone().reshape(shape)
        changed[:, :, position] = other.reshape(shape)[:, :, position]
        return changed.reshape(self.measured.shape)

    def __call__(self, measured: Tensor, seed: int) -> Tensor:
        """The output as (batch, positions, parameters)."""
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: that asks every backend
        inputs = dict(self.inputs, **{self.of: measured})
        x = inputs.pop("")
        return self.module(x, **inputs).flatten(1, -2)  # type: ignore[no-any-return]


def _gradients(
    probe: _Probe, seed: int, outputs: Sequence[int] | None, classes: int | None, faint: float
) -> Tensor:
    """One backward pass per output position, with a random cotangent."""
    if probe.measured.is_floating_point():
        leaves = [probe.measured.detach().clone().requires_grad_()]
        output = probe(leaves[0], seed)
        elements = torch.arange(leaves[0].numel())
        owners = [(elements % probe.positions, elements)]
    else:
        with _Reading() as reading:
            output = probe(probe.measured, seed)
        leaves = reading.leaves
        owners = _owners(probe, seed, leaves, classes)

    seen = torch.zeros(output.shape[1], probe.positions, dtype=torch.bool)
    if not output.requires_grad:
        return seen
    generator = torch.Generator().manual_seed(seed)
    for position in range(output.shape[1]) if outputs is None else outputs:
        here = output[:, position]
        cotangent = torch.randn(here.shape, generator=generator, dtype=here.dtype)
        gradients = torch.autograd.grad(
            here, leaves, cotangent, retain_graph=True, allow_unused=True
        )
        known = [gradient for gradient in gradients if gradient is not None]
        largest = max((g.nan_to_num().abs().max() for g in known if g.numel()), default=0.0)
        for gradient, (owner, element) in zip(gradients, owners, strict=True):
            if gradient is not None:
                above = (gradient.abs() > faint * largest) | gradient.isnan()
                seen[position, owner[above.flatten()[element]]] = True
    return seen


class _Enough(Exception):
    """All that was to be read has been read."""


class _Reading(TorchFunctionMode):
    """Collects the numbers that are read from integers: embeddings, one-hots, scalings.

    They become leaves, for gradients. With a `limit` the run ends by `_Enough` after that many.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.leaves: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.requires_grad:
            return out
        if not any(_symbolic(value) for value in _tensors((args, kwargs))):
            return out
        self.leaves.append(out.detach().requires_grad_())
        if len(self.leaves) == self.limit:
            raise _Enough
        return self.leaves[-1]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _symbolic(value: Tensor) -> bool:
    return not value.is_floating_point() and value.dtype is not torch.bool


def _owners(
    probe: _Probe, seed: int, leaves: list[Tensor], classes: int | None
) -> list[tuple[Tensor, Tensor]]:
    """Pairs (position, element), per leaf: what was read from a position changes with it."""
    everything = _changed(probe.measured, seed, classes)[0]  # each symbol into one other symbol
    touched = [
        i
        for i, (leaf, other) in enumerate(zip(leaves, _read(probe, everything, seed), strict=True))
        if not torch.equal(leaf, other)
    ]
    nothing = torch.zeros(0, dtype=torch.long)
    pairs = [(nothing, nothing) for _ in leaves]
    if not touched:
        return pairs

    def differs(positions: Tensor) -> list[Tensor]:
        """Which elements of the touched leaves change with these positions, flattened."""
        changed = probe.changed_at(positions, everything)
        found = _read(probe, changed, seed, touched[-1] + 1)
        return [(leaves[i] != found[i]).flatten() for i in touched]

    for i, owner in zip(touched, _single_owners(probe.positions, differs), strict=True):
        if owner is not None:
            element = (owner >= 0).nonzero()[:, 0]
            pairs[i] = owner[element], element
    shared = [k for k, i in enumerate(touched) if not len(pairs[i][0])]
    if shared:
        found = [differs(torch.tensor([position])) for position in range(probe.positions)]
        for k in shared:
            position, element = torch.stack([one[k] for one in found]).nonzero().unbind(1)
            pairs[touched[k]] = position, element
    return pairs


def _single_owners(
    positions: int, differs: Callable[[Tensor], list[Tensor]]
) -> list[Tensor | None]:
    """Per leaf the position that each element is read from, -1 for none.

    Two runs per binary digit of the position: an element changes with the positions that have a 1
    there, or with those that have a 0. Where it changes with both, or once with neither, it is
    read from several positions, and the leaf is None.
    """
    every = torch.arange(positions)
    owners: list[Tensor] = []
    single: list[bool] = []
    for digit in range(max(1, (positions - 1).bit_length())):
        one = (every >> digit) & 1
        with_one, with_zero = differs(every[one == 1]), differs(every[one == 0])
        if not owners:
            owners = [torch.where(a | b, 0, -1) for a, b in zip(with_one, with_zero, strict=True)]
            single = [True] * len(owners)
        for k, (a, b) in enumerate(zip(with_one, with_zero, strict=True)):
            single[k] &= bool(((a ^ b) == (owners[k] >= 0)).all() and not (a & b).any())
            owners[k] += a.long() << digit
    return [owner if alone else None for owner, alone in zip(owners, single, strict=True)]


def _read(probe: _Probe, measured: Tensor, seed: int, limit: int | None = None) -> list[Tensor]:
    """The numbers that the module reads from its integers, no more of them than `limit`."""
    reading = _Reading(limit)
    with reading, suppress(_Enough):
        probe(measured, seed)
    return reading.leaves


def _perturbations(probe: _Probe, seed: int, classes: int | None) -> Tensor:
    """One forward per changed position: in a larger batch the rounding would differ too."""
    with torch.no_grad():
        base = probe(probe.measured, seed)
        seen = torch.zeros(base.shape[1], probe.positions, dtype=torch.bool)
        for position, changed in _changes(probe, seed, classes):
            moved = (probe(changed, seed) - base).abs()
            scale = torch.maximum(moved.nan_to_num().max(), base.nan_to_num().abs().max())
            above = (moved > FAINT * scale) | moved.isnan()
            seen[:, position] |= above.any(2).any(0)
    return seen


def _changes(probe: _Probe, seed: int, classes: int | None) -> Iterator[tuple[int, Tensor]]:
    """The input with one position changed, in several ways, each row by its own amount."""
    others = _changed(probe.measured, seed, classes)
    for position in range(probe.positions):
        for other in others:
            yield position, probe.changed_at(position, other)


def _changed(measured: Tensor, seed: int, classes: int | None) -> list[Tensor]:
    """The input with every position changed, in several ways."""
    generator = torch.Generator().manual_seed(seed)
    if measured.is_floating_point():
        amounts = 0.5 + torch.rand(measured.shape, generator=generator, dtype=measured.dtype)
        return [measured + sign * scale * amounts for scale in SCALES for sign in (1, -1)]
    classes = classes or int(measured.max()) + 1
    most = max(2, classes)
    steps = [torch.randint(1, most, measured.shape, generator=generator) for _ in range(2)]
    return [(measured + step) % classes for step in steps]


def _double(value: Tensor) -> Tensor:
    return value.detach().double() if value.is_floating_point() else value.detach()


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Without oneDNN, whose blocked kernels mix positions in their rounding, and in one thread:
    the tensors are small, and threads that wait for each other cost more than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # switching it off warns about a setting of Intel GPUs
            with torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _kept_generator() -> Iterator[None]:
    """Leave the global random numbers of the caller as they were."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
