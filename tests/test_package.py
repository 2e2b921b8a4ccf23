"""What is installed: a wheel with specs and templates inside, and nothing undeclared needed."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES_OF = {"pyyaml": {"yaml"}, "pydantic": {"pydantic", "pydantic_core"}}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
    )
    (built,) = folder.glob("arspec-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment: arspec from the wheel, all else from this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--python", str(bin_folder / "python"), "install", "--quiet", "--no-deps", wheel],
        check=True,
    )
    (site_packages,) = folder.glob("[Ll]ib/**/site-packages")
    # A path in a .pth file is only appended: an editable arspec over there is not followed.
    (site_packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return bin_folder


def run(command: list[object], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_spec_and_template_and_no_tests(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in (("specs", "*.yaml"), ("templates", "*.j2"), ("templates", "**/*.py")):
        files = [path.relative_to(ROOT) for path in (ROOT / folder).glob(pattern)]
        assert files, f"no {folder}/{pattern}"
        missing = {f"arspec/_{path.as_posix()}" for path in files} - inside
        assert not missing
    assert not [name for name in inside if name.startswith(("tests/", "docs/", "examples/"))]


def test_the_installed_package_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    where = run([installed / "python", "-c", "import arspec; print(arspec.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_an_installed_arspec_lists_builds_and_what_it_builds_runs(
    installed: Path, tmp_path: Path
) -> None:
    listed = run([installed / "arspec", "list"], tmp_path)
    assert "wavenet" in listed
    assert "gpt2" in listed
    small = ["--set", "width=8", "--set", "skip_width=8"]
    run([installed / "arspec", "build", "wavenet", *small, "-o", "out.py"], tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "out.py").rename(tmp_path / "empty" / "out.py")
    run([installed / "python", "out.py"], tmp_path / "empty")


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=!~;\[ ]", text)[0].lower() for text in project["dependencies"]]
    declared = {"arspec"}.union(*(MODULES_OF.get(name, {name}) for name in names))
    for path in (ROOT / "arspec").rglob("*.py"):
        undeclared = imported(path) - declared - set(sys.stdlib_module_names)
        assert not undeclared, f"{path.name} imports {undeclared}"


def test_the_pieces_import_only_torch() -> None:
    for path in (ROOT / "templates" / "pieces").glob("*.py"):
        undeclared = imported(path) - {"torch"} - set(sys.stdlib_module_names)
        assert not undeclared, f"{path.name} imports {undeclared}"


def imported(path: Path) -> set[str]:
    """The top-level names of all modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found
