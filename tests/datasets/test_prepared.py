"""Prepared sets: they belong to the files that they were made from, and one process makes them."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_sets import encoded, labels, photo, write_tree

from cvjax.cli import prepare
from cvjax.data.dataset import FolderDataset, TfdsDataset
from cvjax.data.decode import decode_example
from cvjax.datasets.image_folder import open_image_folder, prepare_image_folder
from cvjax.errors import DataError
from cvjax.files import locked

NAME = "image_folder_segmentation"


def folder_of(place: pathlib.Path, seed: int, count: int = 3) -> pathlib.Path:
    """A folder of images and masks, of 21 classes, that a seed decides."""
    tree = {"classes.txt": "\n".join(f"class {number}" for number in range(21)).encode()}
    for number in range(count):
        tree[f"train/images/{number}.png"] = encoded(photo(seed + number), "PNG")
        tree[f"train/masks/{number}.png"] = encoded(labels(seed + number), "PNG")
    return write_tree(place, tree)


def masks(source) -> list[np.ndarray]:
    return [decode_example(source[index], 21)["mask"] for index in range(len(source))]


def expected(seed: int, void: tuple[int, ...] = (), count: int = 3) -> list[np.ndarray]:
    arrays = [labels(seed + number) for number in range(count)]
    return [np.where(np.isin(array, void), 255, array) for array in arrays]


def assert_masks(source, wanted: list[np.ndarray]) -> None:
    found = masks(source)
    assert len(found) == len(wanted)
    for mask, right in zip(found, wanted):
        np.testing.assert_array_equal(mask, right)


def test_two_folders_of_one_name_have_a_set_each(tmp_path):
    data, first, second = (
        tmp_path / "data",
        folder_of(tmp_path / "a" / "same", 0),
        folder_of(tmp_path / "b" / "same", 50),
    )
    places = [pathlib.Path(prepare_image_folder(data, f, progress=False).data_dir) for f in (first, second, first)]
    assert places[0] == places[2] == data / NAME / "same" / "1.0.0"
    assert places[1].parent.name.startswith("same-")
    for folder, seed in ((first, 0), (second, 50)):
        source = open_image_folder("train", data, folder)
        assert isinstance(source, TfdsDataset)
        assert_masks(source, expected(seed))
    with pytest.raises(DataError, match=r"no single data set is prepared in .* \(there is same, same-\w{8}\); name"):
        open_image_folder("train", data)
    assert_masks(open_image_folder("train", data, config=places[1].parent.name), expected(50))


def test_changed_files_are_not_read_from_the_old_set(tmp_path):
    data, folder = tmp_path / "data", folder_of(tmp_path / "mine", 0)
    prepare_image_folder(data, folder, progress=False)
    mask = folder / "train" / "masks" / "1.png"
    changed = encoded(np.where(labels(1) == 255, 255, (labels(1) + 1) % 21).astype(np.uint8), "PNG")
    mask.write_bytes(changed)
    os.utime(mask, ns=(1, mask.stat().st_mtime_ns + 1))
    wanted = expected(0)
    wanted[1] = np.where(labels(1) == 255, 255, (labels(1) + 1) % 21)
    source = open_image_folder("train", data, folder)
    assert isinstance(source, FolderDataset)
    assert_masks(source, wanted)
    builder = prepare_image_folder(data, folder, progress=False)
    assert_masks(TfdsDataset(builder.data_dir, "train"), wanted)
    assert_masks(open_image_folder("train", data, config="mine"), expected(0))  # nothing is lost
    assert isinstance(open_image_folder("train", data, folder), TfdsDataset)


@pytest.mark.parametrize("options", [{"void": (3,)}, {"values": tuple(reversed(range(21)))}], ids=["void", "values"])
def test_other_options_make_another_set(tmp_path, options):
    data, folder = tmp_path / "data", folder_of(tmp_path / "mine", 0)
    prepare_image_folder(data, folder, progress=False)
    builder = prepare_image_folder(data, folder, progress=False, **options)
    if "void" in options:
        wanted = expected(0, void=(3,))
    else:
        wanted = [np.where(mask == 255, 255, 20 - mask) for mask in expected(0)]
    assert_masks(TfdsDataset(builder.data_dir, "train"), wanted)
    assert_masks(open_image_folder("train", data, folder, **options), wanted)
    assert_masks(open_image_folder("train", data, folder), expected(0))


def test_renamed_classes_and_moved_folders(tmp_path):
    data, folder = tmp_path / "data", folder_of(tmp_path / "mine", 0)
    prepare_image_folder(data, folder, progress=False)
    moved = folder.rename(tmp_path / "elsewhere")
    assert isinstance(open_image_folder("train", data, moved), TfdsDataset)
    names = (moved / "classes.txt").read_text().replace("class 7", "horse 7")
    (moved / "classes.txt").write_text(names)
    source = open_image_folder("train", data, moved)
    assert isinstance(source, FolderDataset)
    assert source.class_names[7] == "horse 7"


def test_what_was_skipped_is_said_again(tmp_path, capsys):
    data, folder = tmp_path / "data", folder_of(tmp_path / "mine", 0)
    (folder / "train" / "masks" / "1.png").write_bytes(b"nothing")
    command = [NAME, "--manual-dir", str(folder), "--data-dir", str(data), "--no-progress"]
    for _ in range(2):
        prepare.main([*command, "--skip-damaged"])
        printed = capsys.readouterr()
        assert printed.err.startswith("skipped: 1")
        assert printed.out.endswith("train 2; 1 skipped\n")
    with pytest.raises(DataError, match=r"^1: not an image in a known format"):
        prepare.main(command)
    assert isinstance(open_image_folder("train", data, folder), FolderDataset)  # which has all three


def test_a_failed_overwrite_keeps_what_was_there(tmp_path):
    data, folder = tmp_path / "data", folder_of(tmp_path / "mine", 0)
    prepare_image_folder(data, folder, progress=False)
    for mask in (folder / "train" / "masks").iterdir():
        mask.write_bytes(b"nothing")
    with pytest.raises(DataError):
        prepare_image_folder(data, folder, progress=False, overwrite=True)
    assert_masks(open_image_folder("train", data), expected(0))
    assert [path.name for path in data.iterdir() if path.is_dir()] == [NAME]


PREPARE = r"""
import sys, time
from cvjax.datasets import writers
real = writers.PairsBuilder._generate_examples
def slowly(self, source):
    with open("prepared.txt", "a") as file:
        file.write("once\n")
    time.sleep(1)
    yield from real(self, source)
writers.PairsBuilder._generate_examples = slowly
from cvjax.cli import prepare
prepare.main(sys.argv[1:])
"""


def start(place: pathlib.Path, *args: str) -> subprocess.Popen:
    command = [sys.executable, "-c", PREPARE, *args]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_of_two_processes_one_prepares_and_the_other_waits(tmp_path):
    data, folder = tmp_path / "data", folder_of(tmp_path / "mine", 0)
    args = (NAME, "--manual-dir", str(folder), "--data-dir", str(data), "--no-progress")
    ended = [process.communicate(timeout=120) for process in [start(tmp_path, *args), start(tmp_path, *args)]]
    outputs, errors = zip(*ended)
    assert (tmp_path / "prepared.txt").read_text() == "once\n"
    lasts = {text.splitlines()[-1] for text in outputs}
    assert lasts == {f"{NAME} in {data / NAME / 'mine' / '1.0.0'}: train 3; 0 skipped"}
    assert [text for text in errors if text] in (
        [],  # the first was done before the second began
        [f"waiting for another process that is preparing {NAME}-mine\n"],
    )
    assert_masks(open_image_folder("train", data), expected(0))


HOLD = """
import pathlib, sys, time
from cvjax.files import locked
with locked(pathlib.Path(sys.argv[1]), "holding"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock to wait for")
def test_a_lock_excludes_others_until_its_owner_is_dead(tmp_path):
    path = tmp_path / "lock"
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    waiter = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiter.stdout is not None
    assert waiter.stderr is not None
    try:
        assert waiter.stderr.readline() == "waiting for another process that is holding\n"
        owner.send_signal(signal.SIGKILL)
        owner.wait(timeout=60)
        started = time.monotonic()
        assert waiter.stdout.readline() == "held\n"
        assert time.monotonic() - started < 30
    finally:
        for process in (owner, waiter):
            process.kill()
            process.wait(timeout=60)
            process.stdout.close()
        waiter.stderr.close()
    with locked(path, "holding"):
        pass
