"""Paths at URLs do what pathlib's do on a disk, and places that are none are refused with a sentence."""

import pathlib
import pickle
import sys
import uuid

import fsspec  # noqa: F401  Its registry is what a test changes.
import pytest

from cvjax.errors import ConfigError
from cvjax.storage import as_path, is_remote


@pytest.fixture(params=["disk", "file", "memory"])
def folder(request, tmp_path):
    """An empty folder of each kind."""
    if request.param == "disk":
        return as_path(tmp_path / "run")
    return as_path(f"file://{tmp_path}/run" if request.param == "file" else f"memory://{uuid.uuid4().hex}/run")


def test_reading_and_writing(folder):
    assert not folder.exists()
    (folder / "a").mkdir(parents=True, exist_ok=True)
    (folder / "a/text").write_text("größer\n", encoding="utf-8")
    (folder / "bytes.bin").write_bytes(b"\x00\xff")
    assert (folder / "a" / "text").read_text(encoding="utf-8") == "größer\n"
    assert (folder / "bytes.bin").read_bytes() == b"\x00\xff"
    assert (folder / "bytes.bin").stat().st_size == 2
    assert [folder.is_dir(), (folder / "a").is_dir(), (folder / "a").is_file()] == [True, True, False]
    assert [(folder / "bytes.bin").is_file(), (folder / "none").exists()] == [True, False]
    assert sorted(path.name for path in folder.iterdir()) == ["a", "bytes.bin"]
    with (folder / "lines").open("w") as file:
        file.write("1\n2\n")
    with (folder / "lines").open() as file:
        assert file.readlines() == ["1\n", "2\n"]
    (folder / "lines").rename(folder / "moved")
    assert (folder / "moved").read_text() == "1\n2\n"
    (folder / "a").rename(folder / "b")
    assert sorted(path.name for path in folder.iterdir()) == ["b", "bytes.bin", "moved"]
    (folder / "moved").unlink()
    (folder / "moved").unlink(missing_ok=True)
    assert not (folder / "moved").exists()


def test_what_is_missing_has_a_reason(folder):
    for look in (folder / "x").read_bytes, (folder / "x").stat, (folder / "x").unlink, lambda: list(folder.iterdir()):
        with pytest.raises(FileNotFoundError) as error:
            look()
        assert error.value.strerror.lower().startswith("no such file")
        assert str(folder) in str(error.value)


def test_names(folder):
    path = folder / "checkpoints" / "12.tmp"
    assert str(path) == f"{folder}/checkpoints/12.tmp" == f"{path}"
    assert (path.name, path.stem, path.suffix) == ("12.tmp", "12", ".tmp")
    assert path.parent.parent == folder
    assert path.relative_to(folder).as_posix() == "checkpoints/12.tmp"
    assert path.with_suffix(".x").name == "12.x"
    assert pickle.loads(pickle.dumps(path)) == path
    assert len({path, as_path(str(path))}) == 1
    assert as_path(path) == path.absolute() == path


def test_a_file_is_made_once():
    path = as_path(f"memory://{uuid.uuid4().hex}/lock")
    path.create_bytes(b"1")
    with pytest.raises(FileExistsError):
        path.create_bytes(b"2")
    assert path.read_bytes() == b"1"


def test_all_files_below():
    folder = as_path(f"memory://{uuid.uuid4().hex}/run")
    assert folder.files_below() == {}
    for name, content in {"a": b"1", "b/c": b"22", "b/d/e": b""}.items():
        (folder / name).write_bytes(content)
    assert {name: file.size for name, file in folder.files_below().items()} == {"a": 1, "b/c": 2, "b/d/e": 0}
    before = folder.files_below()
    (folder / "a").write_bytes(b"2")
    assert [name for name, file in folder.files_below().items() if before[name] != file] == ["a"]
    folder.rmtree()
    folder.rmtree(missing_ok=True)
    assert folder.files_below() == {}


def test_local_places_stay_local(tmp_path):
    assert as_path("runs/a") == pathlib.Path("runs/a")
    assert as_path("file:///a%20b/c") == pathlib.Path("/a b/c")
    assert as_path("gs:/bucket") == pathlib.Path("gs:/bucket")
    assert not is_remote(as_path(f"FILE://{tmp_path}"))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("gss://bucket/run", r"gss://bucket/run begins with gss://.*did you mean gs://\?"),
        ("xyz://bucket/run", r"no kind of storage that is known here"),
        ("https://host/run", r"https://.*no kind of storage"),
        ("memory://", r"memory:// names no bucket or folder"),
    ],
)
def test_other_places_are_refused(place, said):
    with pytest.raises(ConfigError, match=said):
        as_path(place)


@pytest.mark.parametrize(
    ("place", "driver", "extra"),
    [("gs://b/run", "gcsfs", "gcs"), ("gcs://b/run", "gcsfs", "gcs"), ("s3://b/run", "s3fs", "s3")],
)
def test_a_missing_driver_names_its_extra(monkeypatch, place, driver, extra):
    monkeypatch.setitem(sys.modules, driver, None)
    for scheme in ("gs", "s3"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    with pytest.raises(
        ConfigError, match=rf"{place} cannot be reached: .* needs {driver}; pip install 'cvjax\[{extra}\]'"
    ):
        as_path(place)
