"""Finding specs, and never losing a file that somebody changed."""

import io
import os
from pathlib import Path

import pytest

from arspec import files
from arspec.diagnostics import SpecError
from arspec.source import MAX_BYTES

MODULE = '"""A model.\n\nbody: sha256 {BODY_HASH}\n"""\n\nWIDTH = 1\n'


def code(failure: pytest.ExceptionInfo[SpecError]) -> str:
    return failure.value.diagnostics[0].code


# --- finding --------------------------------------------------------------------------


def test_a_shipped_spec_is_found_by_name() -> None:
    assert {"wavenet", "pixelcnn", "gated_pixelcnn", "gpt2"} <= set(files.shipped_specs())
    found = files.find_spec("wavenet")
    assert found.name == "wavenet.yaml"
    assert "name: wavenet" in found.text


def test_a_path_is_read_and_called_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\n")
    assert files.find_spec(str(path)) == files.Source(str(path), "name: mine\n")


def test_a_directory_called_like_a_shipped_spec_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wavenet").mkdir()
    assert files.find_spec("wavenet").name == "wavenet.yaml"


def test_a_file_without_a_suffix_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wavenet").write_text("name: other\n")
    assert files.find_spec("wavenet").text == "name: other\n"


def test_standard_input_is_read_as_bytes_or_text() -> None:
    assert files.find_spec("-", io.StringIO("name: x\n")) == files.Source("<stdin>", "name: x\n")
    stream = io.TextIOWrapper(io.BytesIO("name: ö\n".encode()), encoding="ascii")
    assert files.find_spec("-", stream).text == "name: ö\n"


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SpecError) as failure:
        files.find_spec("wavnet")
    assert code(failure) == "AR601"
    assert "`wavenet`" in str(failure.value.diagnostics[0].help)
    assert "gpt2" in str(failure.value.diagnostics[0].help)


@pytest.mark.parametrize(
    ("contents", "expected"),
    [(None, "AR602"), (b"name: \xff\n", "AR001"), (b"#" * (MAX_BYTES + 1), "AR002")],
)
def test_what_cannot_be_read_is_an_error_of_ours(
    tmp_path: Path, contents: bytes | None, expected: str
) -> None:
    path = tmp_path / "spec.yaml"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(SpecError) as failure:
        files.find_spec(str(path))
    assert code(failure) == expected


@pytest.mark.parametrize("ref", ["", "x" * 5000, "x" * 5000 + ".yaml", "a\0b.yaml", "/", ".", ".."])
def test_no_name_is_strange_enough_for_a_traceback(ref: str) -> None:
    with pytest.raises(SpecError) as failure:
        files.find_spec(ref)
    assert code(failure) in ("AR601", "AR602")


def test_an_endless_file_is_not_read_to_its_end() -> None:
    if not os.path.exists("/dev/zero"):
        pytest.skip("no /dev/zero here")
    with pytest.raises(SpecError) as failure:
        files.find_spec("/dev/zero")
    assert code(failure) == "AR002"


# --- the seal -------------------------------------------------------------------------


def test_a_sealed_text_is_untouched_and_any_change_breaks_the_seal() -> None:
    sealed = files.seal(MODULE)
    assert files.PLACEHOLDER not in sealed
    assert files.is_untouched(sealed)
    assert files.seal(MODULE) == sealed
    assert not files.is_untouched(sealed.replace("WIDTH = 1", "WIDTH = 2"))
    assert not files.is_untouched(sealed.replace("A model", "a model"))
    assert not files.is_untouched(sealed + "\n")
    assert not files.is_untouched(MODULE)
    assert not files.is_untouched("print('mine')\n")


def test_a_spec_that_quotes_the_placeholder_does_not_confuse_the_seal() -> None:
    sealed = files.seal(MODULE.replace("WIDTH = 1", 'PAPER = "{BODY_HASH}"'))
    assert files.is_untouched(sealed)
    assert 'PAPER = "{BODY_HASH}"' in sealed


# --- writing --------------------------------------------------------------------------


def test_a_module_is_written_and_an_untouched_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    files.write_module(path, files.seal(MODULE))
    files.write_module(path, files.seal(MODULE.replace("1", "2")))
    assert "WIDTH = 2" in path.read_text()
    assert os.listdir(tmp_path) == ["model.py"]


def test_a_module_that_was_edited_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    files.write_module(path, files.seal(MODULE))
    edited = path.read_text() + "# my own line\n"
    path.write_text(edited)
    with pytest.raises(SpecError) as failure:
        files.write_module(path, files.seal(MODULE))
    assert code(failure) == "AR604"
    assert path.read_text() == edited
    files.write_module(path, files.seal(MODULE), force=True)
    assert files.is_untouched(path.read_text())


@pytest.mark.parametrize("contents", [b"print('mine')\n", b"\xff\xfe\x00binary"])
def test_a_file_of_somebody_elses_is_replaced_only_by_force(
    tmp_path: Path, contents: bytes
) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(contents)
    with pytest.raises(SpecError) as failure:
        files.write_module(path, files.seal(MODULE))
    assert code(failure) == "AR603"
    assert path.read_bytes() == contents
    files.write_module(path, files.seal(MODULE), force=True)
    assert path.read_text() == files.seal(MODULE)


def test_an_empty_file_is_nobodys_work(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.touch()
    files.write_module(path, files.seal(MODULE))
    assert files.is_untouched(path.read_text())


def test_a_checkout_that_changed_line_ends_is_not_an_edit(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_bytes(files.seal(MODULE).replace("\n", "\r\n").encode())
    files.write_module(path, files.seal(MODULE))
    assert b"\r" not in path.read_bytes()


@pytest.mark.parametrize("output", [".", "missing/model.py", "file/model.py", "a\0b.py"])
def test_where_nothing_can_be_written_the_error_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SpecError) as failure:
        files.write_module(output, MODULE, force=True)
    assert code(failure) == "AR605"
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.py"
    files.write_module(path, files.seal(MODULE))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpecError) as failure:
        files.write_module(path, files.seal(MODULE.replace("1", "2")))
    assert code(failure) == "AR605"
    assert path.read_text() == files.seal(MODULE)
    assert os.listdir(tmp_path) == ["model.py"]


def test_who_reads_the_old_module_meanwhile_reads_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    files.write_module(path, files.seal(MODULE))
    with path.open() as reader:
        files.write_module(path, files.seal(MODULE.replace("1", "2")))
        assert reader.read() == files.seal(MODULE)


def test_links_devices_and_permissions_survive(tmp_path: Path) -> None:
    real, link = tmp_path / "real.py", tmp_path / "link.py"
    files.write_module(real, files.seal(MODULE))
    real.chmod(0o640)
    link.symlink_to(real)
    files.write_module(link, files.seal(MODULE.replace("1", "2")))
    assert link.is_symlink()
    assert "WIDTH = 2" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640
    if os.path.exists("/dev/null"):
        files.write_module("/dev/null", MODULE)
        assert not os.path.isfile("/dev/null")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wavenet", "wavenet.py"),
        ("PixelCNN++", "PixelCNN.py"),
        ("../../etc/x", "etc_x.py"),
        ("3d", "_3d.py"),
        ("torch", "torch_model.py"),
        ("random", "random_model.py"),
        ("...", "model.py"),
    ],
)
def test_the_default_file_name_is_plain_and_hides_no_module(name: str, expected: str) -> None:
    assert files.module_file_name(name) == expected
