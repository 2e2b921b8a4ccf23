"""The whole command as one straight function."""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from arspec.diagnostics import Diagnostic, SpecError, error, note, printable
from arspec.files import write_bytes
from arspec.origin import origin_of
from arspec.sampling import formats
from arspec.sampling.options import Options, Outcome
from arspec.sampling.plan import Plan, plan
from arspec.sampling.progress import bar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from arspec.compiler import Analysis
    from arspec.weights import Header


def sample(options: Options) -> Outcome:
    """Draw samples and write them. Raises SpecError."""
    analysis, header = _analysis(options)
    planned = plan(analysis, options)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    with _torch_errors():
        model = _model(analysis, options, header, seed)
        controls = _controls(model, planned, options)
        began = time.monotonic()
        x = _draw(model, planned, controls, options.device, seed)
        seconds = time.monotonic() - began
    written = _write(model, planned, x)
    return Outcome(
        f"{analysis.spec.name}: {_counted(planned)} in {seconds:.1f} s",
        (("seed", str(seed)), ("wrote", written)),
        tuple(_notes(analysis, header)),
    )


# --- the model ------------------------------------------------------------------------


def _analysis(options: Options) -> tuple[Analysis, Header | None]:
    """The spec, proven causal, and what the weights file holds, if there is one."""
    from arspec import compiler, weights

    if options.spec.lower().endswith(weights.SUFFIX):
        header = weights.read_header(options.spec)
        for option, given in (("`--set`", options.params), ("`--weights`", options.weights)):
            if given:
                reason = f"`{options.spec}` holds spec, parameters and weights"
                raise SpecError([error("AR617", None, option=option, reason=reason)])
        return weights.stored_analysis(header), header
    analysis = compiler.require_causal(compiler.analyse(options.spec, options.params))
    given = options.weights
    return analysis, weights.read_header(given) if given is not None else None


def _model(analysis: Analysis, options: Options, header: Header | None, seed: int) -> nn.Module:
    """The model with its weights, on its device."""
    import torch

    from arspec import builder, weights

    device = _device(options.device)
    if header is not None:
        weights.refuse_hopeless(header, analysis)
    torch.manual_seed(seed)  # of random parameters
    model = builder.instantiate(analysis)
    if header is not None:
        weights.fill(model, header, analysis.spec.name)
        for name, tensor in model.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise SpecError([error("AR611", None, tensor=name, name=header.name)], header.name)
    return model.to(device)


def _device(name: str) -> Any:
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ValueError) as found:
        reason = str(found).splitlines()[0] if str(found) else type(found).__name__
        raise SpecError([error("AR620", None, name=name, reason=reason)]) from None
    return device


# --- drawing --------------------------------------------------------------------------


def _controls(model: Any, planned: Plan, options: Options) -> dict[str, Any]:
    """The optional arguments of `sample` that were given. Raises AR617 for those it lacks."""
    takes = inspect.signature(model.sample).parameters
    controls: dict[str, Any] = {
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_length": options.min_length,
        "compile": options.compile or None,
    }
    given = {name: value for name, value in controls.items() if value is not None}
    for name in given:
        reason = ""
        if name == "min_length" and planned.target.end is None:
            reason = f"`{planned.target.name}` has no `end` that could come too early"
        elif name not in takes and name in ("top_k", "top_p"):
            reason = "the head does not draw from a list of classes"
        elif name not in takes:
            reason = "the sampler of this model does not have it"
        if reason:
            option = f"`--{name.replace('_', '-')}`"
            raise SpecError([error("AR617", None, option=option, reason=reason)])
    return {**given, "temperature": options.temperature}


def _draw(
    model: Any, planned: Plan, controls: dict[str, Any], device_name: str, seed: int
) -> Tensor:
    """(batch, [channels,] *axes), on the CPU."""
    import torch

    device = torch.device(device_name)

    def rows(array: Any) -> Tensor:
        return (
            torch.from_numpy(array).expand(planned.batch, *array.shape[1:]).contiguous().to(device)
        )

    arguments: dict[str, Any] = {name: rows(v.array) for name, v in planned.conditions.items()}
    if planned.prompt is not None:
        prompt = rows(planned.prompt.array)
        arguments["prompt"] = model.encode(prompt) if planned.prompt.wave else prompt
    if planned.observed is not None:
        arguments["observed"] = rows(planned.observed.array)
    generator = torch.Generator(device=device).manual_seed(seed)
    with bar("drawing") as report:
        if report is not None and "progress" in inspect.signature(model.sample).parameters:
            arguments["progress"] = report
        drawn: Tensor = model.sample(
            planned.batch, shape=planned.shape, generator=generator, **arguments, **controls
        )
    drawn = drawn.cpu()
    if drawn.is_floating_point() and not torch.isfinite(drawn).all():
        raise ValueError("the samples are not finite")
    return drawn


@contextlib.contextmanager
def _torch_errors() -> Iterator[None]:
    """What stops PyTorch is AR619: too little memory, tensors that do not meet."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError, MemoryError) as found:
        if os.environ.get("ARSPEC_DEBUG"):
            raise
        words = " ".join(str(found).split()) or type(found).__name__
        notes = [words[:300]] if len(words) > 80 else []
        raise SpecError([error("AR619", None, reason=words, notes=notes)]) from None


# --- writing --------------------------------------------------------------------------


def _write(model: Any, planned: Plan, x: Tensor) -> str:
    """Write the files, each whole or not at all; say which they are."""
    import torch

    def decode(row: Any) -> Any:
        raw = model.decode(torch.from_numpy(row))
        return raw if isinstance(raw, bytes) else raw.numpy()

    numbers = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    contents = formats.contents(planned.target, planned.format, numbers, decode, planned.rate)
    if planned.paths == (formats.STDOUT,):
        _print(contents[0])
        return "standard output"
    for path, data in zip(planned.paths, contents, strict=True):
        write_bytes(path, data)
    first, last = planned.paths[0], planned.paths[-1]
    return first if first == last else f"{first} ... {last}"


def _print(data: bytes) -> None:
    """To standard output; on a terminal nothing that could steer it."""
    if sys.stdout.isatty():
        lines = data.decode(errors="backslashreplace").split("\n")
        print("\n".join(map(printable, lines)))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def _counted(planned: Plan) -> str:
    """In words: "16 samples of 28x28"."""
    plural = "s" if planned.batch > 1 else ""
    return f"{planned.batch:,} sample{plural} of {'x'.join(map(str, planned.shape))}"


def _notes(analysis: Analysis, header: Header | None) -> Iterator[Diagnostic]:
    """What is true of the samples although nothing went wrong."""
    name = analysis.spec.name
    if header is None:
        yield note("AR903", None, name=name)
    elif header.origin is not None and header.origin.hash != origin_of(analysis).hash:
        yield note("AR904", None, name=header.name, spec=name)
