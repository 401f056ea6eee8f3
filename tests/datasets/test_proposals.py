"""Proposals: the grid, OpenCV's selective search where it is, and the sets on disk."""

import dataclasses
import os
import pickle
import shutil

import cv2
import numpy as np
import pytest
from tiny_sets import box_xml, write_tree

from cvjax.cli import propose as command
from cvjax.datasets.proposals import files
from cvjax.datasets.proposals.boxes import ProposalConfig, grid_boxes, propose
from cvjax.datasets.proposals.files import (
    ProposalSet,
    attach,
    open_proposals,
    prepare_proposals,
    proposal_folder,
    write_proposals,
)
from cvjax.datasets.registry import open_dataset
from cvjax.errors import ConfigError, DataError

GRID = ProposalConfig(mode="grid", limit=50)
has_search = hasattr(cv2, "ximgproc")


class Images:
    """A source of plain images with a bright rectangle, as (height, width)."""

    name, split, class_names, void = "mine", "train", ("a",), ()

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return {"image": cv2.imencode(".png", picture(*self.sizes[index]))[1].tobytes(), "id": f"image-{index}"}


def picture(height, width):
    image = np.full((height, width, 3), 40, np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = (200, 120, 30)
    return image


@pytest.mark.parametrize("limit", [1, 40, 500, 2000])
@pytest.mark.parametrize("size", [(120, 160), (300, 90), (8, 9)])
def test_a_grid_is_as_large_as_asked_for_and_on_the_image(size, limit):
    boxes = grid_boxes(size, ProposalConfig(mode="grid", limit=limit))
    height, width = size
    assert 1 <= len(boxes) <= limit
    if min(size) > 50 and limit > 100:
        assert len(boxes) > 0.8 * limit
    np.testing.assert_array_equal(boxes[0], [0, 0, width, height])
    assert (boxes >= 0).all()
    assert (boxes <= np.asarray([width, height, width, height]) + 1e-3).all()
    if min(size) > 10:
        assert (boxes[:, 2:] - boxes[:, :2] >= 10 - 1e-3).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)


def test_a_set_is_made_once_whole_and_the_same_by_any_workers(tmp_path):
    source = Images((60, 80), (70, 50), (64, 64))
    made = prepare_proposals(source, GRID, tmp_path, workers=0, progress=False)
    assert made.ids == ("image-0", "image-1", "image-2")
    for index, size in enumerate(source.sizes):
        np.testing.assert_array_equal(made[index], grid_boxes(size, GRID))
    again = pickle.loads(pickle.dumps(open_proposals(source, GRID, tmp_path)))
    np.testing.assert_array_equal(again[2], made[2])
    stamp = (made.folder / "boxes.npy").stat().st_mtime_ns
    prepare_proposals(source, GRID, tmp_path, workers=0, progress=False)
    assert (made.folder / "boxes.npy").stat().st_mtime_ns == stamp
    assert [p.name for p in made.folder.parent.iterdir() if not p.name.endswith(".lock")] == [made.folder.name]
    other = ProposalConfig(mode="grid", limit=51)
    assert proposal_folder(source, other, tmp_path) != made.folder
    with pytest.raises(DataError, match=r"cvjax data propose mine --split train --mode grid --limit 51"):
        open_proposals(source, other, tmp_path)
    with pytest.raises(DataError, match="there are no such proposals of these images"):
        open_proposals(Images((60, 80)), GRID, tmp_path)
    with pytest.raises(DataError, match="has proposals of 3 images and mine/train has 1; make them anew"):
        attach(Images((60, 80)), made)
    with pytest.raises(DataError, match="these are proposals of other images than those of mine/train"):
        attach(Images((60, 80), (70, 50), (64, 65)), made)
    assert attach(source, made)[1]["proposals"].shape == made[1].shape
    shorter = prepare_proposals(Images((60, 80)), GRID, tmp_path, workers=0, progress=False)
    assert (len(shorter), len(made)) == (1, 3)
    (shorter.folder / "boxes.npy").write_bytes(b"")
    again = prepare_proposals(Images((60, 80)), GRID, tmp_path, workers=0, overwrite=True, progress=False)
    np.testing.assert_array_equal(again[0], grid_boxes((60, 80), GRID))


def _folder(place, sizes, colors=(40,)):
    """A folder of images and XML of these sizes, drawn in one of the colors each."""
    tree = {}
    for number, size in enumerate(sizes):
        image = np.full((*size, 3), colors[number % len(colors)], np.uint8)
        tree[f"train/{number}.bmp"] = cv2.imencode(".bmp", image)[1].tobytes()
        tree[f"train/{number}.xml"] = box_xml([("cat", 1, 1, 9, 9)], size=size)
    return write_tree(place, tree)


def _opened(place):
    return open_dataset("xml_folder_detection", "train", target="boxes", manual_dir=place)


def test_a_set_belongs_to_its_files(tmp_path):
    def made(place) -> ProposalSet:
        found = prepare_proposals(_opened(place), GRID, tmp_path / "data", workers=0, progress=False)
        for index, (record, boxes) in enumerate(zip(_opened(place), found, strict=True)):
            shape = cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_COLOR).shape[:2]
            np.testing.assert_array_equal(boxes, grid_boxes(shape, GRID))
            assert found.ids[index] == record["id"]
        return found

    sizes = [(40, 60), (60, 40), (50, 50)]
    first = made(_folder(tmp_path / "first", sizes))
    second = made(_folder(tmp_path / "second", sizes[::-1]))
    assert first.folder != second.folder
    assert made(tmp_path / "first" / ".." / "first").folder == first.folder
    (tmp_path / "link").symlink_to(tmp_path / "first")
    assert made(tmp_path / "link").folder == first.folder
    copied = shutil.copytree(tmp_path / "first", tmp_path / "copied")  # as large, with the same names and times
    assert made(copied).folder != first.folder
    # The same name and number of bytes, transposed, then under its old time, too.
    (copied / "train/0.bmp").write_bytes((tmp_path / "first/train/0.bmp").read_bytes())
    changed = cv2.imencode(".bmp", np.full((60, 40, 3), 40, np.uint8))[1].tobytes()
    before = made(copied).folder
    (copied / "train/0.bmp").write_bytes(changed)
    (copied / "train/0.xml").write_bytes(box_xml([], size=(60, 40)))
    assert made(copied).folder != before
    (copied / "train.txt").write_text("2\n0\n")  # another number and order
    assert len({found.folder for found in (first, second, made(copied))}) == 3
    assert first[0].shape == ProposalSet(first.folder)[0].shape  # what was there is there still


def test_sets_whose_key_stands_for_the_parameters_alone_are_taken_if_they_fit(tmp_path, monkeypatch):
    sizes = [(40, 60), (60, 40), (50, 50), (44, 44)]
    folder = _folder(tmp_path / "mine", sizes)
    old = tmp_path / "data/proposals/xml_folder_detection/train/grid-6ec204a9f4f4"
    boxes = [grid_boxes(size, GRID) for size in sizes]
    write_proposals(old, list("0123"), boxes, dataclasses.asdict(GRID))
    options = {"workers": 0, "progress": False}

    def is_taken() -> bool:
        new = proposal_folder(_opened(folder), GRID, tmp_path / "data")
        shutil.rmtree(new, ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(files, "_all", lambda *_: pytest.fail("proposes"))
            try:
                found = prepare_proposals(_opened(folder), GRID, tmp_path / "data", **options)
            except pytest.fail.Exception:
                return False
        assert found.folder == new != old
        for mine, wanted in zip(found, boxes, strict=True):
            np.testing.assert_array_equal(mine, wanted)
        assert old.is_dir()
        return True

    assert is_taken()
    for ids, some in ((list("0124"), boxes), (list("0123"), boxes[::-1]), (list("012"), boxes[:3])):
        write_proposals(old, ids, some, {}, overwrite=True)
        assert not is_taken()
    write_proposals(old, list("0123"), boxes, {}, overwrite=True)
    assert is_taken()
    later = (old / "boxes.npy").stat().st_mtime + 5
    os.utime(folder / "train/1.bmp", (later, later))  # changed after the boxes were made
    assert not is_taken()


def test_a_bad_image_leaves_nothing_behind(tmp_path):
    class Broken(Images):
        def __getitem__(self, index):
            return {"image": b"no image", "id": "torn"} if index else super().__getitem__(index)

    with pytest.raises(DataError, match="torn"):
        prepare_proposals(Broken((60, 80), (60, 80)), GRID, tmp_path, workers=0, progress=False)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and not p.name.endswith(".lock")]


@pytest.mark.slow
def test_workers_give_the_same_set(tmp_path):
    source = Images((60, 80), (70, 50), (64, 64))
    one, two = (prepare_proposals(source, GRID, tmp_path / str(n), workers=n, progress=False) for n in (0, 2))
    for index in range(3):
        np.testing.assert_array_equal(one[index], two[index])


def test_the_command_proposes_for_an_image_folder(tmp_path, capsys):
    for folder in ("images", "masks"):
        (tmp_path / "mine" / "train" / folder).mkdir(parents=True)
        cv2.imwrite(
            str(tmp_path / "mine" / "train" / folder / "0.png"), np.zeros((40, 50, 3 if folder[0] == "i" else 1))
        )
    (tmp_path / "mine" / "classes.txt").write_text("a\n")
    args = ["image_folder_segmentation", "--mode", "grid", "--limit", "30", "--workers", "0", "--no-progress"]
    command.main([*args, "--data-dir", str(tmp_path / "data"), "--manual-dir", str(tmp_path / "mine")])
    printed = capsys.readouterr().out
    assert "boxes of 1 images of image_folder_segmentation train in" in printed
    with pytest.raises(ConfigError, match="There is no data set 'nothing'"):
        command.main(["nothing"])


def test_errors_name_the_fix():
    with pytest.raises(ConfigError, match="modes fast, quality, grid"):
        ProposalConfig(mode="edges")
    with pytest.raises(ConfigError, match="positive"):
        ProposalConfig(limit=0)


@pytest.mark.skipif(has_search, reason="OpenCV's contributed modules are installed")
def test_selective_search_says_what_to_install():
    with pytest.raises(ConfigError, match=r"pip install 'cvjax\[proposals\]'.*'grid'"):
        propose(picture(60, 80))


@pytest.mark.skipif(not has_search, reason="OpenCV's contributed modules are not installed")
def test_selective_search_finds_a_thing_and_the_same_boxes_again():
    image = picture(60, 100)
    boxes = propose(image, ProposalConfig(longest=100))
    low, high = np.maximum(boxes[:, :2], [25, 15]), np.minimum(boxes[:, 2:], [50, 30])
    shared = np.clip(high - low, 0, None).prod(1)
    assert (shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + 25 * 15 - shared)).max() > 0.9
    np.testing.assert_array_equal(boxes, propose(image, ProposalConfig(longest=100)))
    halved = propose(image, ProposalConfig(longest=50))
    assert halved.max() <= 100
    assert (halved[:, 2] > 50).any()
    plain = np.zeros((30, 40, 3), np.uint8)
    np.testing.assert_array_equal(propose(plain), [[0, 0, 40, 30]])


def test_the_command_says_what_share_of_the_objects_is_covered():
    none = np.zeros(2, bool)
    records = [
        {"boxes": np.asarray([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32), "difficult": none, "crowd": none},
        {"boxes": np.asarray([[0, 0, 8, 8], [5, 5, 9, 9]], np.float32), "difficult": ~none, "crowd": none},
    ]
    # The first is found whole, the second with an IoU of 0.6; the other image's objects do not count.
    found = [np.asarray([[0, 0, 10, 10], [20, 20, 40, 32]], np.float32), np.zeros((0, 4), np.float32)]
    assert command.recall_line(records, found) == "recall of objects: 1.000 at an IoU of 0.5, 0.500 at 0.7"


@pytest.mark.skipif(not has_search, reason="OpenCV's contributed modules are not installed")
def test_the_inputs_that_went_wrong(shared_dir, tmp_path):
    """The proposals that one folder left on disk are not those of another with as many images."""
    props = shared_dir / "cases" / "props"
    shutil.copytree(props / "cache", tmp_path / "data")
    config = ProposalConfig(limit=50)  # as the set that is there
    for name in ("second", "first", "second"):
        found = prepare_proposals(_opened(props / name), config, tmp_path / "data", workers=0, progress=False)
        for record, boxes in zip(_opened(props / name), found, strict=True):
            x1, y1, x2, y2 = record["boxes"][0]
            low, high = np.maximum(boxes[:, :2], (x1, y1)), np.minimum(boxes[:, 2:], (x2, y2))
            shared = np.clip(high - low, 0, None).prod(1)
            assert (shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (x2 - x1) * (y2 - y1) - shared)).max() == 1
