"""What a run says of a user's masks before its first step."""

import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_sets import encoded, write_tree

from cvjax.datasets.image_folder import prepare_image_folder
from cvjax.datasets.masks import counts
from cvjax.errors import DataError
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData
from cvjax.tasks.segmentation.task import Segmentation

IMAGE = encoded(np.zeros((4, 6, 3), np.uint8), "PNG")


def folder_of(place: pathlib.Path, names: str, masks: list[np.ndarray]) -> pathlib.Path:
    """A folder whose two splits have the same masks."""
    tree = {"classes.txt": names.encode()}
    for split in ("train", "val"):
        for number, mask in enumerate(masks):
            tree[f"{split}/images/{number}.png"] = IMAGE
            tree[f"{split}/masks/{number}.png"] = encoded(mask.astype(np.uint8), "PNG")
    return write_tree(place, tree)


def columns(*labels: int) -> np.ndarray:
    """A mask of six columns."""
    return np.tile(np.array(labels), (4, 1))


def create(folder: pathlib.Path | None, data_dir: pathlib.Path, balance: float = 0.0, **data) -> Segmentation:
    config = SegmentationConfig(
        data="image_folder_segmentation",
        data_dir=str(data_dir),
        class_balance=balance,
        input=SegmentationData(manual_dir=None if folder is None else str(folder), **data),
    )
    dataset = Segmentation.open(config, "train")
    return Segmentation.create(config, dataset, SimpleNamespace())


def decoded(task: Segmentation, split: str = "train", index: int = 0) -> np.ndarray:
    return task.decoder()(task.open(task.config, split)[index])["mask"]


def test_masks_of_0_and_255_are_refused_until_their_values_are_given(tmp_path, capsys):
    folder = folder_of(tmp_path / "mine", "background\nroad\n", [columns(0, 0, 255, 255, 0, 0)] * 3)
    message = (
        rf"^{folder}, split train: road occurs in none of the 3 masks, and 33\.3% of their pixels are 255, which is"
        r" ignored, so that there is nothing to learn; if 255 stands for a class, give --input\.mask-values 0 255, in"
    )
    with pytest.raises(DataError, match=message):
        create(folder, tmp_path / "data")
    task = create(folder, tmp_path / "data", mask_values=(0, 255))
    np.testing.assert_array_equal(decoded(task), columns(0, 0, 1, 1, 0, 0))
    assert capsys.readouterr().err == ""


def test_the_reported_folder(shared_dir, tmp_path):
    folder = shared_dir / "cases" / "bin255"
    with pytest.raises(DataError, match=r"road occurs in none of the 8 masks, and .* --input\.mask-values 0 255"):
        create(folder, tmp_path / "data")
    assert {*np.unique(decoded(create(folder, tmp_path / "data", mask_values=(0, 255))))} == {0, 1}


def test_a_name_twice_is_refused(shared_dir, tmp_path):
    with pytest.raises(DataError, match=r"classes\.txt: \w+ is there more than once; give every class a name"):
        create(shared_dir / "cases" / "dupnames", tmp_path / "data")


def test_a_class_that_no_mask_has_is_a_warning(tmp_path, capsys):
    folder = folder_of(tmp_path / "mine", "sky\nroad\ncar\ntram\n", [columns(0, 0, 0, 1, 1, 255)] * 4)
    create(folder, tmp_path / "data")
    assert capsys.readouterr().err == (
        f"warning: {folder}, split train: car, tram occur in none of the 4 masks, and 16.7% of their pixels are 255,"
        " which is ignored; if 255 stands for a class, give --input.mask-values and a value for each class, in the"
        " order of the names.\n"
    )


def test_masks_with_all_classes_are_no_matter(tmp_path, capsys):
    folder = folder_of(tmp_path / "mine", "sky\nroad\n", [columns(0, 0, 0, 0, 0, 0), columns(1, 1, 1, 1, 1, 255)])
    create(folder, tmp_path / "data")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("void_level", [0, 255])
def test_labels_from_1(tmp_path, void_level):
    mask = columns(void_level, 1, 1, 2, 2, void_level)
    folder = folder_of(tmp_path / "mine", "sky\nroad\n", [mask] * 2)
    with pytest.raises(DataError, match=r"masks/0\.png: label 2 is outside \[0, 2\) .*\(--input\.mask-values\)"):
        create(folder, tmp_path / "data")
    void = () if void_level == 255 else (void_level,)
    task = create(folder, tmp_path / "data", mask_values=(1, 2), void=void)
    np.testing.assert_array_equal(decoded(task), columns(255, 0, 0, 1, 1, 255))


def test_the_masks_that_are_scored_are_looked_at_too(tmp_path):
    folder = folder_of(tmp_path / "mine", "sky\nroad\n", [columns(0, 0, 0, 1, 1, 1)] * 2)
    (folder / "val/masks/1.png").write_bytes(encoded(columns(0, 0, 0, 5, 5, 5).astype(np.uint8), "PNG"))
    with pytest.raises(DataError, match=r"val/masks/1\.png: label 5 is outside"):
        create(folder, tmp_path / "data")
    create(folder, tmp_path / "data", on_bad_record="skip")


def test_a_second_start_reads_no_masks(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "mine", "sky\nroad\n", [columns(0, 0, 0, 1, 1, 1)] * 2)
    create(folder, tmp_path / "data")
    monkeypatch.setattr(counts, "_count", lambda *_: pytest.fail("read again"))
    create(folder, tmp_path / "data")


def test_a_prepared_folder_is_looked_at_as_well(tmp_path):
    folder = folder_of(tmp_path / "mine", "background\nroad\n", [columns(0, 0, 255, 255, 0, 0)] * 2)
    prepare_image_folder(tmp_path / "data", folder, progress=False)
    with pytest.raises(DataError, match=r"^image_folder_segmentation, .*, prepare it again with --values 0 255, in"):
        create(None, tmp_path / "data")
    prepare_image_folder(tmp_path / "other", folder, values=(0, 255), progress=False)
    np.testing.assert_array_equal(decoded(create(None, tmp_path / "other")), columns(0, 0, 1, 1, 0, 0))


def test_class_weights_are_of_all_masks(tmp_path):
    # 300 masks, of which the last alone has class 2, in half of its pixels.
    masks = [columns(0, 0, 0, 0, 1, 1)] * 299 + [columns(0, 0, 0, 2, 2, 2)]
    folder = folder_of(tmp_path / "mine", "sky\nroad\ncar\n", masks)
    task = create(folder, tmp_path / "data", balance=1.0)
    frequencies = np.array([(299 * 4 + 3) / (300 * 6), 2 / 6, 3 / 6])
    np.testing.assert_allclose(task.class_weights, np.median(frequencies) / frequencies)
