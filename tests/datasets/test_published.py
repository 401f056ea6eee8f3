"""Cityscapes, ADE20K, Oxford pets and CamVid in their official layouts, drawn small."""

import io
import pickle
import re
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from tiny_sets import CAMVID_NUMBERS, camvid_tree, encoded, mask_png, numbers, photo, write_tar, write_tree

from cvjax.cli import prepare
from cvjax.data.dataset import TfdsDataset, image_sizes
from cvjax.data.decode import decode_example
from cvjax.datasets.published import PUBLISHED, prepare_published
from cvjax.datasets.registry import list_datasets, open_dataset
from cvjax.errors import DataError

# What the benchmark's own table says of each label number (cityscapesScripts, labels.py).
TRAIN_IDS = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14},
    **{28: 15, 31: 16, 32: 17, 33: 18},
}


CITYSCAPES_NUMBERS = numbers(0, [*range(34), 255])
ADE_NUMBERS = numbers(1, range(151), (20, 18))
PET_NUMBERS = numbers(2, [1, 2, 3])


def cityscapes_tree() -> dict[str, bytes]:
    files = {}
    for split, city, key in (("train", "ulm", 1), ("train", "bochum", 2), ("val", "lindau", 3), ("test", "bonn", 4)):
        name = f"{city}_000000_{key:06d}"
        files[f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"] = encoded(photo(key, 12, 16), "PNG")
        for kind in ("labelIds", "instanceIds", "color"):
            content = mask_png(CITYSCAPES_NUMBERS) if kind == "labelIds" else b"not for this"
            files[f"gtFine/{split}/{city}/{name}_gtFine_{kind}.png"] = content
    return files


def ade_tree() -> dict[str, bytes]:
    files = {"objectInfo150.txt": b"Idx\tRatio\tTrain\tVal\tName\n"}
    for part, short, count in (("training", "train", 2), ("validation", "val", 1)):
        for number in range(1, count + 1):
            name = f"ADE_{short}_{number:08d}"
            files[f"images/{part}/{name}.jpg"] = encoded(photo(number, 20, 18), "JPEG")
            files[f"annotations/{part}/{name}.png"] = mask_png(ADE_NUMBERS)
    return files


def pets_tree() -> dict[str, bytes]:
    lists = {"trainval": ("Abyssinian_1", "beagle_10"), "test": ("Bengal_2",)}
    files = {}
    for listing, keys in lists.items():
        files[f"annotations/{listing}.txt"] = "".join(f"{key} 1 1 1\n" for key in keys).encode()
        for key in keys:
            files[f"images/{key}.jpg"] = encoded(photo(len(key), 12, 16), "JPEG")
            files[f"annotations/trimaps/{key}.png"] = mask_png(PET_NUMBERS)
            files[f"annotations/trimaps/._{key}.png"] = b"of another system"
    return files


TREES = {
    "cityscapes": ("", cityscapes_tree),
    "ade20k": ("ADEChallengeData2016", ade_tree),
    "oxford_pets": ("", pets_tree),
    "oxford_pets_foreground": ("", pets_tree),
    "camvid": ("CamVid", lambda: camvid_tree(True)),
}
EXPECTED = {
    "cityscapes": np.vectorize(lambda n: TRAIN_IDS.get(n, 255))(CITYSCAPES_NUMBERS),
    "ade20k": np.where(ADE_NUMBERS == 0, 255, ADE_NUMBERS - 1),
    "oxford_pets": np.array([0, 1, 0, 2])[PET_NUMBERS],
    "oxford_pets_foreground": np.array([0, 1, 0, 255])[PET_NUMBERS],
    "camvid": np.where(CAMVID_NUMBERS == 11, 255, CAMVID_NUMBERS),
}


@pytest.fixture
def unpacked(tmp_path):
    """A function from a set's name to a folder that it was unpacked into."""

    def unpack(name: str):
        folder, tree = TREES[name]
        write_tree(tmp_path / "manual" / folder, tree())
        return tmp_path / "manual"

    return unpack


def mask_of(source, index: int = 0) -> np.ndarray:
    return decode_example(source[index], len(source.class_names))["mask"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_labels_are_the_official_mapping(unpacked, tmp_path, name):
    manual = unpacked(name)
    train = open_dataset(name, "train", data_dir=tmp_path / "data", manual_dir=manual)
    val = open_dataset(name, "val", data_dir=tmp_path / "data", manual_dir=manual)
    assert (len(train), len(val)) == (2, 1)
    assert val.split == ("test" if name.startswith("oxford") else "val")
    for source in (train, val, pickle.loads(pickle.dumps(train))):
        np.testing.assert_array_equal(mask_of(source), EXPECTED[name])
        assert source.class_names == PUBLISHED[name].class_names
    assert image_sizes(train) == [EXPECTED[name].shape] * 2
    assert len({train[0]["id"], train[1]["id"]}) == 2
    assert not (tmp_path / "data").exists()


def test_there_are_as_many_classes_as_published():
    counts = {name: len(set(known.class_names)) for name, known in PUBLISHED.items()}
    assert counts == {"cityscapes": 19, "ade20k": 150, "oxford_pets": 3, "oxford_pets_foreground": 2, "camvid": 11}
    assert (PUBLISHED["ade20k"].class_names[0], PUBLISHED["ade20k"].class_names[149]) == ("wall", "flag")
    assert PUBLISHED["cityscapes"].class_names[13] == "car"
    assert set(PUBLISHED) <= set(list_datasets("mask"))


def test_camvid_in_folders_of_images_and_masks(tmp_path):
    write_tree(tmp_path, camvid_tree(segnet=False))
    source = open_dataset("camvid", "train", data_dir=tmp_path / "data", manual_dir=tmp_path)
    np.testing.assert_array_equal(mask_of(source), EXPECTED["camvid"])


def archives(name: str, manual) -> None:
    """The files of a set as they are published."""
    folder, tree = TREES[name]
    manual.mkdir()
    known = PUBLISHED[name]
    for file in known.archives:
        # Each of several archives holds what its name starts with.
        part = file.split("_")[0].split(".")[0]
        files = {path: data for path, data in tree().items() if len(known.archives) == 1 or path.startswith(part)}
        if file.endswith(".zip"):
            with zipfile.ZipFile(manual / file, "w") as archive:
                for path, data in files.items():
                    archive.writestr(f"{folder}/{path}" if folder else path, data)
        else:
            with tarfile.open(manual / file, "w:gz") as archive:
                for path, data in files.items():
                    member = tarfile.TarInfo(path)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("name", ["cityscapes", "ade20k", "oxford_pets_foreground"])
def test_archives_are_prepared_as_the_folder_is_read(unpacked, tmp_path, capsys, name):
    archives(name, tmp_path / "archives")
    data = tmp_path / "data"
    with pytest.raises(DataError, match=rf"prepared once; run `cvjax data prepare {name} --data-dir"):
        open_dataset(name, "train", data_dir=data, manual_dir=tmp_path / "archives")
    command = [name, "--data-dir", str(data), "--manual-dir", str(tmp_path / "archives"), "--no-progress"]
    prepare.main(command)
    assert f"{name}/default/1.0.0: " in capsys.readouterr().out
    assert "tensorflow" not in sys.modules
    assert [path.name for path in data.iterdir() if path.name.startswith(f"{name}-")] == []  # what was unpacked is gone
    for split in ("train", "val"):
        prepared = open_dataset(name, split, data_dir=data)
        folder = open_dataset(name, split, data_dir=tmp_path / "none", manual_dir=unpacked(name))
        assert isinstance(prepared, TfdsDataset)
        assert prepared.class_names == folder.class_names
        assert [prepared[i] for i in range(len(prepared))] == [folder[i] for i in range(len(folder))]
    prepare.main(command)  # what is there is kept


def test_camvid_is_prepared_with_the_splits_that_it_has(unpacked, tmp_path, capsys):
    manual = unpacked("camvid")
    prepare.main(["camvid", "--data-dir", str(tmp_path / "data"), "--manual-dir", str(manual), "--no-progress"])
    assert capsys.readouterr().out.endswith("train 2, val 1; 0 skipped\n")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_set_that_is_nowhere_is_one_sentence_with_the_way_out(tmp_path, name):
    message = rf"^{name} is not in {re.escape(str(tmp_path))}.*; get .* from http.* into a folder, and name that with"
    with pytest.raises(DataError, match=message):
        open_dataset(name, "train", data_dir=tmp_path)
    with pytest.raises(DataError, match=message):
        prepare.main([name, "--data-dir", str(tmp_path)])


def test_what_is_wrong_with_a_folder_is_named(unpacked, tmp_path):
    manual = unpacked("cityscapes")
    with pytest.raises(DataError, match=r"no split 'trainval'; choose one of train, val"):
        open_dataset("cityscapes", "trainval", manual_dir=manual)
    place = manual / "gtFine" / "val" / "lindau" / "lindau_000000_000003_gtFine_labelIds.png"
    place.write_bytes(mask_png(np.full((12, 16), 77)))
    source = open_dataset("cityscapes", "val", manual_dir=manual)
    with pytest.raises(DataError, match=r"/lindau_000000_000003_gtFine_labelIds.png: 77 is no label of cityscapes"):
        source[0]
    place.unlink()
    with pytest.raises(DataError, match=rf"{place.name}: is absent although cityscapes has it"):
        open_dataset("cityscapes", "val", manual_dir=manual)


def test_damaged_archives_are_named(tmp_path):
    archives("cityscapes", tmp_path / "archives")
    (tmp_path / "archives" / "gtFine_trainvaltest.zip").write_bytes(b"PK no zip")
    command = ["cityscapes", "--data-dir", str(tmp_path / "data"), "--manual-dir", str(tmp_path / "archives")]
    with pytest.raises(DataError, match=r"gtFine_trainvaltest\.zip: cannot be unpacked .* fetch the archive again"):
        prepare.main(command)
    write_tar(tmp_path / "pets" / "images.tar.gz", "elsewhere/", {"a": b""})
    write_tar(tmp_path / "pets" / "annotations.tar.gz", "elsewhere/", {"b": b""})
    with pytest.raises(DataError, match=r"lack images and annotations/trimaps; fetch them again from https"):
        prepare.main(["oxford_pets", "--data-dir", str(tmp_path / "data"), "--manual-dir", str(tmp_path / "pets")])


def test_real_camvid(shared_dir, tmp_path):
    train, val = (
        open_dataset("camvid", s, data_dir=tmp_path, manual_dir=shared_dir / "data") for s in ("train", "val")
    )
    assert (len(train), len(val)) == (367, 101)
    for source in (train, val):
        for index in range(0, len(source), 25):
            assert decode_example(source[index], 11)["mask"].shape == (360, 480)


def test_a_prepared_set_belongs_to_its_files(unpacked, tmp_path):
    manual, data = unpacked("camvid"), tmp_path / "data"
    prepare_published("camvid", data, manual, progress=False)
    assert isinstance(open_dataset("camvid", "train", data_dir=data, manual_dir=manual), TfdsDataset)
    masks = sorted((manual / TREES["camvid"][0] / "trainannot").glob("*.png"))
    masks[0].write_bytes(mask_png(np.full((12, 16), 3)))
    changed = open_dataset("camvid", "train", data_dir=data, manual_dir=manual)
    assert (mask_of(changed) == 3).all()
    np.testing.assert_array_equal(mask_of(open_dataset("camvid", "train", data_dir=data)), EXPECTED["camvid"])
    with pytest.raises(DataError, match="was prepared from other files"):
        prepare_published("camvid", data, manual, progress=False)
    with pytest.raises(DataError, match="camvid is not in"):
        open_dataset("camvid", "train", data_dir=data, manual_dir=tmp_path / "elsewhere")
    prepare_published("camvid", data, manual, progress=False, overwrite=True)
    assert (mask_of(open_dataset("camvid", "train", data_dir=data)) == 3).all()
