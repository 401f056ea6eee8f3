"""Proposals: the grid, OpenCV's selective search where it is, and the sets on disk."""

import pickle

import cv2
import numpy as np
import pytest

from cvjax.cli import propose as command
from cvjax.datasets.proposals.boxes import ProposalConfig, grid_boxes, propose
from cvjax.datasets.proposals.files import open_proposals, prepare_proposals, proposal_folder
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
    assert [p.name for p in made.folder.parent.iterdir()] == [made.folder.name]
    other = ProposalConfig(mode="grid", limit=51)
    assert proposal_folder(source, other, tmp_path) != made.folder
    with pytest.raises(DataError, match=r"cvjax.cli.propose mine --split train --mode grid --limit 51"):
        open_proposals(source, other, tmp_path)
    with pytest.raises(DataError, match="propose again with --overwrite"):
        open_proposals(Images((60, 80)), GRID, tmp_path)
    shorter = prepare_proposals(Images((60, 80)), GRID, tmp_path, workers=0, overwrite=True, progress=False)
    assert len(shorter) == 1


def test_a_bad_image_leaves_nothing_behind(tmp_path):
    class Broken(Images):
        def __getitem__(self, index):
            return {"image": b"no image", "id": "torn"} if index else super().__getitem__(index)

    with pytest.raises(DataError, match="torn"):
        prepare_proposals(Broken((60, 80), (60, 80)), GRID, tmp_path, workers=0, progress=False)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


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
