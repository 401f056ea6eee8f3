"""Membranes in folders: folds, labels, and the challenge's own set where it lies."""

import cv2
import numpy as np
import pytest
from tiny_sets import draw_membranes

from cvjax.data.dataset import image_sizes
from cvjax.data.decode import decode_example
from cvjax.datasets.isbi import CLASS_NAMES, open_isbi
from cvjax.datasets.registry import open_dataset
from cvjax.errors import DataError


def ids(source) -> list[str]:
    return [source[i]["id"] for i in range(len(source))]


@pytest.mark.parametrize("labels", ["labels", "masks"])
def test_levels_are_classes(tmp_path, labels):
    source = open_isbi("all", tmp_path, draw_membranes(tmp_path / "em", labels=labels))
    assert source.class_names == CLASS_NAMES == ("membrane", "cell")
    for index in range(len(source)):
        example = decode_example(source[index], 2)
        assert example["image"].shape == (8, 16, 3)
        np.testing.assert_array_equal(example["mask"], np.broadcast_to(np.arange(16) != index, (8, 16)))


def test_folds_are_rows_of_neighbors_that_are_everything_together(tmp_path):
    draw_membranes(tmp_path / "isbi_membrane")
    everything = [str(number) for number in range(12)]
    assert ids(open_dataset("isbi_membrane", "all", data_dir=tmp_path)) == everything
    held_out = []
    for fold in range(1, 6):
        val, train = (ids(open_dataset("isbi_membrane", f"{s}{fold}", data_dir=tmp_path)) for s in ("val", "train"))
        assert sorted(val + train, key=int) == everything
        assert val == [str(number) for number in range(int(val[0]), int(val[-1]) + 1)]
        held_out += val
    assert held_out == everything
    assert ids(open_isbi("val", tmp_path)) == ids(open_isbi("val5", tmp_path)) == ["10", "11"]
    assert ids(open_isbi("train", tmp_path)) == everything[:10]


def test_what_the_user_can_mend(tmp_path):
    with pytest.raises(DataError, match=r"isbi_membrane: there are no folders images and labels .*--input\.manual-dir"):
        open_dataset("isbi_membrane", "train", data_dir=tmp_path)
    folder = draw_membranes(tmp_path / "em")
    for split in ("test", "val0", "train6", "val12"):
        with pytest.raises(DataError, match=f"no split '{split}'; choose train, val, all"):
            open_isbi(split, tmp_path, folder)
    (folder / "labels" / "3.png").unlink()
    with pytest.raises(DataError, match="images without a label"):
        open_isbi("train", tmp_path, folder)
    with pytest.raises(DataError, match="3 images are too few for 5 folds"):
        open_isbi("val", tmp_path, draw_membranes(tmp_path / "few", count=3))
    assert len(open_isbi("all", tmp_path, tmp_path / "few")) == 3


def test_a_level_that_is_neither_is_named(tmp_path):
    folder = draw_membranes(tmp_path / "em", count=5)
    cv2.imwrite(str(folder / "labels" / "2.png"), np.full((8, 16), 128, np.uint8))
    source = open_isbi("all", tmp_path, folder)
    with pytest.raises(DataError, match=r"2\.png: 128 is no label of isbi_membrane, whose masks hold 0, 255"):
        source[2]


def test_the_challenges_set(shared_dir):
    folder = shared_dir / "data" / "isbi_membrane"
    if not folder.is_dir():
        pytest.skip("there is no data/isbi_membrane")
    train, val = (open_isbi(split, folder.parent) for split in ("train", "val"))
    assert (len(train), len(val)) == (24, 6)
    assert not set(ids(train)) & set(ids(val))
    assert set(image_sizes(train)) == {(512, 512)}
    for source in (train, val):
        example = decode_example(source[0], 2)
        assert set(np.unique(example["mask"])) == {0, 1}
        assert 0.1 < (example["mask"] == 0).mean() < 0.35
        # Membranes are dark.
        assert example["image"][example["mask"] == 0].mean() < example["image"][example["mask"] == 1].mean() - 20
