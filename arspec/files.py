"""Files: finding and reading specs, and writing without losing anybody's work.

A generated module carries the SHA-256 of its own text in its header, so that a file which somebody
edited since, or which arspec never wrote, is recognised and left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from arspec.diagnostics import SpecError, error, nearest_name
from arspec.source import MAX_BYTES, decode

SUFFIXES = (".yaml", ".yml")
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a spec, and the name by which messages call it."""

    name: str
    text: str


# --- what is shipped ------------------------------------------------------------------


def _shipped(name: str) -> Path:
    """A directory of the package: `_<name>` in an installed wheel, `../<name>` in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name


def spec_dir() -> Path:
    """The directory of the shipped specs."""
    return _shipped("specs")


def template_dir() -> Path:
    """The directory of the skeleton of an emitted module."""
    return _shipped("templates")


def piece_dir() -> Path:
    """The directory of the classes that emitted modules are made of."""
    return template_dir() / "pieces"


def shipped_specs() -> dict[str, Path]:
    """The shipped specs by name, in alphabetical order."""
    return {path.stem: path for path in sorted(spec_dir().glob("*.yaml"))}


# --- reading specs --------------------------------------------------------------------


def find_spec(ref: str, stdin: IO[str] | None = None) -> Source:
    """The spec that `ref` means: `-` is standard input, else a path, else a shipped name.

    A name with a YAML suffix or a directory in it is always a path; so is that of an existing file.
    Raises SpecError: AR601, AR602 where there is nothing to read; AR001, AR002 where it is no text.
    """
    if ref == STDIN:
        return Source("<stdin>", decode(_read_stream(stdin or sys.stdin), "<stdin>"))
    looks_like_path = ref.lower().endswith(SUFFIXES) or os.path.dirname(ref) != ""
    if looks_like_path or (os.path.exists(ref) and not os.path.isdir(ref)):
        return Source(ref, decode(_read_file(ref, ref), ref))
    shipped = shipped_specs()
    if ref in shipped:
        name = shipped[ref].name
        return Source(name, decode(_read_file(str(shipped[ref]), name), name))
    near = nearest_name(ref, shipped)
    names = ", ".join(shipped)
    raise _failure(
        "AR601",
        ref,
        name=ref,
        help=(f"did you mean `{near}`? " if near else "") + f"the shipped specs are: {names}",
    )


def _read_file(path: str, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)  # one more than `decode` allows
    except FileNotFoundError:
        raise _failure("AR602", name, name=name, reason="there is no such file") from None
    except IsADirectoryError:
        raise _failure("AR602", name, name=name, reason="it is a directory") from None
    except (OSError, ValueError) as reason:
        raise _failure("AR602", name, name=name, reason=_reason(reason)) from None


def _read_stream(stream: IO[str]) -> bytes:
    try:
        raw = getattr(stream, "buffer", None)
        if raw is None:  # a text stream without bytes below it, such as io.StringIO
            return stream.read(MAX_BYTES + 1).encode(errors="surrogatepass")
        data: bytes = raw.read(MAX_BYTES + 1)
        return data
    except (OSError, ValueError) as reason:
        raise _failure("AR602", "<stdin>", name="<stdin>", reason=_reason(reason)) from None


# --- the seal of a generated module ---------------------------------------------------

PLACEHOLDER = "{BODY_HASH}"
_OPEN = re.compile(rf"^body: sha256 {re.escape(PLACEHOLDER)}$", re.MULTILINE)
_SEALED = re.compile(r"^body: sha256 ([0-9a-f]{64})$", re.MULTILINE)


def seal(text: str) -> str:
    """`text` with the placeholder of its line `body: sha256 {BODY_HASH}` filled in.

    The hash is that of the whole text with the placeholder still in place.
    """
    return _OPEN.sub(f"body: sha256 {_hash(text)}", text, count=1)


def is_generated(text: str) -> bool:
    """Whether `text` has the seal of a generated module, intact or not."""
    return _SEALED.search(text) is not None


def is_untouched(text: str) -> bool:
    """Whether `text` is, to the letter, what arspec once generated."""
    found = _SEALED.search(text)
    if found is None:
        return False
    unsealed = _SEALED.sub(f"body: sha256 {PLACEHOLDER}", text, count=1)
    return found[1] == _hash(unsealed)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


# --- writing --------------------------------------------------------------------------


def module_file_name(name: str) -> str:
    """The file that `build` writes by default: `NAME.py`, in the current directory.

    Whatever the spec is called, the result is one plain file name that can be imported and that
    hides no module which the emitted code itself imports (a `torch.py` would).
    """
    stem = re.sub(r"\W+", "_", name).strip("_") or "model"
    if stem[0].isdigit():
        stem = f"_{stem}"
    if stem == "torch" or stem in sys.stdlib_module_names:
        stem += "_model"
    return f"{stem}.py"


def write_module(path: str | os.PathLike[str], text: str, *, force: bool = False) -> None:
    """Write a generated module, whole or not at all.

    A file that is not an untouched generated module is replaced only with `force`.
    Raises SpecError: AR603, AR604 where work would be lost; AR605 where nothing can be written.
    """
    name = os.fspath(path)
    with replacing(name) as temporary:
        target = _target(name)
        if target.is_file() and not force:
            _refuse_to_lose(target, name)
        temporary.write_bytes(text.encode())


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, whole or not at all. Raises SpecError AR605 where nothing can be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise AR605 now for what could not be written later. Changes nothing."""
    name = os.fspath(path)
    if os.path.isdir(name):
        raise _failure("AR605", name, name=name, reason="it is a directory")
    try:
        target = _target(name)
        if target.is_file() or not target.exists():
            with _temporary_beside(target):
                pass
    except (OSError, ValueError) as reason:
        raise _failure("AR605", name, name=name, reason=_reason(reason)) from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A free path to write to; in the end what was written takes the place of `path`, at once.

    After an exception, Ctrl-C included, `path` is as it was, and nothing is left beside it.
    Raises SpecError AR605 where nothing can be written.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        raise _failure("AR605", name, name=name, reason="it is a directory")
    try:
        target = _target(name)
        if target.exists() and not target.is_file():  # a pipe or a device
            yield target
            return
        with _temporary_beside(target) as temporary:
            permissions = (target if target.exists() else temporary).stat().st_mode & 0o777
            yield temporary
            _to_disk(temporary)
            temporary.chmod(permissions)
            os.replace(temporary, target)
    except (OSError, ValueError) as reason:
        raise _failure("AR605", name, name=name, reason=_reason(reason)) from None


def _target(name: str) -> Path:
    """Through a link: the file, not the link, is replaced."""
    return Path(os.path.realpath(name))


def _refuse_to_lose(target: Path, name: str) -> None:
    """Raise AR603 or AR604 if `target` holds work that generating it anew would not bring back."""
    present = target.read_text(encoding="utf-8", errors="surrogateescape")
    if present and not is_untouched(present):
        code = "AR604" if is_generated(present) else "AR603"
        help = "`-o FILE` writes elsewhere; `--force` replaces the file"
        raise _failure(code, name, name=name, help=help)


def _to_disk(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """A free path in the same directory (a rename is atomic only within one), gone afterwards."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


# --- messages -------------------------------------------------------------------------


def _reason(problem: Exception) -> str:
    """The operating system's own words, uncapitalised: "permission denied"."""
    words = getattr(problem, "strerror", None) or str(problem)
    return words[:1].lower() + words[1:]


def _failure(
    code: str,
    filename: str,
    *,
    help: str | None = None,
    **fields: Any,
) -> SpecError:
    """An error about a file as a whole: it has a name and no line."""
    return SpecError([error(code, None, help=help, **fields)], filename)
