"""The command line: thin commands over `arspec.compiler`, each import where it is needed.

Exit status: 0 fine; 1 the spec is not causal, or a measurement disagrees; 2 not a valid spec, or
wrong usage. Never a traceback: set ARSPEC_DEBUG=1 to see one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import click

from arspec import __version__

if TYPE_CHECKING:
    from arspec.causality import Proof
    from arspec.compiler import Analysis
    from arspec.diagnostics import SpecError

FINE, REFUTED, INVALID = 0, 1, 2
MAX_POSITIONS = 2_000_000  # that a schedule is counted on
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + the signal's number, as shells report it


# --- the frame: every command ends in an exit status, none in a traceback -------------


def main() -> None:
    """The entry point of the `arspec` script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the last flush at exit is quiet too
        return BROKEN_PIPE
    return status


def _run(arguments: Sequence[str]) -> int:
    from arspec.diagnostics import SpecError

    try:
        # not `cli.main`, which would end the process at a broken pipe in its own way
        with cli.make_context("arspec", list(arguments)) as context:
            status: int = cli.invoke(context)
        return status
    except SpecError as failure:
        return report(failure)
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.ClickException as usage:
        usage.show()
        return INVALID
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as bug:
        if os.environ.get("ARSPEC_DEBUG"):
            raise
        detail = " ".join(f"{type(bug).__name__}: {bug}".split())[:300]
        say(f"internal error, please report: {detail} (ARSPEC_DEBUG=1 shows where)")
        return INVALID


def report(failure: SpecError) -> int:
    """Print what is wrong with a spec; return the exit status that it means."""
    from arspec.compiler import NotCausal
    from arspec.console import wants_color
    from arspec.diagnostics import render

    color = wants_color(sys.stderr)
    say(render(failure.diagnostics, failure.filename, failure.text, color=color).rstrip())
    return REFUTED if isinstance(failure, NotCausal) else INVALID


def say(text: str) -> None:
    """A message to the person at the terminal; results go to standard output."""
    print(text, file=sys.stderr)


# --- arguments that several commands take ---------------------------------------------


class Command(click.Command):
    """A command whose help ends in an example, printed as written."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the example."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")


def _pairs(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> dict[str, str]:
    """`NAME=VALUE`, repeated, as a dict; who uses them checks names and values."""
    settings = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (equals and name.strip() and text.strip()):
            raise click.BadParameter(f"`{value}` is not NAME=VALUE, such as width=64")
        if name.strip() in settings:
            raise click.BadParameter(f"`{name.strip()}` is set twice")
        settings[name.strip()] = text.strip()
    return settings


def _shape(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...]:
    """`32x32` as (32, 32)."""
    sizes = (value or "").split("x") if value else []
    if not all(size.isdigit() and len(size) < 8 and int(size) for size in sizes):
        raise click.BadParameter(f"`{value}` is not a shape, such as 16000 or 32x32")
    if prod(map(int, sizes)) > MAX_POSITIONS:
        raise click.BadParameter(f"`{value}` is more than {MAX_POSITIONS:,} positions")
    return tuple(map(int, sizes))


def _finite(
    context: click.Context, parameter: click.Parameter, value: float | None
) -> float | None:
    """A temperature or a probability: neither negative nor infinite, a probability in (0, 1]."""
    if value is None or 0 < value <= 1 or (parameter.name == "temperature" and 0 <= value < 1e6):
        return value
    wanted = "0 or more" if parameter.name == "temperature" else "above 0 and at most 1"
    raise click.BadParameter(f"{value} is not {wanted}")


_spec = click.argument("spec", metavar="SPEC")
_set = click.option(
    "--set",
    "params",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_pairs,
    help="Change a parameter of the spec. May be given several times.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """A compiler for deep autoregressive models.

    From a short YAML spec: a proof that no output can see its own future, a readable PyTorch
    module in one file, and samples.

    SPEC is the path of a spec, the name of a shipped one (see `arspec list`), or - for standard
    input.
    """


def _command(name: str, example: str) -> Callable[[Callable[..., int]], click.Command]:
    return cli.command(name, cls=Command, example=example)


# --- the commands ---------------------------------------------------------------------


@_command("build", "arspec build wavenet --set width=64 -o my_wavenet.py")
@_spec
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write the module; - is standard output. Default: NAME.py, in this directory.",
)
@_set
@click.option("--force", is_flag=True, help="Replace FILE even if its contents would be lost.")
def build(spec: str, output: str | None, params: dict[str, str], force: bool) -> int:
    """Prove SPEC, then write it as one Python file.

    The file is the model, readable and standalone: it needs nothing but torch. Prints what was
    proven. If an output can see its own future, nothing is written. A file that was edited by hand
    since it was generated, or that arspec never generated, is not replaced.
    """
    from arspec import compiler, console, files

    analysis = compiler.require_causal(_analyse(spec, params))
    text = compiler.emit(analysis)
    to_stdout = output == files.STDIN
    out = sys.stderr if to_stdout else sys.stdout
    if to_stdout:
        sys.stdout.write(text)
    else:
        output = output or files.module_file_name(analysis.spec.name)
        files.write_module(output, text, force=force)
    where = "standard output" if to_stdout else output
    known = [
        *_proven(analysis.proof),
        ("parameters", f"{analysis.parameter_count:,}"),
        ("wrote", f"{where}, {len(text.splitlines()):,} lines"),
    ]
    console.facts(out, _verdict(analysis.proof), True, known)
    _print_findings(analysis)
    return FINE


@_command("check-causality", "arspec check-causality wavenet my_model.yaml --json")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@_set
@click.option("--json", "as_json", is_flag=True, help="Print the proofs as JSON, with every path.")
def check_causality(specs: tuple[str, ...], params: dict[str, str], as_json: bool) -> int:
    """Prove that no output sees its own future.

    Or show the path along which one does, with the line of SPEC where the leak enters. Needs no
    weights and no torch. Prints the receptive field and the blind spots beside the verdict. With
    several specs the exit status is that of the worst.
    """
    from arspec import console
    from arspec.diagnostics import SpecError

    status, objects = FINE, []
    for ref in specs:
        try:
            analysis = _analyse(ref, params)
        except SpecError as failure:
            status = max(status, report(failure))
            objects.append(_failure_json(failure))
            continue
        proof = analysis.proof
        objects.append(proof.to_json())
        if not proof.causal:
            status = max(status, REFUTED)
        if as_json:
            continue
        console.facts(sys.stdout, _verdict(proof), proof.causal, _proven(proof))
        _print_findings(analysis)
    if as_json:
        _print_json(objects if len(objects) > 1 else objects[0])
    return status


@_command("show", "arspec show gpt2 --set depth=2")
@_spec
@_set
@click.option("--schedule", is_flag=True, help="Print the derived sampler instead.")
@click.option(
    "--shape",
    metavar="NxN",
    callback=_shape,
    help="With --schedule: how many positions are drawn, such as 16000 or 32x32.",
)
def show(spec: str, params: dict[str, str], schedule: bool, shape: tuple[int, ...]) -> int:
    """Print the layers of SPEC as a table.

    Op, shape, number of parameters, what it reads of the generated variable so far, and its mask,
    inferred or written.

    With --schedule: when each line is evaluated while a sample is drawn, what is kept of it, and
    multiply-adds per evaluated position; of a repeated block all repetitions in one row.
    """
    from arspec import compiler, console

    analysis = _analyse(spec, params)
    if schedule:
        return _show_schedule(compiler.require_causal(analysis), shape)
    if shape:
        raise click.UsageError("--shape goes with --schedule")
    columns = ("name", "op", "shape", "parameters", "reach so far", "mask")
    rows = [
        (
            row.name,
            row.op,
            row.shape,
            f"{row.parameters:,}" if row.parameters else "",
            row.reach,
            row.mask,
        )
        for row in analysis.table()
    ]
    total = f"{analysis.parameter_count:,} parameters"
    console.table(sys.stdout, columns, rows, right=("parameters",), caption=f"\n{total}")
    return FINE


@_command("list", "arspec list")
def list_specs() -> int:
    """Print the shipped specs, each with its paper."""
    from arspec import console, files, source

    rows = []
    for name in files.shipped_specs():
        found = files.find_spec(name)
        spec = source.plain(source.load(found.text, found.name))
        rows.append((name, str(spec.get("paper", ""))))
    console.table(sys.stdout, ("name", "paper"), rows)
    return FINE


@_command("verify", "arspec verify gpt2 --set depth=2")
@_spec
@_set
@click.option("--json", "as_json", is_flag=True, help="Print the measurements as JSON.")
def verify(spec: str, params: dict[str, str], as_json: bool) -> int:
    """Compile SPEC and measure what was proven.

    On the module itself, in float64, with random parameters: causality, receptive field,
    log-density, gradients, and that the sampler's steps equal the parallel forward at the same
    cost.

    A large model is measured with smaller widths, which the proof does not depend on; a parameter
    that is --set stays as it is.
    """
    import arspec
    from arspec import console

    outcome = arspec.verify(spec, **params)
    if as_json:
        _print_json(outcome.to_json())
    else:
        rows = [
            (check.name, "ok" if check.passed else "FAILED", check.detail)
            for check in outcome.checks
        ]
        console.table(sys.stdout, ("check", "", "measured"), rows)
    return FINE if outcome.passed else REFUTED


@_command("sample", "arspec sample my_model.yaml --shape 100 -n 4 --seed 1 -o samples.npy")
@_spec
@_set
@click.option(
    "--weights",
    metavar="FILE",
    help="A safetensors file with the names of the model's `state_dict`. Without it the parameters "
    "are random.",
)
@click.option("-n", "--number", type=click.IntRange(1), help="How many samples. Default: 1.")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="The file to write; - is standard output. Default: the name of SPEC, in this directory.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["png", "wav", "text", "npy"]),
    help="Default: by the suffix of OUT, or what suits the variable.",
)
@click.option(
    "--shape",
    metavar="NxN",
    callback=_shape,
    help="How many positions are drawn, such as 16000 or 28x28. May be left out where a mask, a "
    "condition on the same axis or a table of positions says it.",
)
@click.option(
    "--given",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_pairs,
    help="The value of a condition: a number, several separated by commas, or a file. May be given "
    "several times.",
)
@click.option("--prompt", metavar="FILE", help="How every sample begins.")
@click.option(
    "--observed",
    metavar="FILE",
    help="A mask, .npy or .png: the prompt is kept where it is true, the rest is drawn "
    "(inpainting).",
)
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    callback=_finite,
    help="Below 1 the likely becomes likelier; 0 takes the likeliest. Default: 1.",
)
@click.option("--top-k", type=click.IntRange(1), help="Draw from the k likeliest classes.")
@click.option(
    "--top-p",
    type=float,
    callback=_finite,
    help="Draw from the likeliest classes that together have this probability.",
)
@click.option("--min-length", type=click.IntRange(1), help="No end mark before this length.")
@click.option("--max-length", type=click.IntRange(1), help="Stop at this length.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="The same seed draws the same samples."
)
@click.option(
    "--rate", type=click.IntRange(1, 10_000_000), help="Of WAV files, in Hz. Default: 16000."
)
@click.option("--device", default="cpu", metavar="DEVICE", help="Such as cuda. Default: cpu.")
@click.option("--compile", "compile_", is_flag=True, help="Compile the sampler by torch.compile.")
def sample(format_: str | None, compile_: bool, **options: Any) -> int:
    """Draw samples from SPEC and write them to OUT.

    SPEC may also be a file that `arspec.save` wrote: it holds the spec, its parameters and the
    weights.

    \b
    What suits the variable, and its suffix:
      images        .png   one picture, the samples in a grid
      codec mu_law  .wav   a file per sample: OUT-0.wav, OUT-1.wav, ...
      codec bytes   .txt   several samples each below a line `=== sample 0 ===`
      anything      .npy   an array (number, [channels,] *axes)

    A prompt or the value of a condition is a .npy file without or with a row for every sample, or
    a file of the kind that suits its variable. Of a prompt the first positions on the first axis
    are kept.
    """
    from arspec import console
    from arspec.diagnostics import render
    from arspec.sampling import Options, run

    outcome = run.sample(Options(format=format_, compile=compile_, **options))
    to_stdout = options["output"] == "-"
    console.facts(sys.stderr if to_stdout else sys.stdout, outcome.title, True, outcome.facts)
    if outcome.notes:
        sys.stdout.flush()
        say(render(outcome.notes, options["spec"], "", color=console.wants_color(sys.stderr)))
    return FINE


@_command("schema", "arspec schema > arspec.schema.json")
def schema() -> int:
    """Print the JSON Schema of the language, for editors."""
    from arspec.document import json_schema

    _print_json(json_schema())
    return FINE


# --- what is printed ------------------------------------------------------------------


def _show_schedule(analysis: Analysis, shape: tuple[int, ...]) -> int:
    """A table and totals for each variable that is generated."""
    from arspec import console, schedule_table
    from arspec.schedule import schedule

    for term in analysis.model.terms:
        dims = term.frame.dims
        if shape and len(shape) != len(dims):
            axes = ", ".join(term.frame.written)
            raise click.BadParameter(f"`{term.variable}` has the axes {axes}", param_hint="--shape")
        if len(analysis.model.terms) > 1:
            print(f"{term.variable}\n")
        lengths = [shape[dim] for dim in dims] if shape else ()
        rows, totals = schedule_table.rows(schedule(term.graph), lengths)
        columns = ("name", "evaluated", "kept", "numbers to keep", "operations")
        cells = [
            (row.name, row.when, row.kept, _count(row.numbers), _count(row.operations))
            for row in rows
        ]
        size = " x ".join(f"{totals.shape[dims.index(dim)]:,}" for dim in range(len(dims)))
        caption = (
            f"\nto draw {size}: {totals.numbers:,} numbers to keep at least, "
            f"{totals.per_position:,.0f} multiply-adds per position, "
            f"{totals.ratio:.3f} of the operations of one parallel forward\n"
        )
        console.table(
            sys.stdout, columns, cells, right=("numbers to keep", "operations"), caption=caption
        )
    return FINE


def _analyse(ref: str, params: dict[str, str]) -> Analysis:
    from arspec import compiler

    return compiler.analyse(ref, params)


def _verdict(proof: Proof) -> str:
    if proof.causal:
        return f"{proof.name}: causal, no output sees its own future"
    return f"{proof.name}: NOT causal"


def _proven(proof: Proof) -> list[tuple[str, str]]:
    """What a proof found, as pairs of name and value, for each variable that is generated."""
    several = len(proof.terms) > 1
    pairs = []
    for term in proof.terms:
        extents = term.receptive_field.items()
        field = ", ".join(f"{axis} {_extent(extent)}" for axis, extent in extents)
        blind = "not counted" if term.blind_spots is None else _count(term.blind_spots) or "none"
        of = f" of {term.variable}" if several else ""
        pairs += [(f"receptive field{of}", field), (f"blind spots{of}", blind)]
    return pairs


def _extent(positions: int | None) -> str:
    return "unbounded" if positions is None else f"{positions:,}"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _print_findings(analysis: Analysis) -> None:
    """The leaks and the notes, each at its place in the spec, on standard error."""
    from arspec.causality import diagnostics
    from arspec.console import wants_color
    from arspec.diagnostics import render

    found = [*diagnostics(analysis.proof), *analysis.notes]
    if found:
        sys.stdout.flush()
        source = analysis.source
        say(render(found, source.name, source.text, color=wants_color(sys.stderr)))


def _failure_json(failure: SpecError) -> dict[str, object]:
    """What `--json` prints for a spec that has no proof because it is not valid."""
    errors = [
        {
            "code": found.code,
            "message": found.message,
            "line": found.span.line if found.span else None,
            "column": found.span.column if found.span else None,
        }
        for found in failure.diagnostics
    ]
    return {"file": failure.filename, "causal": None, "errors": errors}


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
