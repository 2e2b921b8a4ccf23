"""The commands: what they print, what they write, and their exit status."""

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from arspec import build as build_module
from arspec import cli, compiler, files

CAUSAL = """\
name: tiny
params: {width: 8}
variables:
  audio: {classes: 16, axes: [time]}
generate: audio
network:
  stem: {conv: 2, to: width}
  out:  [relu, {linear: 2 * width}, relu]
head: categorical
"""
LEAKING = CAUSAL.replace("[relu, {linear: 2 * width}, relu]", "{conv: {time: -1..1}}")
INVALID = CAUSAL.replace("linear: 2 * width}, relu]", "linaer: 2 * width}, relu] # wrong")
LEAK_LINE = 8


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def arspec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run one command line in an empty directory that holds three small specs."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("causal", CAUSAL), ("leaking", LEAKING), ("invalid", INVALID)):
        (tmp_path / f"{name}.yaml").write_text(text)

    def run(*arguments: str, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = cli.run(arguments)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Result(status, printed.out, printed.err)

    return run


Run = Callable[..., Result]


def process(
    arguments: Sequence[str], folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, as the installed script would run it."""
    return subprocess.run(
        [sys.executable, "-c", "from arspec.cli import main; main()", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
    )


# --- check-causality ------------------------------------------------------------------


def test_a_causal_spec_is_fine(arspec: Run) -> None:
    result = arspec("check-causality", "causal.yaml")
    assert result.status == 0
    assert "tiny: causal" in result.out
    assert "2" in next(line for line in result.out.splitlines() if "receptive field" in line)
    assert "\x1b" not in result.out


def test_a_leak_is_refused_at_its_line_with_its_path(arspec: Run) -> None:
    result = arspec("check-causality", "leaking.yaml")
    assert result.status == 1
    assert "NOT causal" in result.out
    assert f"leaking.yaml:{LEAK_LINE}:" in result.err
    assert "audio -> stem -> out" in result.err


def test_an_invalid_spec_is_refused_at_its_line(arspec: Run) -> None:
    result = arspec("check-causality", "invalid.yaml")
    assert result.status == 2
    assert "invalid.yaml:8:" in result.err
    assert "linear" in result.err
    assert result.out == ""


def test_of_several_specs_the_worst_decides_and_all_are_judged(arspec: Run) -> None:
    assert arspec("check-causality", "causal.yaml", "leaking.yaml").status == 1
    result = arspec("check-causality", "invalid.yaml", "leaking.yaml", "causal.yaml")
    assert result.status == 2
    assert "NOT causal" in result.out
    assert "tiny: causal" in result.out


def test_json_is_one_object_for_one_spec(arspec: Run) -> None:
    result = arspec("check-causality", "causal.yaml", "--json")
    proof = json.loads(result.out)
    assert result.status == 0
    assert proof["name"] == "tiny"
    assert proof["causal"] is True
    assert proof["nearest"] == [-1]
    assert proof["leaks"] == []
    assert proof["blind_spots"] == 0


def test_json_is_a_list_for_several_specs_whatever_is_wrong_with_one(arspec: Run) -> None:
    result = arspec("check-causality", "--json", "leaking.yaml", "invalid.yaml", "causal.yaml")
    leaking, invalid, causal = json.loads(result.out)
    assert result.status == 2
    assert leaking["causal"] is False
    assert leaking["leaks"][0]["line"] == LEAK_LINE
    assert invalid["causal"] is None
    assert invalid["errors"][0]["line"] == 8
    assert causal["causal"] is True


def test_a_spec_may_come_from_standard_input(arspec: Run) -> None:
    assert arspec("check-causality", "-", stdin=CAUSAL).status == 0
    leaking = arspec("check-causality", "-", stdin=LEAKING)
    assert leaking.status == 1
    assert f"<stdin>:{LEAK_LINE}:" in leaking.err


# --- build ----------------------------------------------------------------------------


def test_build_writes_what_generate_gives_and_says_what_was_proven(arspec: Run) -> None:
    result = arspec("build", "causal.yaml")
    assert result.status == 0
    text = Path("tiny.py").read_text()
    assert text == compiler.generate("causal.yaml")
    assert files.is_untouched(text)
    for fact in ("causal", "receptive field", "blind spots", "parameters", "tiny.py"):
        assert fact in result.out


def test_the_printed_number_of_parameters_is_the_modules(arspec: Run) -> None:
    count = sum(p.numel() for p in build_module("causal.yaml").parameters())
    assert f"{count:,}" in arspec("build", "causal.yaml").out


def test_build_to_standard_output_prints_the_module_and_nothing_else(arspec: Run) -> None:
    result = arspec("build", "causal.yaml", "-o", "-")
    assert result.out == compiler.generate("causal.yaml")
    assert "receptive field" in result.err
    assert not Path("tiny.py").exists()


def test_on_a_leak_nothing_is_written_not_even_by_force(arspec: Run) -> None:
    assert arspec("build", "leaking.yaml", "-o", "new.py").status == 1
    assert not Path("new.py").exists()
    Path("old.py").write_text("mine\n")
    result = arspec("build", "leaking.yaml", "-o", "old.py", "--force")
    assert result.status == 1
    assert f"leaking.yaml:{LEAK_LINE}:" in result.err
    assert Path("old.py").read_text() == "mine\n"


def test_a_file_that_was_edited_is_replaced_only_by_force(arspec: Run) -> None:
    assert arspec("build", "causal.yaml").status == 0
    assert arspec("build", "causal.yaml", "--set", "width=4").status == 0  # untouched: replaced
    with open("tiny.py", "a") as file:
        file.write("# my own line\n")
    refused = arspec("build", "causal.yaml")
    assert refused.status == 2
    assert "AR604" in refused.err
    assert "--force" in refused.err
    assert "# my own line" in Path("tiny.py").read_text()
    assert arspec("build", "causal.yaml", "--force").status == 0
    assert "# my own line" not in Path("tiny.py").read_text()


def test_a_file_of_somebody_elses_is_replaced_only_by_force(arspec: Run) -> None:
    Path("train.py").write_text("print('mine')\n")
    refused = arspec("build", "causal.yaml", "-o", "train.py")
    assert refused.status == 2
    assert "AR603" in refused.err
    assert Path("train.py").read_text() == "print('mine')\n"
    assert arspec("build", "causal.yaml", "-o", "train.py", "--force").status == 0


def test_an_output_that_cannot_be_written_is_an_error(arspec: Run) -> None:
    Path("folder").mkdir()
    for output in ("folder", "missing/tiny.py"):
        result = arspec("build", "causal.yaml", "-o", output)
        assert result.status == 2
        assert "AR605" in result.err


# --- parameters -----------------------------------------------------------------------


def test_set_changes_a_parameter(arspec: Run) -> None:
    narrow = arspec("show", "causal.yaml").out
    wide = arspec("show", "causal.yaml", "--set", "width=32").out
    assert narrow != wide
    assert "32" in wide


def test_a_misspelt_parameter_is_an_error_that_names_the_nearest(arspec: Run) -> None:
    for command in ("build", "check-causality", "show", "verify"):
        result = arspec(command, "causal.yaml", "--set", "widht=32")
        assert result.status == 2
        assert "`width`" in result.err


@pytest.mark.parametrize(
    "text", ["width", "=3", "width=", "width=9**9**9", "width=two", "width=-1"]
)
def test_a_malformed_parameter_is_an_error(arspec: Run, text: str) -> None:
    result = arspec("check-causality", "causal.yaml", "--set", text)
    assert result.status == 2
    assert result.err


# --- show, list, schema, verify -------------------------------------------------------


def test_show_prints_a_row_per_line_of_the_spec_aligned(arspec: Run) -> None:
    lines = arspec("show", "causal.yaml").out.splitlines()
    assert lines[0].split()[:2] == ["name", "op"]
    assert any(line.startswith("stem") for line in lines)
    column = lines[0].index("op")
    assert all(line[column - 1] == " " for line in lines[:3])


def test_list_prints_every_shipped_spec_with_its_paper(arspec: Run) -> None:
    result = arspec("list")
    assert result.status == 0
    for name in files.shipped_specs():
        assert name in result.out
    assert "arXiv:1609.03499" in result.out


def test_schema_prints_a_json_schema(arspec: Run) -> None:
    from jsonschema import Draft202012Validator

    result = arspec("schema")
    assert result.status == 0
    Draft202012Validator.check_schema(json.loads(result.out))


def test_verify_measures_the_compiled_module(arspec: Run) -> None:
    result = arspec("verify", "causal.yaml")
    assert result.status == 0, result.out
    assert "FAILED" not in result.out


def test_a_measurement_that_disagrees_is_exit_status_1(
    arspec: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = SimpleNamespace(name="causality", passed=False, detail="position 3 reads position 4")
    measured = SimpleNamespace(checks=[check], passed=False)
    monkeypatch.setattr("arspec.verify", lambda *_, **__: measured)
    result = arspec("verify", "causal.yaml")
    assert result.status == 1
    assert "position 3 reads position 4" in result.out


# --- usage ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("build",),
        ("check-causality",),
        ("check-causality", "--jsn", "causal.yaml"),
        ("build", "causal.yaml", "other.yaml"),
        ("check-causality", "wavnet"),
        ("check-causality", "missing.yaml"),
        ("check-causality", "."),
        ("check-causality", ""),
    ],
)
def test_wrong_usage_is_exit_status_2(arspec: Run, arguments: tuple[str, ...]) -> None:
    result = arspec(*arguments)
    assert result.status == 2
    assert result.err
    assert result.out == ""


@pytest.mark.parametrize("name", sorted(cli.cli.commands))
def test_every_help_ends_in_an_example_that_works(arspec: Run, name: str) -> None:
    shown = arspec(name, "--help")
    assert shown.status == 0
    example = shown.out.rstrip().splitlines()[-1].strip()
    Path("my_model.yaml").write_text(CAUSAL)
    command = shlex.split(example.partition(" > ")[0])
    assert command[:2] == ["arspec", name]
    assert arspec(*command[1:]).status == 0


def test_version(arspec: Run) -> None:
    result = arspec("--version")
    assert result.status == 0
    assert result.out.startswith("arspec ")


# --- never a traceback ----------------------------------------------------------------


def test_a_bug_is_one_line_and_exit_status_2(arspec: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the roof\nfell in")

    monkeypatch.setattr(compiler, "analyse", broken)
    result = arspec("show", "causal.yaml")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "please report" in result.err
    assert "the roof fell in" in result.err


def test_an_interrupt_is_quiet(arspec: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compiler, "analyse", interrupted)
    result = arspec("show", "causal.yaml")
    assert (result.status, result.out, result.err) == (130, "", "")


@pytest.mark.parametrize("command", ["schema", "list"])  # more, and less, than a buffer holds
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path, command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", "from arspec.cli import main; main()", command],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr == ""
    assert done.returncode == 141


# --- start-up and terminals -----------------------------------------------------------

IMPORTED = """
import sys
from arspec.cli import run
status = run({arguments!r})
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"torch", "numpy", "pydantic", "yaml", "networkx", "rich", "jinja2"}),
        (["check-causality", "wavenet"], {"torch", "numpy", "jinja2"}),
        (["check-causality", "gpt2", "--json"], {"torch", "numpy", "jinja2", "rich"}),
    ],
)
def test_start_up_imports_no_more_than_it_needs(
    tmp_path: Path, arguments: list[str], unwanted: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(arguments=arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(done.stderr.split())
    assert "click" in imported
    assert not imported & unwanted


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("environment", "colored"),
    [({"TERM": "xterm"}, True), ({"NO_COLOR": "1", "TERM": "xterm"}, False)],
)
def test_color_is_for_terminals_and_can_be_declined(
    tmp_path: Path, environment: dict[str, str], colored: bool
) -> None:
    import pty

    main_end, program_end = pty.openpty()
    (tmp_path / "leaking.yaml").write_text(LEAKING)
    subprocess.run(
        [
            *(sys.executable, "-c", "from arspec.cli import main; main()"),
            *("check-causality", "leaking.yaml"),
        ],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if name != "NO_COLOR"},
            "PYTHONPATH": str(Path(cli.__file__).parents[1]),
            **environment,
        },
        stdout=program_end,
        stderr=program_end,
        timeout=60,
    )
    os.close(program_end)
    shown = os.read(main_end, 100_000).decode()
    os.close(main_end)
    assert "NOT causal" in shown
    assert ("\x1b[" in shown) is colored


def test_a_terminal_that_cannot_show_a_letter_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(CAUSAL)
    done = process(["build", "spec.yaml", "-o", "ö.py"], tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\xf6.py" in done.stdout
    assert (tmp_path / "ö.py").exists()
