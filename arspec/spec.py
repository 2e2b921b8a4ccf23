"""Tree -> Spec: blocks, lines and names, checked; no meaning of names yet."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from arspec import source
from arspec.diagnostics import Diagnostic, Span, SpecError, error, nearest_name
from arspec.document import (
    TAGS,
    Document,
    HeadModel,
    VariableModel,
    diagnostic,
    diagnostics,
    misspelt,
    place,
)
from arspec.expressions import FUNCTIONS, Expr, parse
from arspec.heads import HEADS
from arspec.layers import OPS, Op, Use
from arspec.names import CALL_PARAMETERS, METHODS, MODULE_ATTRIBUTES, TAKEN
from arspec.source import Path

# --------------------------------------------------------------------------- what parsing gives


@dataclass(frozen=True)
class Line:
    """One named line of a body. `value` is an op, a chain (tuple of ops and functions) or an
    equation; `path` leads to it in the tree."""

    names: tuple[str, ...]
    value: Op | tuple[Op | str, ...] | Expr
    path: Path
    span: Span

    @property
    def attribute(self) -> str:
        return "_".join(self.names)


@dataclass(frozen=True)
class Body:
    lines: tuple[Line, ...]
    span: Span


@dataclass(frozen=True)
class Parameter:
    """One parameter of a block; `default` is plain YAML-like data, `required` without one."""

    name: str
    required: bool
    default: Any = None


@dataclass(frozen=True)
class Block:
    name: str
    parameters: tuple[Parameter, ...]
    body: Body
    span: Span


@dataclass(frozen=True)
class Variable:
    name: str
    kind: str
    model: VariableModel
    span: Span


@dataclass(frozen=True)
class Spec:
    """A spec whose structure is right. `tree` keeps every place in the user's text."""

    name: str
    paper: str
    params: dict[str, Any]
    variables: dict[str, Variable]
    generate: tuple[tuple[str, Use | None], ...]
    orders: dict[str, Any]
    defaults: dict[str, dict[str, Any]]
    blocks: dict[str, Block]
    network: Body | None
    heads: dict[str, tuple[Any, Path]]
    tree: source.Tree
    filename: str
    text: str
    expressions: dict[Path, Expr] = field(default_factory=dict)

    def span(self, path: Path) -> Span:
        """The place of a value, or of the deepest part of its path that exists."""
        return source.locate(self.tree, path).span

    def key_span(self, path: Path) -> Span:
        key = source.locate_key(self.tree, path)
        return key.span if key else self.span(path)


# -------------------------------------------------------------------------------------- parsing


def parse_spec(text: str, filename: str) -> Spec:
    """The spec that a text holds. Raises SpecError with every independent error."""
    return from_tree(source.load(text, filename), filename, text)


def from_tree(tree: source.Tree, filename: str, text: str) -> Spec:
    plain = source.plain(tree)
    if not isinstance(plain, dict):
        raise SpecError(
            [error("AR103", tree.span, key="the spec", expected="a mapping")], filename, text
        )
    try:
        document = Document.model_validate(plain)
    except ValidationError as invalid:
        found = list(dict.fromkeys(diagnostics(tree, invalid)))
        found = [d for d in found if not misspelt(d, found)]
        raise SpecError(sorted(found, key=place), filename, text) from None
    reader = _Reader(tree, document)
    spec = reader.spec(filename, text)
    if reader.errors:
        raise SpecError(sorted(reader.errors, key=place), filename, text)
    return spec


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_SIGNATURE = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*\Z", re.ASCII)


class _Reader:
    """Turns a validated document into a Spec, collecting what is wrong with its names."""

    def __init__(self, tree: source.Tree, document: Document):
        self.tree, self.document = tree, document
        self.errors: list[Diagnostic] = []
        self.globals: dict[str, str] = {}
        self.expressions: dict[Path, Expr] = {}

    def spec(self, filename: str, text: str) -> Spec:
        doc = self.document
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", doc.name):
            self._error(
                "AR106",
                ("name",),
                name=doc.name,
                why="a spec's name names its class and its file",
                help="letters, digits and `_`, beginning with a letter",
            )
        elif keyword.iskeyword(doc.name):
            self._error("AR106", ("name",), name=doc.name, why="it is a Python keyword")
        for name in doc.params:
            self._global(name, "param", ("params", name))
        variables = {name: self._variable(name, model) for name, model in doc.variables.items()}
        for name, model in doc.variables.items():
            for axis in (str(axis).split("/")[0].strip() for axis in model.axes):
                self.globals.setdefault(axis, f"an axis of `{name}`")
        generate = self._generate()
        for name, variable in doc.variables.items():
            if name in TAKEN:
                self._key_error(
                    "AR106", ("variables", name), name=name, why="the emitted code uses that name"
                )
            if variable.classes is not None:
                self.globals.setdefault(f"{name}_one_hot", f"`{name}` as one-hot")
            if name not in dict(generate) and name in CALL_PARAMETERS:
                self._key_error(
                    "AR106",
                    ("variables", name),
                    name=name,
                    why="the calls of every compiled model use that name",
                )
        for op in doc.defaults:
            known = {**OPS}
            if op not in known or op == "use":
                near = nearest_name(op, known)
                self._key_error(
                    "AR101",
                    ("defaults", op),
                    key=op,
                    help=f"did you mean `{near}`?" if near else None,
                )
            else:
                self._defaults(op)
        blocks: dict[str, Block] = {}
        for key, body in doc.blocks.items():
            block = self._block(key, body)
            if block is not None and block.name in blocks:
                self._key_error("AR107", ("blocks", key), name=block.name, other="another block")
            elif block is not None:
                blocks[block.name] = block
        network = None
        if doc.network is not None:
            network = self._body(doc.network, ("network",), ())
        if len(generate) == 1 and generate[0][1] is None and network is None:
            self._error("AR102", (), key="network")
        return Spec(
            name=doc.name,
            paper=doc.paper,
            params=doc.params,
            variables=variables,
            generate=generate,
            orders=self._per_variable(doc.order, "order", generate, list),
            defaults=doc.defaults,
            blocks=blocks,
            network=network,
            heads=self._heads(generate),
            tree=self.tree,
            filename=filename,
            text=text,
            expressions=self.expressions,
        )

    # parts

    def _variable(self, name: str, model: VariableModel) -> Variable:
        path: Path = ("variables", name)
        self._global(name, "variable", path)
        kinds = [k for k in ("classes", "levels", "features") if getattr(model, k) is not None]
        if len(kinds) != 1:
            self._key_error(
                "AR118",
                path,
                name=name,
                why="it needs exactly one of `classes`, `levels` and "
                "`features`" + (f", not {' and '.join(kinds)}" if kinds else ""),
            )
        return Variable(name, kinds[0] if kinds else "classes", model, self._key(path))

    def _generate(self) -> tuple[tuple[str, Use | None], ...]:
        doc, names = self.document, list(self.document.variables)
        written = doc.generate
        if isinstance(written, str):
            if written not in names:
                near = nearest_name(written, names)
                self._error(
                    "AR105",
                    ("generate",),
                    name=written,
                    help=f"did you mean `{near}`?" if near else None,
                )
            return ((written, None),)
        if not isinstance(written, dict) or not written:
            self._error(
                "AR103",
                ("generate",),
                key="generate",
                expected="a variable, or `variable: {use: block}` for each",
            )
            return ()
        terms: list[tuple[str, Use | None]] = []
        for name, value in written.items():
            if name not in names:
                near = nearest_name(name, names)
                self._key_error(
                    "AR105",
                    ("generate", name),
                    name=name,
                    help=f"did you mean `{near}`?" if near else None,
                )
            try:
                use = Use.model_validate(value)
            except ValidationError as invalid:
                for found in invalid.errors():
                    path: Path = ("generate", name, *found["loc"])
                    self.errors.append(diagnostic(self.tree, path, "op:use", found))
                continue
            terms.append((name, use))
        return tuple(terms)

    def _per_variable(
        self, value: Any, key: str, generate: Sequence[tuple[str, Any]], single: type
    ) -> dict[str, Any]:
        """An `order` for all variables, or by variable: {name: (value, path)}."""
        names = [name for name, _ in generate]
        if value is None:
            return {}
        if isinstance(value, single):
            return dict.fromkeys(names, (value, (key,)))
        if isinstance(value, dict) and value and all(name in names for name in value):
            return {name: (v, (key, name)) for name, v in value.items()}
        self._error("AR103", (key,), key=key, expected="a list of axes, or one per variable")
        return {}

    def _heads(self, generate: Sequence[tuple[str, Any]]) -> dict[str, tuple[Any, Path]]:
        from pydantic import TypeAdapter

        names = [name for name, _ in generate]
        value = self.document.head
        if value is None:
            self._key_error("AR102", ("head",), key="head")
            return {}
        by_variable = isinstance(value, dict) and value and all(name in names for name in value)
        given = (
            {name: (v, ("head", name)) for name, v in value.items()}
            if by_variable
            else dict.fromkeys(names, (value, ("head",)))
        )
        heads: dict[str, tuple[Any, Path]] = {}
        for name, (head, path) in given.items():
            try:
                parsed: Any = TypeAdapter(HeadModel).validate_python(head)
            except ValidationError as invalid:
                for found in invalid.errors():
                    self.errors.append(self._head_error(path, found))
                continue
            heads[name] = (HEADS[parsed]() if isinstance(parsed, str) else parsed, path)
        self.errors = list(dict.fromkeys(self.errors))
        for name in names:
            if name not in heads and not self.errors:
                self._error("AR102", ("head",), key=name)
        return heads

    def _head_error(self, path: Path, found: Any) -> Diagnostic:
        if found["type"] in ("union_tag_not_found", "union_tag_invalid"):
            value = found["input"]
            key = next(iter(value), "") if isinstance(value, dict) else str(value)
            near = nearest_name(str(key), HEADS)
            return error(
                "AR121",
                source.locate(self.tree, path).span,
                name=key,
                help=f"did you mean `{near}`?" if near else f"known: {', '.join(HEADS)}",
            )
        tags = [p for p in found["loc"] if isinstance(p, str) and TAGS.match(p)]
        rest = tuple(p for p in found["loc"] if p not in tags)
        if tags and tags[-1] == "word:":
            value = str(found["input"])
            near = nearest_name(value, HEADS)
            return error(
                "AR121",
                source.locate(self.tree, path).span,
                name=value,
                help=f"did you mean `{near}`?" if near else f"known: {', '.join(HEADS)}",
            )
        return diagnostic(self.tree, (*path, *rest), tags[-1] if tags else "", found)

    def _defaults(self, op: str) -> None:
        """Defaults are settings of the op: checked by validating the op with them."""
        given = self.document.defaults[op]
        main = {"norm": "layer"}.get(op, 1)
        for key in given:
            if key == op or key in ("of", "to", "given", "tied", "over"):
                self._key_error(
                    "AR101",
                    ("defaults", op, key),
                    key=key,
                    help="only settings that are the same everywhere can be defaults",
                )
        try:
            OPS[op].model_validate({op: main, **given})
        except ValidationError as invalid:
            for found in invalid.errors():
                path: Path = ("defaults", op, *found["loc"])
                self.errors.append(diagnostic(self.tree, path, f"op:{op}", found))

    def _block(self, key: str, body: dict[str, Any]) -> Block | None:
        path: Path = ("blocks", key)
        match = _SIGNATURE.match(key)
        if match is None or match[2] is None:
            self._key_error(
                "AR109", path, key=key, help="write it as `layer(x)` or `layer(x, dilation=1)`"
            )
            return None
        name, inside = match[1], match[2]
        self._check_name(name, path, attribute=False)
        parameters: list[Parameter] = []
        for part in inside.split(",") if inside.strip() else []:
            parameter, equals, default = (piece.strip() for piece in part.partition("="))
            if not _NAME.match(parameter) or parameter in [p.name for p in parameters]:
                self._key_error(
                    "AR109",
                    path,
                    key=key,
                    help="each parameter is a name, once; a default follows `=`",
                )
                return None
            self._check_name(parameter, path)
            value: Any = default
            if default == "[]":
                value = []
            elif re.fullmatch(r"-?\d+", default):
                value = int(default)
            elif re.fullmatch(r"-?\d*\.\d+([eE]-?\d+)?", default):
                value = float(default)
            parameters.append(Parameter(parameter, not equals, value))
        names = tuple(p.name for p in parameters)
        for parameter in names:
            if parameter in self.globals:
                self._key_error("AR107", path, name=parameter, other=self.globals[parameter])
        return Block(name, tuple(parameters), self._body(body, path, names), self._key(path))

    def _body(self, lines: dict[str, Any], path: Path, taken: Sequence[str]) -> Body:
        if not lines:
            self._error("AR103", path, key=str(path[-1]), expected="a body of at least one line")
        seen: dict[str, str] = dict.fromkeys(taken, "a parameter of the block")
        result = []
        for key, value in lines.items():
            at: Path = (*path, key)
            names = tuple(part.strip() for part in key.split(","))
            for name in names:
                self._check_name(name, at)
                other = seen.get(name) or self.globals.get(name)
                if other:
                    self._key_error("AR107", at, name=name, other=other)
                seen[name] = "another line of the same body"
            result.append(Line(names, self._value(value, at), at, self._key(at)))
        return Body(tuple(result), self._key(path))

    def _value(self, value: Any, path: Path) -> Any:
        if isinstance(value, Op):
            return self._with_defaults(value)
        if isinstance(value, list):
            return tuple(self._item(item, (*path, i)) for i, item in enumerate(value))
        if value in FUNCTIONS:
            self._error(
                "AR114",
                path,
                what=f"`{value}` is a function, not a node",
                help=f"write `[{value}]` to apply it to the line above",
            )
            return None
        try:
            if "," in value:  # `out: v, h + dense`: values side by side
                return self._side_by_side(value, path)
            return self.expression(value, path)
        except SpecError as found:
            self.errors += found.diagnostics
            return None

    def _side_by_side(self, value: str, path: Path) -> tuple[Expr, ...]:
        node = source.locate(self.tree, path)
        origin = node.inner if isinstance(node, source.Scalar) else node.span
        parts, column = [], origin.column
        for part in value.split(","):
            lead = len(part) - len(part.lstrip())
            parts.append(parse(part.strip(), Span(origin.line, column + lead, len(part.strip()))))
            column += len(part) + 1
        return tuple(parts)

    def _item(self, item: Any, path: Path) -> Any:
        if isinstance(item, Op):
            if item.of is not None and path[-1] != 0:
                self._error(
                    "AR114",
                    (*path, "of"),
                    what="`of` inside a chain",
                    help="a chain passes each result on; give it a line of its own",
                )
            return self._with_defaults(item)
        if item not in FUNCTIONS:
            near = nearest_name(str(item), [*FUNCTIONS])
            self._error(
                "AR105",
                path,
                name=item,
                help=f"did you mean `{near}`?" if near else "a chain holds ops and functions",
            )
        return item

    def _with_defaults(self, op: Op) -> Op:
        given = {
            key: value
            for key, value in self.document.defaults.get(op.key, {}).items()
            if key not in op.model_fields_set and key in type(op).model_fields
        }
        return op.model_copy(update=given) if given else op

    def expression(self, text: str, path: Path) -> Expr:
        node = source.locate(self.tree, path)
        origin = node.inner if isinstance(node, source.Scalar) else node.span
        parsed = parse(text, origin)
        self.expressions[path] = parsed
        return parsed

    # names

    def _global(self, name: str, kind: str, path: Path) -> None:
        self._check_name(name, path)
        for part in (name,):
            if part in self.globals:
                self._key_error("AR107", path, name=part, other=self.globals[part])
        self.globals[name] = f"a {kind}"

    def _check_name(self, name: str, path: Path, attribute: bool = True) -> None:
        why, help = None, None
        if not _NAME.match(name):
            why, help = "it is not a name", "letters, digits and `_`, beginning with a letter"
        elif name.endswith("_"):
            why, help = "it ends with `_`, which the emitted code uses", "drop the last character"
        elif keyword.iskeyword(name) or name in ("or", "self"):
            why = "it is a Python keyword"
        elif name in FUNCTIONS:
            why = "it is a function of the language"
        elif attribute and name in METHODS:
            why = "every compiled model has a method of that name"
        elif attribute and name in MODULE_ATTRIBUTES:
            why = "it is an attribute of every `nn.Module`"
        if why:
            self._key_error(
                "AR106",
                path,
                name=name,
                why=why,
                help=help or f"say `{name}_line`, or a word of the paper",
            )

    def _key(self, path: Path) -> Span:
        node = source.locate_key(self.tree, path)
        return node.span if node else source.locate(self.tree, path).span

    def _key_error(self, code: str, path: Path, help: str | None = None, **fields: Any) -> None:
        self.errors.append(error(code, self._key(path), help=help, **fields))

    def _error(self, code: str, path: Path, help: str | None = None, **fields: Any) -> None:
        span = source.locate(self.tree, path).span
        self.errors.append(error(code, span, help=help, **fields))
