"""The JSON Schema that editors use accepts what arspec accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from arspec.document import json_schema
from arspec.files import shipped_specs
from arspec.source import load, plain

PAPERS = sorted((Path(__file__).parent / "specs_papers").glob("*.yaml"))
SPECS = [*shipped_specs().values(), *PAPERS]
VALIDATOR = Draft202012Validator(json_schema())


def spec(path: Path) -> Any:
    return plain(load(path.read_text(encoding="utf-8"), path.name))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_fits(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(spec(path))] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"varaibles": {}},
        {"network": {"stem": {"conv": 2, "dilatoin": 4}}},
        {"network": {"stem": 3}},
        {"variables": {"audio": {"clases": 4}}},
    ],
)
def test_slips_do_not(wrong: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**spec(shipped_specs()["wavenet"]), **wrong})
