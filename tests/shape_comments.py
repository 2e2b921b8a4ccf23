"""Are the shape comments of an emitted file true?

``# (B, time, WIDTH)`` behind a statement of a `forward` says the shape of what it makes. Here the
file is run with every such statement watched. A dimension is `B`, the name of an axis, or an
expression over these, the file's constants and the arguments of the class's constructor; `*` stands
for any number of dimensions, and `each` says that all targets have this shape, not the first alone.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_SHAPE = re.compile(r"# \((?P<dims>.+)\)(?P<each> each)?")
_PROMISE = re.compile(r": \((?P<dims>[^:]+)\)\.$")  # at the end of the docstring of `forward`
MADE = re.compile(r"forward$|_given|_per_")  # `forward` and what it settles in coarser loops
_WATCH = "_watch_shape"


@dataclass(frozen=True)
class Comment:
    """A shape comment: `behind` the last line of a statement, or on a line of its own above one."""

    line: int
    behind: bool
    dims: tuple[str, ...]
    each: bool

    def __str__(self) -> str:
        return f"line {self.line}: ({', '.join(self.dims)})"


@dataclass(frozen=True)
class Result:
    """What was compared, and what did not agree."""

    checked: int
    wrong: tuple[str, ...]


def check(
    text: str, x: Tensor, conditions: Mapping[str, Tensor], axes: Mapping[str, int]
) -> Result:
    """Run the model that `text` defines and compare every shape comment with the tensors."""
    comments = shape_comments(text)
    tree, watched = _watch(ast.parse(text), comments)
    seen: dict[int, int] = {}
    wrong: dict[str, None] = {}
    module = ModuleType("watched")
    arguments: dict[int, dict[str, Any]] = {}

    def watch(index: int, owner: nn.Module, value: Any) -> Any:
        comment = comments[index]
        seen[index] = seen.get(index, 0) + 1
        names = {**vars(module), **arguments.get(id(owner), {}), **axes, "B": len(x)}
        values = value if isinstance(value, tuple) else (value,)
        for one in values if comment.each else values[:1]:
            problem = _disagreement(comment.dims, tuple(one.shape), names)
            if problem:
                wrong[f"{comment}, but {problem}"] = None
        return value

    setattr(module, _WATCH, watch)
    exec(compile(tree, "<watched>", "exec"), module.__dict__)
    _record_arguments(module, arguments)
    model = _model(module)
    model.to(torch.float64).eval()
    with torch.no_grad():
        model(x, **conditions)
    for index, comment in enumerate(comments):
        if index not in watched:
            wrong[f"{comment} stands behind no assignment or return of a forward"] = None
        elif index not in seen:
            wrong[f"{comment} was never reached"] = None
    return Result(len(seen), tuple(wrong))


def shape_comments(text: str) -> list[Comment]:
    """The shape comments of a file, and the promises of its `forward` docstrings."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        match = _SHAPE.fullmatch(token.string) if token.type == tokenize.COMMENT else None
        if match:
            behind = not token.line.lstrip().startswith("#")
            found.append(
                Comment(token.start[0], behind, _split(match["dims"]), bool(match["each"]))
            )
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            match = _PROMISE.search(ast.get_docstring(node) or "")
            if match:
                found.append(Comment(node.lineno, True, _split(match["dims"]), False))
    return found


def _split(dims: str) -> tuple[str, ...]:
    """At the commas outside parentheses."""
    return tuple(part.strip() for part in re.split(r",(?![^()]*\))", dims))


def _watch(tree: ast.Module, comments: list[Comment]) -> tuple[ast.Module, set[int]]:
    """Pass the value of every commented assignment and return of a `forward` by the watch."""
    behind = {comment.line: i for i, comment in enumerate(comments) if comment.behind}
    above = {comment.line + 1: i for i, comment in enumerate(comments) if not comment.behind}
    watched: set[int] = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or not MADE.match(function.name):
            continue
        for node in _own(function):
            if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.Return)) or node.value is None:
                continue
            found = [behind.get(node.end_lineno or 0), above.get(node.lineno)]
            if isinstance(node, ast.Return):
                found.append(behind.get(function.lineno))  # what the docstring promises
            for index in found:
                if index is not None:
                    watched.add(index)
                    node.value = _call(index, node.value)
    return ast.fix_missing_locations(tree), watched


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """What is in a function, but not in one that it defines."""
    for statement in function.body:
        if not isinstance(statement, ast.FunctionDef):
            yield from ast.walk(statement)


def _call(index: int, value: ast.expr) -> ast.expr:
    watch = ast.Name(_WATCH, ast.Load())
    return ast.Call(watch, [ast.Constant(index), ast.Name("self", ast.Load()), value], [])


def _record_arguments(module: ModuleType, arguments: dict[int, dict[str, Any]]) -> None:
    """Note what the constructor of each module was called with."""
    for cls in list(vars(module).values()):
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)) or "__init__" not in vars(
            cls
        ):
            continue

        def recording(self: Any, *args: Any, _original: Any = cls.__init__, **kwargs: Any) -> None:
            bound = inspect.signature(_original).bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments.setdefault(id(self), dict(bound.arguments))
            _original(self, *args, **kwargs)

        cls.__init__ = recording  # type: ignore[method-assign]


def _model(module: ModuleType) -> nn.Module:
    """The last class of the file."""
    classes = [c for c in vars(module).values() if isinstance(c, type) and hasattr(c, "log_prob")]
    model = classes[-1]()
    assert isinstance(model, nn.Module)
    return model


def _disagreement(dims: tuple[str, ...], shape: tuple[int, ...], names: dict[str, Any]) -> str:
    """What is wrong with a comment; nothing if it fits."""
    sizes: list[Any] = []
    for dim in dims:
        try:
            sizes.append(None if dim == "*" else eval(dim, {"__builtins__": {}}, names))
        except NameError as unknown:
            return f"{unknown}"
    if None in sizes:
        place = sizes.index(None)
        before, after = sizes[:place], sizes[place + 1 :]
        fits = len(shape) >= len(before) + len(after)
        fits = fits and list(shape[: len(before)]) == before
        fits = fits and list(shape[len(shape) - len(after) :]) == after
    else:
        fits = list(shape) == sizes
    return "" if fits else f"it is {shape}"
