"""One set of photographs and masks in each format of masks: the same labels; and the sentence of each mistake."""

import pickle

import cv2
import numpy as np
import pytest
from own_pictures import COLORS, colored, indexed, write_masks
from PIL import Image
from tiny_sets import encoded, photo, write_tree

from cvjax.data.decode import decode_example
from cvjax.datasets.masks.counts import count_masks
from cvjax.datasets.own import open_own, splits_of
from cvjax.datasets.own.colors import read_table
from cvjax.datasets.own.formats import targets_of
from cvjax.errors import ConfigError, DataError

KINDS = ("voc", "cvat", "numbers", "class_dict", "label_colors", "parquet")
NAMES = ("sky", "building", "pole", "road")


@pytest.fixture(scope="module")
def camvid(shared_dir):
    """Names, and id, image and mask of a few of CamVid's photographs, with 255 for its void."""
    folder = shared_dir / "data" / "camvid"
    sets = {}
    for split, count in (("train", 3), ("val", 2)):
        images = sorted((folder / split / "images").iterdir())[:: 40 if split == "train" else 50][:count]
        masks = [np.array(Image.open(folder / split / "masks" / f"{path.stem}.png")) for path in images]
        sets[split] = [
            (path.stem, path.read_bytes(), np.where(mask == 11, 255, mask).astype(np.uint8))
            for path, mask in zip(images, masks, strict=True)
        ]
    return (folder / "classes.txt").read_text().split(), sets


@pytest.mark.parametrize("kind", KINDS)
def test_camvid_in_each_format_has_the_same_masks(kind, camvid, tmp_path):
    names, sets = camvid
    write_masks(kind, tmp_path, names, sets)
    assert targets_of(tmp_path) == ("mask",)
    assert sorted(splits_of(tmp_path)) == ["train", "val"]
    for split, examples in sets.items():
        source = open_own(tmp_path, split, "mask")
        assert list(source.class_names) == names
        assert len(source) == len(examples)
        for index, (stem, image, mask) in enumerate(examples):
            record = source[index]
            assert record["image"] == image
            np.testing.assert_array_equal(decode_example(record, len(names), source.void)["mask"], mask)
            if kind != "parquet":
                assert record["id"] == stem
        assert pickle.loads(pickle.dumps(source)).fingerprint() == source.fingerprint()
        counts = count_masks(source, len(names), source.void)
        expected = np.bincount(np.concatenate([mask.ravel() for *_, mask in examples]), minlength=256)
        assert counts.pixels == tuple(expected[: len(names)])
        assert counts.ignored == expected[255]
    assert len(open_own(tmp_path, "all", "mask")) == 5


def drawing(seed: int, void: bool = True) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 4, (3, 4)).astype(np.uint8)
    if void:
        blocks[0, 0] = 255
    return cv2.resize(blocks, (40, 30), interpolation=cv2.INTER_NEAREST)


def drawn(count: int = 3, **options) -> list:
    return [(f"{seed}", encoded(photo(seed), "JPEG"), drawing(seed, **options)) for seed in range(count)]


def test_folders_without_splits_are_all_train(tmp_path):
    tree = {"classes.txt": "\n".join(NAMES).encode()}
    for stem, image, mask in drawn():
        tree |= {f"images/{stem}.jpg": image, f"masks/{stem}.png": indexed(mask)}
    write_tree(tmp_path, tree)
    assert splits_of(tmp_path) == []
    source = open_own(tmp_path, "train", "mask")
    np.testing.assert_array_equal(decode_example(source[2], 4)["mask"], drawing(2))
    with pytest.raises(DataError, match=r"has no splits, and 'val' is asked for; hold out a part"):
        open_own(tmp_path, "val", "mask")


def test_an_undivided_export_of_cvat_is_all_train(tmp_path):
    write_masks("cvat", tmp_path, NAMES, {"default": drawn()})
    assert splits_of(tmp_path) == []
    source = open_own(tmp_path, "train", "mask")
    np.testing.assert_array_equal(decode_example(source[2], 4)["mask"], drawing(2))


def test_tables_of_colors(tmp_path):
    files = {
        "class_dict.csv": b"\xef\xbb\xbfName; R; G; B\n sky;1;2;3\nroad;4;5;6\nsky;7;8;9\nVoid;0;0;0\n",
        "label_colors.txt": b"1 2 3\t\tsky\n4 5 6 road\n7 8 9 sky\n0 0 0 Void\n",
        "labelmap.txt": b"# label:color_rgb:parts:actions\nsky:1,2,3::\nroad:4,5,6:wheel:drive\nsky:7,8,9::\n"
        b"ignored:0,0,0::\n",
        "colors.csv": b"sky,1,2,3\nroad,4,5,6\nsky,7,8,9\nunlabeled,0,0,0\n",
    }
    write_tree(tmp_path, files)
    for name in files:
        table = read_table(tmp_path / name)
        assert table.class_names == ("sky", "road")
        assert dict(table.labels) == {
            (1, 2, 3): 0,
            (4, 5, 6): 1,
            (7, 8, 9): 0,
            (0, 0, 0): 255,
            (224, 224, 192): 255,
        }


def colored_set(folder, mask_of=colored, table: bytes | None = None, kind: str = "PNG"):
    rows = "\n".join(f"{name},{r},{g},{b}" for name, (r, g, b) in zip(NAMES, COLORS, strict=False))
    tree = {"class_dict.csv": table or f"name,r,g,b\n{rows}\n".encode()}
    for stem, image, mask in drawn(void=False):
        suffix = "jpg" if kind == "JPEG" else "png"
        tree |= {f"train/images/{stem}.jpg": image, f"train/masks/{stem}.{suffix}": encoded(mask_of(mask), kind)}
    return write_tree(folder, tree)


def spoiled(color, pixels=7):
    def change(mask):
        picture = colored(mask)
        picture[5, :pixels] = color
        return picture

    return change


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"mask_of": spoiled((9, 250, 9))},
            r"0\.png: the color \(9, 250, 9\) of 7 pixels is no class of class_dict\.csv; add a row",
        ),
        (
            {"mask_of": spoiled((130, 66, 127), 3)},
            r"0\.png: the color \(130, 66, 127\) of 3 pixels is no class .*; road is \(128, 64, 128\), and JPEG or",
        ),
        (
            {"mask_of": lambda mask: mask},
            r"0\.png: the color \(\d, \d, \d\) of \d+ pixels .*, and 3 other colors are"
            r" none either,.*put classes\.txt in the place",
        ),
        ({"kind": "JPEG"}, r"images without a mask: 3 \(0, 1, 2\); masks has them as \.jpg, and JPEG changes labels"),
        ({"table": b"name,r,g,b\nsky,1,2,300\n"}, r"class_dict\.csv: row 2 is no name with a color"),
        ({"table": b"name,r,g,b\nsky,1,2,3\nroad,1,2,3\n"}, r"\(1, 2, 3\) is the color of sky and of road"),
        ({"table": b"name,r,g,b\nVoid,1,2,3\n"}, r"there are no classes"),
        ({"table": b"r,g,b\n1,2,3\n"}, r"there is no column of names beside the colors"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, changes, said):
    colored_set(tmp_path, **changes)
    with pytest.raises(DataError, match=said):
        count_masks(open_own(tmp_path, "train", "mask"), 4)


def test_a_jpeg_that_is_called_png_is_refused_by_its_content(tmp_path):
    colored_set(tmp_path)
    (tmp_path / "train/masks/1.png").write_bytes(encoded(colored(drawing(1)), "JPEG"))
    with pytest.raises(DataError, match=r"1\.png: is a JPEG, which changes colors"):
        open_own(tmp_path, "train", "mask")[1]


def test_masks_without_names_and_numbers_with_values(tmp_path):
    tree = {}
    for stem, image, mask in drawn(void=False):
        tree |= {f"train/images/{stem}.jpg": image, f"train/masks/{stem}.png": encoded(mask * 10, "PNG")}
    write_tree(tmp_path, tree)
    with pytest.raises(DataError, match=r"nothing names the classes; write classes\.txt"):
        open_own(tmp_path, "train", "mask")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    source = open_own(tmp_path, "train", "mask", values=(0, 10, 20, 30))
    np.testing.assert_array_equal(decode_example(source[1], 4)["mask"], drawing(1, void=False))
    with pytest.raises(ConfigError, match="there are 2 values for 4 classes"):
        open_own(tmp_path, "train", "mask", values=(0, 10))


def test_names_and_a_table_together(tmp_path):
    """The first mask says which is meant: a picture of colors, or numbers, which a palette stores too."""
    colored_set(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    np.testing.assert_array_equal(decode_example(open_own(tmp_path, "train", "mask")[0], 4)["mask"], drawing(0, False))
    for stem, _, mask in drawn(void=False):
        (tmp_path / f"train/masks/{stem}.png").write_bytes(indexed(mask))
    np.testing.assert_array_equal(decode_example(open_own(tmp_path, "train", "mask")[0], 4)["mask"], drawing(0, False))
