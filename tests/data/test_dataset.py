"""Sources: the contract, laziness, sizes, and the names they open by."""

import multiprocessing
import pathlib
import pickle

import pytest
from tiny_sets import encoded, labels, palette_png, photo, voc_tree, write_tree

from cvjax.data.dataset import (
    FolderDataset,
    TfdsDataset,
    default_data_dir,
    max_size,
    prepared_dir,
)
from cvjax.datasets.registry import list_datasets, open_dataset
from cvjax.datasets.voc.segmentation import prepare_voc
from cvjax.errors import ConfigError, DataError


@pytest.fixture
def pairs(tmp_path):
    """Three pairs of different sizes on disk."""
    tree = {}
    for number, size in enumerate(((30, 40), (24, 50), (36, 20))):
        tree[f"{number}.jpg"] = encoded(photo(number, *size), "JPEG")
        tree[f"{number}.png"] = palette_png(labels(number, *size))
    write_tree(tmp_path, tree)
    return [(str(n), tmp_path / f"{n}.jpg", tmp_path / f"{n}.png") for n in range(3)]


@pytest.fixture
def prepared(tmp_path):
    """A prepared VOC of 3 + 2 images: its version folder."""
    write_tree(tmp_path / "VOCdevkit" / "VOC2012", voc_tree())
    return pathlib.Path(prepare_voc(tmp_path / "data", manual_dir=tmp_path, progress=False).data_dir)


def test_folder_source_keeps_the_contract(pairs):
    source = FolderDataset("mine", "train", pairs, class_names=["a", "b"], void=(7,))
    assert (len(source), source.name, source.split) == (3, "mine", "train")
    assert (source.class_names, source.void) == (("a", "b"), (7,))
    assert source[1] == {"image": pairs[1][1].read_bytes(), "mask": pairs[1][2].read_bytes(), "id": "1"}
    assert len(list(source)) == 3
    for index in (3, -1):
        with pytest.raises(IndexError):
            source[index]
    assert pickle.loads(pickle.dumps(source))[2] == source[2]


def test_folder_source_names_a_file_that_went(pairs):
    source = FolderDataset("mine", "train", pairs, class_names=["a"])
    pairs[2][2].unlink()
    with pytest.raises(DataError, match=r"2\.png: cannot be read \(No such file or directory\); restore"):
        source[2]


def test_max_size_is_scanned_once_and_passes_over_damage(pairs):
    source = FolderDataset("mine", "train", pairs, class_names=["a"])
    pairs[1][1].write_bytes(b"damaged")
    assert max_size(source) == (36, 40)
    for _, image, mask in pairs:
        image.unlink()
        mask.unlink()
    assert max_size(source) == (36, 40)
    again = FolderDataset("mine", "train", pairs, class_names=["a"])
    with pytest.raises(DataError, match=r"^mine/train: no image's size can be read; check its files"):
        max_size(again)


def test_tfds_source_keeps_the_contract(prepared):
    source = TfdsDataset(prepared, "train")
    assert (len(source), source.name, source.split) == (3, "voc_segmentation", "train")
    assert (source.class_names[1], source.void) == ("aeroplane", ())
    record = source[1]
    assert {key: type(value) for key, value in record.items()} == {"image": bytes, "mask": bytes, "id": str}
    assert len(list(source)) == 3
    for index in (3, -1):
        with pytest.raises(IndexError):
            source[index]


def test_tfds_source_reads_parts_of_splits(prepared):
    source = TfdsDataset(prepared, "val+train[1:]", split_name="odd")
    assert source.split == "odd"
    assert [record["id"][-1] for record in source] == ["3", "4", "1", "2"]


def test_tfds_source_says_what_is_missing(prepared, tmp_path):
    with pytest.raises(DataError, match=r"there is no split 'test' \(prepared: train, val\); name one"):
        TfdsDataset(prepared, "test")
    with pytest.raises(DataError, match="no prepared data set is there; prepare it or"):
        TfdsDataset(tmp_path, "train")


def test_tfds_source_names_the_place_of_a_damaged_file(prepared):
    source = TfdsDataset(prepared, "train")
    file = next(prepared.glob("*train.array_record*"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"2012/1\.0\.0: record 0 of split 'train' cannot be read .* prepare"):
        source[0]


def _first(source) -> tuple[str, bool]:
    import sys

    return source[0]["id"], "tensorflow" in sys.modules


def test_sources_travel_to_spawned_workers(prepared):
    source = TfdsDataset(prepared, "val")
    expected = source[0]["id"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_first, (source,)) == (expected, False)


def test_names(tmp_path):
    names = list_datasets("mask")
    assert names == sorted(names)
    assert {"camvid", "image_folder_segmentation", "isbi_membrane", "scenes", "voc_segmentation"} <= set(names)
    assert "imagenet2012" not in names
    with pytest.raises(ConfigError, match=r"There is no data set 'vok'; choose one of ade20k, camvid, "):
        open_dataset("vok", "train", data_dir=tmp_path)


def test_default_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "sets"))
    assert default_data_dir() == tmp_path / "sets"
    with pytest.raises(DataError, match="sets, neither prepared nor"):
        open_dataset("voc_segmentation", "train")
    monkeypatch.setenv("CVJAX_DATA_DIR", "")
    assert default_data_dir() == pathlib.Path.home() / ".cache" / "cvjax"


def test_prepared_dir_is_where_tfds_writes(prepared, tmp_path):
    assert prepared_dir(tmp_path / "data", "voc_segmentation", "2012") == prepared
