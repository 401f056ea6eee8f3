"""Labeled images: folders and zips of classes, sets of the TFDS catalog, the scenes' labels."""

import io
import pickle
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from tiny_sets import encoded, photo, write_tree

from cvjax.data.dataset import TfdsDataset
from cvjax.data.decode import decode_labeled
from cvjax.datasets import tfds_sets
from cvjax.datasets.labeled_folder import LabeledFolder
from cvjax.datasets.registry import list_datasets, open_dataset
from cvjax.datasets.scenes.objects import CLASS_NAMES
from cvjax.datasets.scenes.prepare import prepare_scenes
from cvjax.errors import ConfigError, DataError


def class_tree(split: str, count: int, classes=("bird", "cat", "ant")) -> dict[str, bytes]:
    """`count` images of every class, PNG and so exact; their colors follow from class and number."""
    return {
        f"{split}{name}/{number:02d}.png": encoded(photo(10 * label + number, 12, 10), "PNG")
        for label, name in enumerate(classes)
        for number in range(count)
    }


def write_zip(path, tree: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in tree.items():
            archive.writestr(name, content)


@pytest.fixture
def folder(tmp_path):
    """train as a folder, test as a zip with the same images."""
    place = write_tree(tmp_path / "animals", class_tree("train/", 2) | {"train/cat/notes.txt": b"no image"})
    write_zip(place / "test.zip", class_tree("", 2) | {"__MACOSX/cat/00.png": b"no image"})
    return place


def test_folder_and_zip_give_the_same_records(folder):
    train = open_dataset("image_folder_classification", "train", target="label", manual_dir=folder)
    test = open_dataset("image_folder_classification", "val", target="label", manual_dir=folder)
    assert (test.split, len(train), len(test)) == ("test", 6, 6)
    assert train.class_names == test.class_names == ("ant", "bird", "cat")
    assert [train[i]["label"] for i in range(6)] == [0, 0, 1, 1, 2, 2]
    assert train[2]["id"] == "bird/00"
    for source in (test, pickle.loads(pickle.dumps(test))):
        assert [source[i] for i in range(6)] == [train[i] for i in range(6)]
    example = decode_labeled(test[4], 3)
    np.testing.assert_array_equal(example["image"], photo(10, 12, 10))
    assert (example["label"], example["label"].dtype) == (2, np.int32)
    with pytest.raises(IndexError):
        test[6]


def test_a_zip_with_one_folder_around_the_classes(folder):
    write_zip(folder / "val.zip", class_tree("pictures/", 1))
    source = open_dataset("image_folder_classification", "val", target="label", manual_dir=folder)
    assert [source[i]["label"] for i in range(3)] == [0, 1, 2]


def test_mistakes_in_a_folder_are_named(folder, tmp_path):
    def opened(split, place=folder):
        return open_dataset("image_folder_classification", split, target="label", manual_dir=place)

    with pytest.raises(DataError, match=r"animals: there is no split 'dev' \(found: test, train\); put images"):
        opened("dev")
    with pytest.raises(DataError, match=r"nowhere: there is no split 'train' \(found: none\)"):
        opened("train", tmp_path / "nowhere")
    with pytest.raises(DataError, match="no folder was given; name the one that holds train/CLASS"):
        opened("train", None)
    write_tree(folder, class_tree("val/", 1, ("cat", "cow")) | {"empty/notes.txt": b""})
    with pytest.raises(DataError, match=r"val: cow are no classes of the split train; rename or remove"):
        opened("val")
    with pytest.raises(DataError, match="empty: there are no images"):
        opened("empty")
    (folder / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"bad\.zip: cannot be read as a zip"):
        opened("bad")
    source = opened("train")
    (folder / "train/ant/00.png").unlink()
    with pytest.raises(DataError, match=r"ant/00\.png: cannot be read"):
        source[0]


def test_a_label_that_is_no_class_is_named():
    record = {"image": encoded(photo(0), "PNG"), "label": 3, "id": "cat/7"}
    with pytest.raises(DataError, match=r"^cat/7\.png: label 3 is outside \[0, 3\)"):
        decode_labeled(record, 3)


def test_sets_with_masks_are_told_from_sets_with_labels(tmp_path):
    assert set(list_datasets()) == {*list_datasets("mask"), *list_datasets("label"), *list_datasets("boxes")}
    assert {"scenes", "imagenet2012", "cifar10", "cifar100", "imagenette", "fashion_mnist"} < {*list_datasets("label")}
    with pytest.raises(ConfigError, match=r"^voc_segmentation has masks, no labels; choose one of cifar10, "):
        open_dataset("voc_segmentation", "train", target="label", data_dir=tmp_path)


def test_scenes_have_labels_without_the_background(tmp_path):
    prepare_scenes(tmp_path, sizes={"train": 6}, workers=0, progress=False)
    place = next(tmp_path.glob("scenes/*"))
    masks = TfdsDataset(place, "train")
    labels = TfdsDataset(place, "train", target="label", first_label=1)
    assert labels.class_names == tuple(CLASS_NAMES[1:]) == masks.class_names[1:]
    for index in range(6):
        record = labels[index]
        assert record.keys() == {"image", "label", "id"}
        assert (record["image"], record["id"]) == (masks[index]["image"], masks[index]["id"])
        assert 0 <= record["label"] < len(labels.class_names)


@pytest.mark.parametrize("name", sorted(tfds_sets.SETS))
def test_a_missing_set_says_how_to_get_it(name, tmp_path):
    fix = rf"^{name} is not prepared in .*python -m cvjax.cli.prepare {name} --data-dir"
    with pytest.raises(DataError, match=fix):
        open_dataset(name, "train", target="label", data_dir=tmp_path)


def test_imagenet_asks_for_its_archives(tmp_path):
    with pytest.raises(DataError, match=r"ILSVRC2012_img_train\.tar and ILSVRC2012_img_val\.tar must lie in a folder"):
        tfds_sets.prepare_tfds_set("imagenet2012", tmp_path)


def test_imagenet_is_prepared_from_its_archives_and_read(tmp_path):
    pictures = [encoded(photo(n), "JPEG") for n in range(4)]
    inner = tar_of({"n01443537_1.JPEG": pictures[0], "n01443537_2.JPEG": pictures[1]})
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of({"n01443537.tar": inner}))
    validation = {f"ILSVRC2012_val_0000000{n}.JPEG": pictures[1 + n] for n in (1, 2)}
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(tar_of(validation))
    tfds_sets.prepare_tfds_set("imagenet2012", tmp_path / "data", tmp_path)
    assert tfds_sets.find_prepared(tmp_path / "data", "imagenet2012") is not None
    train = open_dataset("imagenet2012", "train", target="label", data_dir=tmp_path / "data")
    assert (len(train.class_names), len(train)) == (1000, 2)
    assert {train[i]["image"] for i in range(2)} == set(pictures[:2])
    assert {train.class_names[train[i]["label"]] for i in range(2)} == {"n01443537"}
    held_out = open_dataset("imagenet2012", "val", target="label", data_dir=tmp_path / "data")
    assert {held_out[i]["id"] for i in range(2)} == set(validation)
    assert "tensorflow" not in sys.modules
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(b"")
    with pytest.raises(tarfile.TarError):  # what was there stays
        tfds_sets.prepare_tfds_set("imagenet2012", tmp_path / "data", tmp_path, overwrite=True)
    assert len(open_dataset("imagenet2012", "train", target="label", data_dir=tmp_path / "data")) == 2


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_cifar10_is_prepared_without_tensorflow(tmp_path, monkeypatch):
    """The real builder on files of its own layout: only the download is left out."""
    import tensorflow_datasets as tfds

    rng, place = np.random.default_rng(0), tmp_path / "cifar-10-batches-bin"
    place.mkdir()
    names = [f"class {n}" for n in range(10)]
    (place / "batches.meta.txt").write_text("\n".join(names))
    images = {}
    for file in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        rows = rng.integers(0, 256, (2, 3, 32, 32)).astype(np.uint8)
        content = b"".join(bytes([number]) + row.tobytes() for number, row in enumerate(rows))
        (place / f"{file}.bin").write_bytes(content)
        images[file] = rows.transpose(0, 2, 3, 1)
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda *_: str(tmp_path))
    tfds_sets.prepare_tfds_set("cifar10", tmp_path / "data")
    source = open_dataset("cifar10", "val", target="label", data_dir=tmp_path / "data")
    assert (len(source), source.class_names) == (2, tuple(names))
    for index in range(2):
        record = source[index]
        number = int(record["id"].split("_")[1])
        np.testing.assert_array_equal(decode_labeled(record, 10)["image"], images["test_batch"][number])
        assert record["label"] == number
    assert "tensorflow" not in sys.modules


def test_a_failed_download_names_the_way_out(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", fail)
    with pytest.raises(DataError, match=r"^fashion_mnist: could not be fetched .*no route to host.* copy its folder"):
        tfds_sets.prepare_tfds_set("fashion_mnist", tmp_path)


def test_real_zips(shared_dir):
    folder = shared_dir / "data" / "cifar10"
    test = open_dataset("image_folder_classification", "val", target="label", manual_dir=folder)
    assert isinstance(test, LabeledFolder)
    assert (len(test), len(test.class_names), test.class_names[0]) == (5000, 10, "airplane")
    assert decode_labeled(test[4999], 10)["image"].shape == (32, 32, 3)
    assert np.bincount([test._labels[i] for i in range(5000)]).tolist() == [500] * 10
