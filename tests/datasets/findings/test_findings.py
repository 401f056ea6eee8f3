"""A check of data finds the faults that were planted, names their files, and finds nothing else."""

import cv2
import numpy as np
import pytest
from tiny_sets import box_xml, encoded, write_tree

from cvjax.data.annotations import KEEP
from cvjax.datasets.findings.report import make_report, size_figures
from cvjax.datasets.findings.survey import survey
from cvjax.datasets.registry import open_dataset


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """A picture with something in it: no two seeds look alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(seed: int, **options) -> bytes:
    return encoded(picture(seed), "JPEG", **{"quality": 92, **options})


def checked(folder, name, target, splits=("train", "val"), **options):
    more = {"on_bad_boxes": KEEP} if target == "boxes" else {}
    sources = [open_dataset(name, split, target=target, manual_dir=folder, **more, **options) for split in splits]
    return make_report(name, [survey(source, target) for source in sources])


def found(report):
    """Kind, split, names of the files and numbers of the boxes of each finding."""
    return sorted(
        (one.kind, one.split, tuple(place.file.rpartition("/")[2] for place in one.places), one.boxes)
        for one in report.findings
    )


def test_boxes(tmp_path):
    # Corners count from 1 and belong to the box; images are 80 wide and 60 high.
    boxes = {
        "good": [("cat", 1, 1, 80, 60), ("dog", 10, 10, 30, 30)],
        "none": [],
        "empty": [("cat", 5, 5, 20, 20), ("cat", 7, 7, 7, 30)],
        "inverted": [("dog", 30, 5, 20, 20)],
        "outside": [("dog", 90, 5, 120, 20)],
        "clipped": [("dog", 60, 5, 95, 20), ("cat", 1, 1, 81, 60)],  # by 15 pixels, and by one, which tools differ in
        "tiny": [("cat", 5, 5, 7, 40)],
        "twice": [("cat", 10, 10, 49, 49), ("dog", 10, 10, 49, 49), ("cat", 10, 10, 49, 48)],
    }
    tree = {f"train/{name}.xml": box_xml(things, size=(60, 80)) for name, things in boxes.items()}
    tree |= {f"train/{name}.jpg": jpeg(number) for number, name in enumerate(boxes)}
    tree |= {"val/v.xml": box_xml([("cat", 1, 1, 9, 9)], size=(60, 80)), "val/v.jpg": jpeg(99)}
    report = checked(write_tree(tmp_path, tree), "xml_folder_detection", "boxes")
    assert found(report) == [
        ("absent-class", "val", (), ()),
        ("box-outside", "train", ("outside.jpg",), (0,)),
        ("clipped-box", "train", ("clipped.jpg",), (0,)),
        ("empty-box", "train", ("empty.jpg",), (1,)),
        ("empty-box", "train", ("inverted.jpg",), (0,)),
        ("overlapping-boxes", "train", ("twice.jpg",), (0, 2)),
        ("tiny-box", "train", ("tiny.jpg",), (0,)),
    ]
    lines = {one.kind: one.line() for one in report.findings}
    assert lines["clipped-box"].endswith(
        "box 1, dog at (59, 4, 95, 20), reaches 15 pixels beyond 80x60 (width x height)"
    )
    assert lines["overlapping-boxes"].endswith("box 1, cat at (9, 9, 49, 49), and box 3 have an IoU of 0.97")
    assert lines["absent-class"] == "val: no image shows dog"
    counts = report.as_json()["splits"]["train"]["boxes"]
    assert (counts["images"], counts["total"]["boxes"], counts["dropped_boxes"], counts["empty"]) == (8, 9, 3, 3)


def test_masks(tmp_path):
    rng = np.random.default_rng(0)
    masks = {f"{number}": rng.integers(0, 3, (60, 80)).astype(np.uint8) for number in range(6)}
    masks["2"][3, 4] = 7
    masks["3"] = masks["3"][:50]
    masks["4"][:] = 255
    tree = {f"train/masks/{name}.png": encoded(mask, "PNG") for name, mask in masks.items()}
    tree |= {f"train/images/{name}.jpg": jpeg(int(name)) for name in masks}
    tree["train/images/1.jpg"] = tree["train/images/1.jpg"][:-200]
    tree["train/masks/5.png"] = tree["train/masks/5.png"][:-60]
    tree |= {"val/images/v.jpg": jpeg(50), "val/masks/v.png": encoded(np.ones((60, 80), np.uint8), "PNG")}
    report = checked(write_tree(tmp_path, tree | {"classes.txt": b"a\nb\nc\n"}), "image_folder_segmentation", "mask")
    assert found(report) == [
        ("absent-class", "val", (), ()),
        ("absent-class", "val", (), ()),
        ("no-class", "train", ("2.png",), ()),
        ("unlabeled", "train", ("4.jpg",), ()),
        ("unreadable", "train", ("1.jpg",), ()),
        ("unreadable", "train", ("3.png",), ()),
        ("unreadable", "train", ("5.png",), ()),
    ]
    said = {one.places[0].file.rpartition("/")[2]: one.what for one in report.findings if one.places}
    assert said["2.png"].startswith("label 7 is outside [0, 3)")
    assert said["3.png"].startswith("the mask is 50x80 (height x width) and its image is 60x80")
    # Only masks 0 and 4 are good, and 4 has no label.
    train = report.as_json()["splits"]["train"]
    assert [row["count"] for row in train["classes"]] == [int((masks["0"] == label).sum()) for label in range(3)]
    assert (train["images"], train["readable"], train["masks"]["ignored"]) == (6, 5, 60 * 80)


def test_values_of_a_relabeled_mask(tmp_path):
    tree = {"train/images/a.jpg": jpeg(0), "train/masks/a.png": encoded(np.full((60, 80), 9, np.uint8), "PNG")}
    folder = write_tree(tmp_path, tree | {"classes.txt": b"a\nb\n"})
    report = checked(folder, "image_folder_segmentation", "mask", ["train"], values=(0, 255))
    assert found(report) == [("no-class", "train", ("a.png",), ())]


def altered(seed: int, how: str) -> bytes:
    """A picture as people alter them."""
    image = picture(seed, 240, 320)
    if how == "smaller":
        image = cv2.resize(image, (150, 112), interpolation=cv2.INTER_AREA)
    if how == "brighter":
        image = np.clip(image * 1.2 + 20, 0, 255).astype(np.uint8)
    return encoded(image, "JPEG", quality=40 if how == "compressed" else 90)


def test_pictures_that_are_there_twice(tmp_path):
    tree = {f"train/{'ab'[n % 2]}/{n}.jpg": altered(n, "") for n in range(12)}
    tree |= {f"val/{'ab'[n % 2]}/{n}.jpg": altered(n, "") for n in range(20, 26)}
    tree["train/a/same.jpg"] = tree["train/a/0.jpg"]
    tree["val/b/same.jpg"] = tree["train/b/1.jpg"]
    tree["train/b/compressed.jpg"] = altered(3, "compressed")
    tree["val/a/smaller.jpg"] = altered(4, "smaller")
    tree["train/b/brighter.jpg"] = altered(6, "brighter")  # which is an a in 6.jpg
    tree["train/a/flat.png"] = encoded(np.full((60, 80, 3), 200, np.uint8), "PNG")
    tree["train/b/flat.png"] = encoded(np.full((60, 80, 3), 100, np.uint8), "PNG")
    report = checked(write_tree(tmp_path, tree), "image_folder_classification", "label")
    names = sorted(
        (one.kind, one.split, *sorted(place.file.rpartition("/")[2] for place in one.places)) for one in report.findings
    )
    assert names == [
        ("contradicting-labels", "train", "6.jpg", "brighter.jpg"),
        ("duplicates", "train", "0.jpg", "same.jpg"),
        ("duplicates-across-splits", "train+val", "1.jpg", "same.jpg"),
        ("near-duplicates", "train", "3.jpg", "compressed.jpg"),
        ("near-duplicates", "train", "6.jpg", "brighter.jpg"),
        ("near-duplicates-across-splits", "train+val", "4.jpg", "smaller.jpg"),
    ]
    (contradiction,) = (one for one in report.findings if one.kind == "contradicting-labels")
    assert contradiction.what == "nearly the same picture, labeled a 1, b 1"


def test_labels_are_counted(tmp_path):
    tree = {
        f"train/{name}/{n}.jpg": jpeg(10 * n + len(name)) for name, count in (("x", 3), ("yy", 1)) for n in range(count)
    }
    report = checked(write_tree(tmp_path, tree), "image_folder_classification", "label", ["train"])
    assert report.surveys[0].balance() == [(3, 3), (1, 1)]
    assert size_figures(report.surveys[0]) == {
        "height": [60, 60, 60],
        "width": [80, 80, 80],
        "aspect": pytest.approx([80 / 60] * 3),
        "common": [{"height": 60, "width": 80, "images": 4}],
    }
    assert not report.findings
