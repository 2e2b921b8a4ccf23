"""docs/language.md: every example of it is compiled, and it mentions all that the language has.

The word after ``yaml`` on a fence says what the block is: nothing for a whole spec, `network` for
lines of a network, `part` for some top-level keys. The rest is filled in by `whole`, as the page
itself explains. `of=NAME` names the variable that is drawn. `error=CODE` says that the block is
refused with that code; `proven` that it is proven causal but has no code yet. Every other block is
proven causal and built.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from arspec import compiler
from arspec.causality import diagnostics
from arspec.diagnostics import MESSAGES, SpecError
from arspec.document import Document, VariableModel
from arspec.expressions import FUNCTIONS
from arspec.heads import HEADS
from arspec.heads.base import Head
from arspec.layers import OPS, Op, Weighted

PAGE = (Path(__file__).parents[1] / "docs" / "language.md").read_text(encoding="utf-8")
KINDS = ("", "network", "part")


@dataclass(frozen=True)
class Example:
    """One fenced block of the page."""

    line: int
    kind: str
    of: str
    error: str
    proven: bool
    text: str

    @property
    def spec(self) -> str:
        return self.text if not self.kind else whole(self)


def examples() -> list[Example]:
    found = []
    for match in re.finditer(r"^```yaml([^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        words = match[1].split()
        options = dict(word.split("=") for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        kind = plain[0] if plain and plain[0] in KINDS else ""
        assert set(options) <= {"of", "error"}
        assert set(plain) <= {*KINDS, "proven"}
        line = PAGE[: match.start()].count("\n") + 1
        found.append(
            Example(line, kind, options.get("of", ""), options.get("error", ""),
                    "proven" in plain, match[2])
        )  # fmt: skip
    return found


def contexts() -> dict[str, dict[str, Any]]:
    """The variables that the page declares once for all of its fragments."""
    table = re.search(r"<!-- fragments -->\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert table
    return {
        name: yaml.safe_load(text) for name, text in re.findall(r"^(\w+): +(.*)$", table[1], re.M)
    }


def whole(example: Example) -> str:
    """The fragment with the rest of a spec around it, its own lines as they are written."""
    own = "" if example.kind == "network" else example.text
    keys = set(re.findall(r"^(\w+):", own, re.MULTILINE))
    variables = contexts()
    lines = ["name: example"]
    if "variables" not in keys:
        lines.append("variables:")
        for name, declared in variables.items():
            if name == example.of or re.search(rf"\b{name}\b", example.text):
                lines.append(
                    f"  {name}: {yaml.safe_dump(declared, default_flow_style=True)}".rstrip()
                )
    if "generate" not in keys:
        lines.append(f"generate: {example.of}")
    if "order" not in keys and example.of == "rgb":
        lines.append("order: [row, col, channel]")
    if "head" not in keys:
        lines.append(f"head: {'gaussian' if example.of == 'series' else 'categorical'}")
    if own:
        lines.append(own.rstrip())
    else:
        lines += ["network:", *(f"  {line}".rstrip() for line in example.text.splitlines())]
    if "network" not in keys and own and "generate" not in keys:
        lines += ["network:", f"  out: {{conv: 3, to: 8, of: {example.of}}}"]
    return "\n".join(lines) + "\n"


ALL = examples()


def write(example: Example, folder: Path) -> Path:
    path = folder / "example.yaml"
    path.write_text(example.spec, encoding="utf-8")
    return path


@pytest.mark.parametrize("example", ALL, ids=lambda e: f"line{e.line}")
def test_example(example: Example, tmp_path: Path) -> None:
    path = write(example, tmp_path)
    if example.error:
        assert example.error in _refused_with(path)
        return
    analysis = compiler.analyse(path)
    assert [found.message for found in diagnostics(analysis.proof)] == []
    if example.proven:
        with pytest.raises(SpecError) as refusal:
            compiler.emit(analysis)
        assert {found.code for found in refusal.value.diagnostics} == {"AR501"}
        return
    names: dict[str, Any] = {"__name__": "__main__"}  # the file's own smoke run
    exec(compile(compiler.emit(analysis), str(path), "exec"), names)
    assert sum(p.numel() for p in names["model"].parameters()) == analysis.parameter_count
    assert names["nats"].isfinite().all()


def _refused_with(path: Path) -> set[str]:
    try:
        proof = compiler.analyse(path).proof
    except SpecError as refusal:
        return {found.code for found in refusal.diagnostics}
    return {found.code for found in diagnostics(proof)}


def test_there_are_examples_of_every_kind() -> None:
    assert {example.kind for example in ALL} == set(KINDS)
    assert sum(bool(example.error) for example in ALL) >= 15
    assert len(ALL) >= 60


# ------------------------------------------------------------------------------------ completeness


def section(title: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}$", PAGE, re.MULTILINE)
    assert match, f"no section {title}"
    rest = PAGE[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> dict[str, list[str]]:
    """The tables of a text: first cell -> the others, without backticks."""
    cells = [
        [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return {first: rest for first, *rest in cells}


def default_text(value: object) -> str:
    if value is None:
        return "none"
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if value == 1e-5
        else str(value)
    )


def own_settings(op: type[Op]) -> dict[str, Any]:
    common = Weighted.model_fields if issubclass(op, Weighted) else Op.model_fields
    return {n: f for n, f in op.model_fields.items() if n not in common and n != op.key}


@pytest.mark.parametrize("key", OPS)
def test_every_setting_of_every_op_is_described(key: str) -> None:
    described = rows(section(f"`{key}`"))
    for name, field in own_settings(OPS[key]).items():
        assert name in described, f"{key}.{name}"
        assert described[name][-1] == default_text(field.default), f"{key}.{name}"


def test_common_settings_are_described() -> None:
    described = rows(section("Settings that many ops share"))
    for name, field in Weighted.model_fields.items():
        assert described[name][-1] == default_text(field.default)


@pytest.mark.parametrize("key", HEADS)
def test_every_head_is_described(key: str) -> None:
    described = rows(section(f"`{key}`"))
    for name, field in HEADS[key].model_fields.items():
        if name not in Head.model_fields and name != key:
            assert described[name][-1] == default_text(field.default)


def test_top_level_and_variables_are_described() -> None:
    assert set(Document.model_fields) <= set(rows(section("Top level")))
    assert set(VariableModel.model_fields) <= set(rows(section("Variables")))
    assert set(Head.model_fields) <= set(rows(section("Heads")))


def test_every_function_is_described() -> None:
    text = section("Functions")
    assert {name for name in FUNCTIONS if f"`{name}" not in text} == set()


def test_every_op_setting_and_function_is_in_an_example_that_compiles() -> None:
    seen: set[tuple[str, str]] = set()
    words: set[str] = set()
    for example in ALL:
        if example.error:
            continue
        words |= set(re.findall(r"[a-z_]+", example.text))
        for mapping in _mappings(yaml.safe_load(example.spec)):
            keys = [key for key in mapping if key in OPS]
            op = "use" if "use" in keys else keys[0] if keys else ""
            seen |= {(op, key) for key in mapping if op}
    wanted = {
        (key, name) for key, op in OPS.items() for name in (key, *own_settings(op))
    }  # fmt: skip
    assert wanted - seen == set()
    shared = {name for _, name in seen}
    assert set(Weighted.model_fields) - shared == set()
    assert FUNCTIONS - words == set()
    assert set(HEADS) - words == set()


def _mappings(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value, *(m for v in value.values() for m in _mappings(v))]
    if isinstance(value, list):
        return [m for v in value for m in _mappings(v)]
    return []


def test_codes_that_are_named_exist() -> None:

    named = set(re.findall(r"\bAR\d{3}\b", PAGE))
    assert named <= {*MESSAGES}


# ------------------------------------------------------------------------------------ architecture

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_is_on_the_map() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "arspec").rglob("*.py")}
    named = set(re.findall(r"`(arspec/[\w/]+\.py)`", ARCHITECTURE))
    assert files - named == set()
    assert named - files == {"arspec/layers/gain.py"}  # the example
    for path in set(re.findall(r"`((?:tests|templates)/[\w/.]+)`", ARCHITECTURE)) - {
        "templates/pieces/gain.py"
    }:
        assert (ROOT / path).exists() or "*" in path, path


def test_the_op_that_is_added_as_an_example_works(tmp_path: Path) -> None:
    """Facts, piece and registry line, as the page prints them, in a copy of the package."""
    facts, piece = (
        text
        for text in re.findall(r"```python\n(.*?)```", ARCHITECTURE, re.DOTALL)
        if "class" in text
    )
    spec = re.findall(r"```yaml\n(.*?)```", ARCHITECTURE, re.DOTALL)[0]
    for folder in ("arspec", "templates"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    (tmp_path / "arspec/layers/gain.py").write_text(facts)
    (tmp_path / "templates/pieces/gain.py").write_text(piece)
    (tmp_path / "gained.yaml").write_text(spec)
    registry = tmp_path / "arspec/layers/__init__.py"
    text = registry.read_text()
    text = text.replace(
        "from arspec.layers.linear",
        "from arspec.layers.gain import Gain\nfrom arspec.layers.linear",
    )
    registry.write_text(text.replace(" Use,\n", " Use, Gain,\n"))
    program = (
        "import arspec, torch; from pathlib import Path\n"
        f"assert Path(arspec.__file__).is_relative_to({str(tmp_path)!r})\n"
        "x = torch.randint(16, (2, 5))\n"
        "model = arspec.build('gained.yaml')\n"
        "assert arspec.check_causality('gained.yaml').causal\n"
        "assert model.out.weight.tolist() == [0.5] * 8\n"
        "assert model(x).shape == (2, 5, 16) and model.log_prob(x).shape == (2,)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
