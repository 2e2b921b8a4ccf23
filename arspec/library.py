"""The pieces: source text of `templates/pieces`, cut into its top-level names, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from arspec.files import piece_dir
from arspec.names import class_name

STEPS = ("caches", "replay", "state", "tape")  # how the modules of those pieces begin


@dataclass(frozen=True)
class Piece:
    """One top-level class, function or constant: its text and the names that it uses.

    `steps`: it serves the steps of a sampler, and is read behind the model.
    """

    name: str
    text: str
    uses: frozenset[str]
    place: tuple[int, int]
    steps: bool


@dataclass(frozen=True)
class Library:
    pieces: dict[str, Piece]
    imports: tuple[str, ...]

    def needed(self, text: str) -> list[Piece]:
        """The pieces that a text refers to, and those that they refer to, each after its needs."""
        ordered: dict[str, Piece] = {}
        seen: set[str] = set()  # two pieces may need each other

        def add(names: Iterable[str]) -> None:
            found = [self.pieces[name] for name in names if name in self.pieces]
            for piece in sorted(found, key=lambda p: p.place):
                if piece.name not in seen:
                    seen.add(piece.name)
                    add(piece.uses)
                    ordered[piece.name] = piece

        add(names_in(ast.parse(text)))
        return list(ordered.values())


def names_in(tree: ast.AST) -> frozenset[str]:
    """Every name that a piece of Python mentions, but for those that are local to a function."""
    found: set[str] = set()

    def visit(node: ast.AST, local: frozenset[str]) -> None:
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            local |= _bound(node)
        if isinstance(node, ast.Name) and node.id not in local:
            found.add(node.id)
        for child in ast.iter_child_nodes(node):
            visit(child, local)

    visit(tree, frozenset())
    return frozenset(found)


def _bound(function: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """The arguments and variables of a function, without those of functions inside it."""
    bound = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    body = function.body
    stack: list[ast.AST] = [*body] if isinstance(body, list) else [body]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            bound |= {node.name} if isinstance(node, ast.FunctionDef) else set()
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        stack += ast.iter_child_nodes(node)
    return frozenset(bound)


@lru_cache(maxsize=1)
def reserved() -> frozenset[str]:
    """The names that an emitted file may define or import itself."""
    imports = [node for text in library().imports for node in ast.parse(text).body]
    names = {
        alias.asname or alias.name
        for node in imports
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return frozenset(names | library().pieces.keys())


def model_class(name: str) -> str:
    """The class of a spec's model: ``pixel_cnn`` -> ``PixelCnn``, ``state`` -> ``StateModel``."""
    made = class_name(name)
    return f"{made}Model" if made in reserved() else made


@lru_cache(maxsize=1)
def library() -> Library:
    """All pieces, parsed once a process."""
    pieces: dict[str, Piece] = {}
    imports: set[str] = set()
    for number, path in enumerate(sorted(piece_dir().glob("*.py"))):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and (node.level or node.module == "__future__"):
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.add(ast.unparse(node))
                continue
            name = _name_of(node)
            if name is None:
                continue
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            while lines[first - 2].startswith("#"):  # what is said of it right above
                first -= 1
            source = "\n".join(lines[first - 1 : node.end_lineno])
            place, steps = (number, node.lineno), path.stem.startswith(STEPS)
            pieces[name] = Piece(name, source, names_in(node), place, steps)
    return Library(pieces, tuple(sorted(imports)))


def _name_of(node: ast.stmt) -> str | None:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return None
