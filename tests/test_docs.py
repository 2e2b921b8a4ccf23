"""The documents that are made from the code are up to date, and the others show real output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from arspec import cli, compiler
from arspec.diagnostics import MESSAGES, SpecError, errors_page
from arspec.files import shipped_specs
from arspec.names import MODULE_ATTRIBUTES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_of_errors_is_current() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == errors_page(), "run `make docs`"


def test_every_error_has_cause_and_cure() -> None:
    for code, message in MESSAGES.items():
        assert re.fullmatch(r"AR\d{3}", code)
        assert all((message.title, message.text, message.cause, message.cure)), code


@pytest.mark.parametrize("code", [c for c, m in MESSAGES.items() if m.example])
def test_the_example_of_an_error_causes_it(code: str, tmp_path: Path) -> None:
    """An example is a part of a spec: with the rest around it, it fails with that code."""
    example = MESSAGES[code].example
    keys = set(re.findall(r"^(\w+):", example, re.MULTILINE))
    text = "name: example\n" if "name" not in keys else ""
    if "variables" not in keys:
        text += "variables:\n  audio: {classes: 4, axes: [time]}\n"
    if "generate" not in keys:
        text += "generate: audio\n" if "audio" in text + example else "generate: x\n"
    if "network" not in keys:
        text += "network:\n  stem: {conv: 2, to: 8}\n"
    if "use: layer" in example:
        text += "blocks:\n  layer(x):\n    out: {conv: 2}\n"
    if "head" not in keys:
        text += "head: categorical\n"
    path = tmp_path / "example.yaml"
    path.write_text(text + example + "\n", encoding="utf-8")
    with pytest.raises(SpecError) as found:
        compiler.analyse(path)
    assert code in {one.code for one in found.value.diagnostics}


def test_reserved_names_are_those_of_torch() -> None:
    from torch import nn

    class Empty(nn.Module):
        pass

    own = {n for n in {*dir(Empty()), *vars(Empty())} if not n.startswith("_")}
    assert own == MODULE_ATTRIBUTES


def test_readme_shows_the_shipped_spec() -> None:
    assert shipped_specs()["wavenet"].read_text(encoding="utf-8").strip() in README
    assert "TODO" not in README


def test_readme_shows_real_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every `$ arspec` command of the README prints what stands below it."""
    monkeypatch.chdir(tmp_path)
    spec = re.search(r"```yaml\n# my_model.yaml\n(.*?)```", README, re.DOTALL)
    assert spec
    (tmp_path / "my_model.yaml").write_text(spec[1], encoding="utf-8")
    blocks = re.findall(r"```console\n(\$ arspec.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        for command, shown in re.findall(r"\$ arspec ([^\n]*)\n((?:(?!\$ ).*\n)*)", block):
            cli.run(command.split())
            printed = capfd.readouterr()
            assert shown.strip() == (printed.out + printed.err).strip()
