"""Labeled images: folders and zips of classes, sets of the TFDS catalog, the scenes' labels."""

import io
import pickle
import re
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from tiny_sets import class_tree, encoded, photo, write_tree

from cvjax.data.dataset import TfdsDataset
from cvjax.data.decode import decode_labeled
from cvjax.datasets import tfds_sets
from cvjax.datasets.labeled_folder import LabeledFolder
from cvjax.datasets.registry import list_datasets, open_dataset
from cvjax.datasets.scenes.objects import CLASS_NAMES
from cvjax.datasets.scenes.prepare import prepare_scenes
from cvjax.errors import ConfigError, DataError


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


@pytest.fixture(params=["folder", "zip"])
def opened(request, tmp_path):
    """Writes a split's files, given as a set of paths, into a folder or a zip, and opens it."""

    def open_split(paths, split="train"):
        # Each file's color is its own, so that it can be told from the others.
        tree = {path: encoded(photo(sum(path.encode()), 6, 5), "PNG") for path in paths}
        if request.param == "zip":
            write_zip(tmp_path / f"{split}.zip", tree)
        else:
            for path in tree:
                place = tmp_path / split / path
                (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
                if not path.endswith("/"):
                    place.write_bytes(tree[path])
        return open_dataset("image_folder_classification", split, target="label", manual_dir=tmp_path)

    return open_split


def examples(source) -> list[tuple[str, str]]:
    """Class and id of each record; the pixels are those of the file that the id names."""
    found = []
    for record in (source[index] for index in range(len(source))):
        path = next(path for path in source._paths if path in (record["id"], f"{record['id']}{path[-4:]}"))
        picture = decode_labeled(record, len(source.class_names))
        np.testing.assert_array_equal(picture["image"], photo(sum(path.encode()), 6, 5))
        found.append((source.class_names[picture["label"]], record["id"]))
    return found


def test_images_below_a_class_count_for_it(opened):
    source = opened({"cat/a.png", "cat/young/b.png", "cat/young/wild/c.PNG", "dog/d.jpg"})
    assert source.class_names == ("cat", "dog")
    assert examples(source) == [
        ("cat", "cat/a"),
        ("cat", "cat/young/b"),
        ("cat", "cat/young/wild/c"),
        ("dog", "dog/d"),
    ]


def test_folders_around_the_classes_are_passed_over(opened):
    train = opened({"data/train/cat/a.png", "data/train/dog/old/b.png", "data/README.md"})
    assert (train.class_names, len(train)) == (("cat", "dog"), 2)
    assert [train[index]["id"] for index in range(2)] == ["data/train/cat/a", "data/train/dog/old/b"]


def test_a_class_alone_in_val_is_no_folder_around_it(opened):
    opened({"cat/a.png", "dog/b.png"})
    val = opened({"cat/2019/c.png", "cat/2020/d.png"}, "val")
    assert val.class_names == ("cat", "dog")
    assert examples(val) == [("cat", "cat/2019/c"), ("cat", "cat/2020/d")]


def test_images_that_share_a_stem_have_ids_of_their_own(opened):
    source = opened({"cat/a.png", "cat/a.jpg", "cat/b.png", "dog/a.png"})
    assert examples(source) == [("cat", "cat/a.jpg"), ("cat", "cat/a.png"), ("cat", "cat/b"), ("dog", "dog/a")]


def test_what_systems_leave_is_passed_over_and_the_rest_counted(opened, caplog):
    junk = {"cat/.DS_Store", "cat/._a.png", "cat/Thumbs.db", ".hidden/x.png", "__MACOSX/cat/a.png", "desktop.ini"}
    source = opened({"cat/a.png", "dog/b.png"} | junk)
    assert (len(source), source.class_names, caplog.messages) == (2, ("cat", "dog"), [])
    source = opened({"cat/a.png", "dog/b.png", "dog/c.csv", "notes.txt", "dog/LICENSE", "cat/d.txt"} | junk, "val")
    assert len(source) == 2
    message = r"val(\.zip)?: passed over 4 files that cannot be images \(2 \.txt, 1 (\.csv|no suffix), 1 .*\)"
    assert len(caplog.messages) == 1
    assert re.search(message, caplog.messages[0])


def test_a_class_keeps_its_number_where_val_lacks_images_of_it(opened):
    opened({"ant/a.png", "cat/a.png", "dog/b.png"})
    val = opened({"ant/", "dog/c.png"}, "val")
    assert (val.class_names, examples(val)) == (("ant", "cat", "dog"), [("dog", "dog/c")])


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ({"ant/", "cat/a.png"}, r"a class without an image that is read \(ant\); add images, or remove the folder\."),
        (
            {"ant/x.txt", "bee/", "cat/a.png"},
            r"2 classes without an image that is read \(ant, bee\); add images, or remove the folders\.",
        ),
        (
            {"cat/a.png", "dog/b.HEIC", "dog/c.heic", "dog/d.svg"},
            r"3 files in formats that are not read \(2 \.heic, 1 \.svg, such as dog/b\.HEIC\); convert these to JPEG",
        ),
        ({"cat/a.heic"}, r"1 file in formats that are not read \(1 \.heic, such as cat/a\.heic\); convert"),
        (
            {"cat/a.png", "dog/b.png", "c.png", "d.jpg"},
            r"2 files beside the folders of the classes \(c\.png, d\.jpg\); move each into",
        ),
        (
            {"a.png", "b.png"},
            r"there are no images in subfolders \(found: 2 \.png\); put images in one of the formats jpg,",
        ),
        ({"cat/a.txt", "dog/b.csv", "dog/c.csv"}, r"there are no images in subfolders \(found: 2 \.csv, 1 \.txt\)"),
        ({"cat/"}, r"there are no images in subfolders; put"),
    ],
)
def test_nothing_is_left_out_in_silence(opened, paths, words):
    with pytest.raises(DataError, match=rf"train(\.zip)?: {words}"):
        opened(paths)


def test_a_class_of_val_whose_files_are_not_read_is_an_error(opened):
    opened({"cat/a.png", "dog/b.png"})
    with pytest.raises(DataError, match=r"val(\.zip)?: a class without an image that is read \(cat\)"):
        opened({"cat/a.txt", "dog/b.png"}, "val")


def test_linked_folders_are_read_once(tmp_path):
    write_tree(tmp_path / "elsewhere", {"a.png": encoded(photo(0), "PNG")})
    write_tree(tmp_path / "train", {"dog/b.png": encoded(photo(1), "PNG")})
    (tmp_path / "train" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train" / "dog" / "loop").symlink_to(tmp_path / "train")
    source = open_dataset("image_folder_classification", "train", target="label", manual_dir=tmp_path)
    assert source.class_names == ("cat", "dog")
    assert sorted(source[index]["id"] for index in range(len(source))) == ["cat/a", "dog/b"]


def test_a_zip_with_a_password_is_named(tmp_path, monkeypatch):
    write_zip(tmp_path / "train.zip", class_tree("", 1))

    def locked(*_):
        raise RuntimeError("File 'ant/00.png' is encrypted, password required for extraction")

    monkeypatch.setattr(zipfile.ZipFile, "read", locked)
    source = open_dataset("image_folder_classification", "train", target="label", manual_dir=tmp_path)
    with pytest.raises(DataError, match=r"train\.zip: ant/00\.png cannot be read \(File .* is encrypted, .*\); make"):
        source[0]


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
    with pytest.raises(DataError, match=r"val: cow is no class of the split train; rename or remove"):
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
    fix = rf"^{name} is not prepared in .*cvjax data prepare {name} --data-dir"
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
