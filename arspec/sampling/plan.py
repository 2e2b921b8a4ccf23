"""From options and a spec to a plan: what is drawn, of what size, given what. Without torch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arspec.declarations import Declared
from arspec.diagnostics import SpecError, error, nearest_name
from arspec.files import require_writable
from arspec.sampling import formats, inputs
from arspec.sampling.inputs import Value
from arspec.sampling.options import Options

if TYPE_CHECKING:
    from arspec.compiler import Analysis

MAX_NUMBERS = 200_000_000  # in all samples together
RATE = 16_000


@dataclass(frozen=True)
class Plan:
    """All that is settled before the model exists. `shape` counts positions on each axis."""

    target: Declared
    batch: int
    shape: tuple[int, ...]
    conditions: Mapping[str, Value]
    prompt: Value | None
    observed: Value | None
    format: str
    paths: tuple[str, ...]
    rate: int


def plan(analysis: Analysis, options: Options) -> Plan:
    """Read every input and check that all of it fits. Raises SpecError AR612 to AR618."""
    model = analysis.model
    if len(model.generated) > 1:
        raise _refused("AR501", what="a sample of several variables at once")
    target = model.variables[model.generated[0]]
    kind, output = formats.choose(target, options.format, options.output, analysis.spec.name)
    declared = {name: model.variables[name] for name in model.conditions}
    conditions = _conditions(declared, options.given)
    prompt, observed = _prompt(target, options)
    limits = model.terms[0].limits
    shape = _shape(target, options, conditions, declared, prompt, observed, limits)
    for name, value in conditions.items():
        _check_lengths(target, shape, declared[name], value, limits)
    _check_prompt(target, shape, prompt, observed)
    batch = _batch(target, options.number, conditions, prompt, observed)
    if batch * math.prod(shape) * inputs.channel_count(target) > MAX_NUMBERS:
        what = f"{batch} x {_text(shape)} are more than {MAX_NUMBERS:,} numbers"
        raise _refused("AR616", variable=target.name, reason=what)
    rate = _rate(target, kind, options.rate, prompt)
    paths = formats.paths(target, kind, output, batch)
    _check_paths(paths, options)
    return Plan(target, batch, shape, conditions, prompt, observed, kind, paths, rate)


# --- inputs ---------------------------------------------------------------------------


def _conditions(declared: Mapping[str, Declared], given: Mapping[str, str]) -> dict[str, Value]:
    """Every condition of the model, each once."""
    errors = []
    for name in given:
        if name not in declared:
            near = nearest_name(name, declared)
            known = f"the conditions are {', '.join(declared)}" if declared else "it has none"
            help = f"did you mean `{near}`?" if near else known
            errors.append(error("AR615", None, name=name, help=help))
    for name, variable in declared.items():
        if name not in given:
            value = "0" if variable.kind != "features" and not variable.axes else f"{name}.npy"
            help = f"such as `--given {name}={value}`"
            what = inputs.describe(variable)
            errors.append(error("AR614", None, name=name, what=what, help=help))
    if errors:
        raise SpecError(errors)
    return {name: inputs.condition(declared[name], given[name]) for name in declared}


def _prompt(target: Declared, options: Options) -> tuple[Value | None, Value | None]:
    if options.prompt is None:
        if options.observed is not None:
            reason = "it says which positions of a `--prompt` are known"
            raise _refused("AR617", option="`--observed`", reason=reason)
        return None, None
    prompt = inputs.from_file("`--prompt`", target, options.prompt)
    observed = inputs.mask(target, options.observed) if options.observed is not None else None
    return prompt, observed


def _batch(
    target: Declared,
    number: int | None,
    conditions: Mapping[str, Value],
    prompt: Value | None,
    observed: Value | None,
) -> int:
    """How many are drawn: as many as asked for, or as there are rows in the inputs, or one."""
    given = {f"`--given {name}`": value for name, value in conditions.items()}
    given |= {"`--prompt`": prompt} if prompt else {}
    given |= {"`--observed`": observed} if observed else {}
    for option, value in given.items():
        if value.rows is None:
            continue
        number = value.rows if number is None else number
        if value.rows != number:
            reason = f"it has {value.rows} rows, and {number} are drawn"
            raise _refused("AR613", option=option, variable=target.name, reason=reason)
    return 1 if number is None else number


def _rate(target: Declared, kind: str, rate: int | None, prompt: Value | None) -> int:
    """Samples a second of WAV files: as asked for, or as in the prompt."""
    found = prompt.rate if prompt else None
    if rate is not None and kind != "wav":
        raise _refused("AR617", option="`--rate`", reason=f"the output is {kind}, not wav")
    if rate is not None and found not in (None, rate):
        reason = f"it has {found} samples a second, not {rate}"
        raise _refused("AR613", option="`--prompt`", variable=target.name, reason=reason)
    return rate or found or RATE


def _check_paths(paths: tuple[str, ...], options: Options) -> None:
    """Every output can be written, and none is an input: said before anything is drawn."""
    read = [options.spec, options.weights, options.prompt, options.observed]
    inputs_ = [path for path in (*read, *options.given.values()) if path and os.path.isfile(path)]
    for path in paths:
        if path == formats.STDOUT:
            continue
        if os.path.isfile(path) and any(os.path.samefile(path, other) for other in inputs_):
            raise _refused("AR621", name=path)
        require_writable(path)


# --- sizes ----------------------------------------------------------------------------


def _shape(
    target: Declared,
    options: Options,
    conditions: Mapping[str, Value],
    declared: Mapping[str, Declared],
    prompt: Value | None,
    observed: Value | None,
    limits: Mapping[str, int],
) -> tuple[int, ...]:
    """The shape that was asked for, or that follows from what else was given. Raises AR616."""
    shape = options.shape
    if not shape:
        given = {name: value.lengths(declared[name]) for name, value in conditions.items()}
        shape = tuple(
            _implied(target, k, options, given, declared, prompt, observed, limits)
            for k in range(len(target.axes))
        )
    if options.max_length is not None:
        if len(target.axes) > 1:
            reason = f"`{target.name}` has several axes; their lengths are its `--shape`"
            raise _refused("AR617", option="`--max-length`", reason=reason)
        shape = tuple(min(size, options.max_length) for size in shape)
    if len(shape) != len(target.axes):
        reason = f"{_text(shape)} is no shape for the axes {', '.join(target.axes)}"
        raise _refused("AR616", variable=target.name, reason=reason)
    for (axis, stride), size in zip(target.grid, shape, strict=True):
        longest = -(-limits[axis] // int(stride)) if axis in limits else size
        if size > longest:
            reason = f"the model knows {longest:,} positions along `{axis}`, not {size:,}"
            raise _refused("AR616", variable=target.name, reason=reason)
    return shape


def _implied(
    target: Declared,
    k: int,
    options: Options,
    given: Mapping[str, tuple[int, ...]],
    declared: Mapping[str, Declared],
    prompt: Value | None,
    observed: Value | None,
    limits: Mapping[str, int],
) -> int:
    """The length of axis k where `--shape` does not say it."""
    axis, stride = target.grid[k]
    if prompt is not None and (observed is not None or k > 0):
        return prompt.lengths(target)[k]
    if options.max_length is not None and len(target.axes) == 1:
        return options.max_length
    for name, lengths in given.items():
        for (other, clock), length in zip(declared[name].grid, lengths, strict=True):
            if other == axis:
                return max(int(length * clock // stride), 1)
    if axis in limits:
        return -(-limits[axis] // int(stride))
    example = "28x28" if len(target.axes) == 2 else "x".join(["16"] * len(target.axes))
    example = "1000" if len(target.axes) == 1 else example
    reason = f"nothing says how long it is along `{axis}`"
    found = error(
        "AR616", None, variable=target.name, reason=reason, help=f"such as `--shape {example}`"
    )
    raise SpecError([found])


def _check_lengths(
    target: Declared,
    shape: tuple[int, ...],
    variable: Declared,
    value: Value,
    limits: Mapping[str, int],
) -> None:
    """A condition covers every position that is drawn, and no table is too short for it."""
    own = dict(zip(target.axes, shape, strict=True))
    strides = dict(target.grid)
    for (axis, clock), length in zip(variable.grid, value.lengths(variable), strict=True):
        reason = ""
        if axis in own:
            needed = int(own[axis] * strides[axis])
            covered = int(length * clock)
            same = clock == strides[axis]
            if covered < needed or (same and covered > needed):
                reason = f"it covers {covered:,} positions along `{axis}`, and {needed:,} are drawn"
        elif length > limits.get(axis, length):
            reason = f"the model knows {limits[axis]:,} positions along `{axis}`, not {length:,}"
        elif length < 1:
            reason = f"it is empty along `{axis}`"
        if reason:
            option = f"`--given {variable.name}`"
            raise _refused("AR613", option=option, variable=variable.name, reason=reason)


def _check_prompt(
    target: Declared, shape: tuple[int, ...], prompt: Value | None, observed: Value | None
) -> None:
    """A prompt is a beginning of the sample or, with a mask, all of it; something is left over."""
    if prompt is None:
        return
    found, reason, option = prompt.lengths(target), "", "`--prompt`"
    if observed is not None:
        if found != shape:
            reason = f"with `--observed` it is {_text(shape)}, not {_text(found)}"
        elif observed.lengths(target) != shape:
            option = "`--observed`"
            reason = f"it is {_text(observed.lengths(target))}, the prompt {_text(shape)}"
        elif bool(np.all(observed.array)):
            option, reason = "`--observed`", "every position is known: nothing is left to draw"
    elif found[1:] != shape[1:]:
        whole = _text((found[0], *shape[1:]))
        reason = f"it is {_text(found)}, and the first {target.axes[0]}s would be {whole}"
    elif found[0] >= shape[0]:
        reason = f"it has {found[0]:,} of {shape[0]:,} positions: nothing is left to draw"
    if reason:
        raise _refused("AR613", option=option, variable=target.name, reason=reason)


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _refused(code: str, **fields: Any) -> SpecError:
    return SpecError([error(code, None, **fields)])
