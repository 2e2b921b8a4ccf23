"""The structure of the language, for pydantic, and its findings in the user's own text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, ValidationError

from arspec import source
from arspec.diagnostics import Diagnostic, error, nearest_name
from arspec.heads import HEADS
from arspec.layers import OPS, Op, Strict
from arspec.layers.base import Number, Text
from arspec.source import Path

# ------------------------------------------------------------------ the structure, for pydantic


class VariableModel(Strict):
    """A variable: exactly one of `classes`, `levels` and `features`."""

    classes: Number | None = Field(None, description="symbols, read as one-hot")
    levels: Number | None = Field(None, description="ordered intensities, read as -1..1")
    features: Number | None = Field(None, description="real numbers")
    axes: list[Text] = Field(default_factory=list, description="`[time]`, `[row, col]`, ...")
    channels: Number | None = None
    codec: Literal["mu_law", "bytes"] | None = None
    end: Number | None = Field(None, description="the class that ends a draw, or `decision`")
    known: Number | None = Field(None, description="all, present, past or +n")


def _value_kind(value: object) -> str:
    """Which form a line's value has: told by its YAML kind, an op by its op key."""
    if isinstance(value, str | Op):
        return "equation:" if isinstance(value, str) else f"op:{value.key}"
    if isinstance(value, list):
        return "chain:"
    if isinstance(value, dict):
        keys = [key for key in value if key in OPS]
        if "use" in keys:
            return "op:use"
        if len(keys) == 1:
            return f"op:{keys[0]}"
        return f"ops:{' '.join(keys)}"
    return "other:"


_Op: Any = Annotated[
    Union[tuple(Annotated[op, Tag(f"op:{key}")] for key, op in OPS.items())],  # noqa: UP007
    Discriminator(_value_kind),
]
_Item: Any = Annotated[
    Union[
        (
            *(Annotated[op, Tag(f"op:{key}")] for key, op in OPS.items()),
            Annotated[Text, Tag("equation:")],
        )
    ],
    Discriminator(_value_kind),
]
_Value: Any = Annotated[
    Union[
        (
            *(Annotated[op, Tag(f"op:{key}")] for key, op in OPS.items()),
            Annotated[list[_Item], Tag("chain:"), Field(min_length=1)],
            Annotated[Text, Tag("equation:")],
        )
    ],
    Discriminator(_value_kind),
]
HeadModel: Any = Annotated[
    Union[
        (
            *(Annotated[head, Tag(f"head:{key}")] for key, head in HEADS.items()),
            Annotated[Literal[tuple(HEADS)], Tag("word:")],
        )
    ],
    Discriminator(
        lambda v: (
            "word:"
            if isinstance(v, str)
            else next((f"head:{k}" for k in (v if isinstance(v, dict) else ()) if k in HEADS), None)
        )
    ),
]
_Body: Any = dict[str, _Value]


class Document(Strict):
    """A whole spec."""

    language: Literal[1] = 1
    name: Text
    paper: Text = ""
    params: dict[str, Any] = Field(default_factory=dict)
    variables: dict[str, VariableModel]
    generate: Any
    order: Any = None
    defaults: dict[str, dict[str, Any]] = Field(default_factory=dict)
    blocks: dict[str, _Body] = Field(default_factory=dict)
    network: _Body | None = None
    head: Any


def json_schema() -> dict[str, Any]:
    """The language as JSON Schema, for editors."""
    schema = Document.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "arspec"
    op = {"$ref": "#/$defs/Use"}
    schema["properties"]["generate"] = {
        "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": op}],
        "description": "the variable that is drawn, or `variable: {use: block}` in chain order",
    }
    return schema


# ---------------------------------------------------------- its findings, in the text of the user


def place(found: Diagnostic) -> tuple[int, int]:
    return (found.span.line, found.span.column) if found.span else (0, 0)


TAGS = re.compile(r"^(op|ops|head):\w+$|^(chain|equation|other|word):$")


def diagnostics(tree: source.Tree, invalid: ValidationError) -> Iterator[Diagnostic]:
    """Pydantic's findings in the user's own text."""
    for found in invalid.errors():
        tags = [part for part in found["loc"] if isinstance(part, str) and TAGS.match(part)]
        path: Path = tuple(p for p in found["loc"] if p not in tags and p != "[key]")
        yield diagnostic(tree, path, tags[-1] if tags else "", found)


def misspelt(missing: Diagnostic, found: Sequence[Diagnostic]) -> bool:
    """Whether a missing key is there under a name that is reported as unknown."""
    return missing.code == "AR102" and any(
        other.code == "AR101" and other.help == f"did you mean {missing.message.split()[0]}?"
        for other in found
    )


def diagnostic(tree: source.Tree, path: Path, tag: str, found: Any) -> Diagnostic:
    kind, key = found["type"], str(path[-1]) if path else "the spec"
    span = source.locate(tree, path).span
    if kind == "extra_forbidden":
        node = source.locate_key(tree, path)
        known = _known_keys(path, tag)
        near = nearest_name(key, known)
        help = f"did you mean `{near}`?" if near else f"known here: {', '.join(sorted(known))}"
        return error("AR101", node.span if node else span, key=key, help=help)
    if kind == "missing":
        return error("AR102", source.locate(tree, path[:-1]).span, key=key)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _which_op(tree, path, found["input"])
    if kind == "AR103":
        return error("AR103", span, key=key, expected=found["ctx"]["expected"])
    expected = {
        "list_type": "a list",
        "dict_type": "a mapping",
        "string_type": "text",
        "too_short": "a chain of at least one op",
        "model_type": "a mapping",
    }.get(kind)
    if kind == "literal_error":
        expected = f"one of {found['ctx']['expected'].replace(chr(39), '`')}"
        near = nearest_name(str(found["input"]), re.findall(r"'(\w+)'", found["ctx"]["expected"]))
        hint = f"did you mean `{near}`?" if near else None
        return error("AR103", span, key=key, expected=expected, help=hint)
    return error("AR103", span, key=key, expected=expected or found["msg"].lower())


def _known_keys(path: Path, tag: str) -> list[str]:
    if tag.startswith("op:"):
        return list(OPS[tag[3:]].model_fields)
    if tag.startswith("head:"):
        return list(HEADS[tag[5:]].model_fields)
    if len(path) == 3 and path[0] == "variables":
        return list(VariableModel.model_fields)
    return list(Document.model_fields)


def _which_op(tree: source.Tree, path: Path, value: object) -> Diagnostic:
    """A mapping without an op key or with two, or a value of none of the three forms."""
    node = source.locate(tree, path)
    if not isinstance(value, dict):
        return error(
            "AR104",
            node.span,
            what=f"`{path[-1]}` is neither an op, a chain nor an equation",
            help="write `{linear: 64}`, `[relu, {linear: 64}]` or an equation such as `x + a`; "
            "a number belongs under `params`",
        )
    keys = [key for key in value if key in OPS]
    if len(keys) > 1:
        what = f"two ops in one line: {' and '.join(f'`{k}`' for k in keys)}"
        return error("AR104", node.span, what=what, help="one line is one op; use two lines")
    for key in value:
        near = nearest_name(key, OPS)
        if near:
            place = source.locate_key(tree, (*path, key))
            return error(
                "AR104",
                place.span if place else node.span,
                what=f"unknown op `{key}`",
                help=f"did you mean `{near}`?",
            )
    return error(
        "AR104",
        node.span,
        what=f"no op among the keys of `{path[-1]}`",
        help=f"the ops are {', '.join(sorted(OPS))}",
    )
