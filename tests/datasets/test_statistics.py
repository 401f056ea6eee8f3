"""Class frequencies against counting by hand."""

import cv2
import numpy as np
import pytest
from tiny_sets import write_tree

from cvjax.data.dataset import FolderDataset
from cvjax.datasets.masks import counts as module
from cvjax.datasets.masks.counts import count_masks
from cvjax.datasets.statistics import balancing_weights, class_frequencies
from cvjax.errors import DataError


def png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


class Masks:
    """A source of given masks, whose images are as large."""

    name, split, class_names = "masks", "train", ("a", "b", "c")

    def __init__(self, masks):
        self._masks = masks

    def __len__(self):
        return len(self._masks)

    def __getitem__(self, index):
        mask = self._masks[index]
        return {"image": png(np.zeros((*mask.shape, 3), np.uint8)), "mask": png(mask), "id": str(index)}


def drawn_masks(count: int) -> list[np.ndarray]:
    """Masks of several sizes; class 2 occurs in every fifth alone, 9 is void."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 20, (count, 2))
    choices = ([0, 0, 0, 1, 9, 255], [0, 1, 2, 9, 255])
    return [rng.choice(np.array(choices[number % 5 == 0], np.uint8), tuple(size)) for number, size in enumerate(sizes)]


def test_counts_are_those_of_all_masks():
    masks = drawn_masks(300)
    found = count_masks(Masks(masks), 3, (9,))
    assert found.masks == 300
    assert found.pixels == tuple(sum(int((mask == label).sum()) for mask in masks) for label in range(3))
    assert found.ignored == sum(int(np.isin(mask, (9, 255)).sum()) for mask in masks)
    assert found.total == sum(mask.size for mask in masks)


def test_frequencies_and_weights_are_the_papers():
    masks = drawn_masks(300)
    frequencies = class_frequencies(count_masks(Masks(masks), 3, (9,)), "masks")
    by_hand = []
    for label in range(3):
        present = [mask for mask in masks if (mask == label).any()]
        by_hand.append(sum((mask == label).sum() for mask in present) / sum(mask.size for mask in present))
    np.testing.assert_allclose(frequencies, by_hand)
    np.testing.assert_allclose(balancing_weights(frequencies, 1.0), np.median(by_hand) / np.array(by_hand))
    np.testing.assert_allclose(balancing_weights(frequencies, 0.5), np.sqrt(np.median(by_hand) / np.array(by_hand)))


def test_a_worked_example():
    # a: 6 of 8 pixels of both masks; b: 1 of the 4 pixels of the first; c: 1 of the 4 pixels of the second.
    masks = [np.array([[0, 0], [0, 1]], np.uint8), np.array([[0, 0], [0, 2]], np.uint8)]
    frequencies = class_frequencies(count_masks(Masks(masks), 3), "masks")
    assert frequencies.tolist() == [0.75, 0.25, 0.25]
    assert balancing_weights(frequencies, 1.0) == (1 / 3, 1.0, 1.0)


def test_void_masks_alone_are_refused():
    counts = count_masks(Masks(np.full((2, 4, 4), 255, np.uint8)), 3)
    with pytest.raises(DataError, match="masks/train: no mask has a labeled pixel"):
        class_frequencies(counts, "masks/train")


def test_absent_classes_weigh_one():
    frequencies = np.array([0.7, 0.2, 0.1, 0.0])
    weights = np.asarray(balancing_weights(frequencies, 1.0))
    np.testing.assert_allclose((weights * frequencies)[:3], 0.2)
    assert weights[3] == 1.0
    assert balancing_weights(frequencies, 0.0) == (1.0,) * 4


def folder(tmp_path, masks) -> FolderDataset:
    tree = {f"masks/{number}.png": png(mask) for number, mask in enumerate(masks)}
    tree |= {f"images/{number}.png": png(np.zeros((*mask.shape, 3), np.uint8)) for number, mask in enumerate(masks)}
    write_tree(tmp_path / "mine", tree)
    pairs = [
        (str(n), tmp_path / "mine/images" / f"{n}.png", tmp_path / "mine/masks" / f"{n}.png") for n in range(len(masks))
    ]
    return FolderDataset("mine", "train", pairs, class_names=("a", "b", "c"))


def test_a_second_start_reads_no_mask(tmp_path, monkeypatch):
    masks = drawn_masks(7)
    source = folder(tmp_path, masks)
    first = count_masks(source, 3, (9,), data_dir=tmp_path / "data")
    monkeypatch.setattr(module, "_count", lambda *_: pytest.fail("counted again"))
    assert count_masks(source, 3, (9,), data_dir=tmp_path / "data") == first
    monkeypatch.undo()
    without = count_masks(source, 10, data_dir=tmp_path / "data")  # other options, another count
    assert without.pixels[9] == sum(int((mask == 9).sum()) for mask in masks)
    (tmp_path / "mine/masks/3.png").write_bytes(png(np.full(masks[3].shape, 2, np.uint8)))
    changed = count_masks(source, 3, (9,), data_dir=tmp_path / "data")
    assert changed.pixels[2] == first.pixels[2] + masks[3].size


def test_damage_is_named_or_counted(tmp_path):
    masks = [*drawn_masks(4), np.full((6, 6), 3, np.uint8)]
    source = folder(tmp_path, masks)
    with pytest.raises(DataError, match=r"mine/masks/4\.png: label 3 is outside \[0, 3\) .*--input"):
        count_masks(source, 3, (9,), data_dir=tmp_path / "data")
    for _ in range(2):
        found = count_masks(source, 3, (9,), data_dir=tmp_path / "data", skip=True)
        assert (found.masks, found.damaged) == (4, 1)
    with pytest.raises(DataError, match="label 3 is outside"):  # what was passed over is not forgotten
        count_masks(source, 3, (9,), data_dir=tmp_path / "data")
    (tmp_path / "mine/images/0.png").write_bytes(png(np.zeros((3, 50, 3), np.uint8)))
    with pytest.raises(DataError, match=r"masks/0\.png: the mask is \d+x\d+ .* and its image is 3x50; make both"):
        count_masks(source, 4, (9,))
