"""Data are the same where they hold the same, wherever they lie."""

import json
import os
import pathlib
import shutil
import time
import zipfile

import numpy as np
import pytest
from tiny_sets import detection_tree, encoded, photo, voc_tree, write_tree

from cvjax.data import identity as module
from cvjax.data.classes import match_classes
from cvjax.data.identity import data_differences, fingerprint_of, identity_of
from cvjax.data.joined import JoinedDataset
from cvjax.datasets.image_folder import prepare_image_folder
from cvjax.datasets.proposals.boxes import ProposalConfig
from cvjax.datasets.proposals.files import attach, prepare_proposals
from cvjax.datasets.registry import open_dataset


def _image_folder(folder: pathlib.Path, count: int = 3) -> pathlib.Path:
    for number in range(count):
        tree = {
            f"images/{number}.jpg": encoded(photo(number), "JPEG"),
            f"masks/{number}.png": encoded(np.full((30, 40), number % 2, np.uint8), "PNG"),
        }
        write_tree(folder / "train", tree)
    (folder / "classes.txt").write_text("a\nb\n")
    return folder


def _labeled(folder: pathlib.Path) -> pathlib.Path:
    write_tree(folder, {f"train/{name}/{n}.jpg": encoded(photo(n), "JPEG") for n in range(2) for name in "ab"})
    return folder


def _zipped(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for number in range(2):
            archive.writestr(f"a/{number}.jpg", encoded(photo(number), "JPEG"))
    return folder


def _coco(folder: pathlib.Path) -> pathlib.Path:
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 30, "width": 40} for n in range(2)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 5, "bbox": [1, 2, 10, 11], "area": 110, "iscrowd": 0}],
        "categories": [{"id": 5, "name": "cat"}],
    }
    write_tree(folder, {f"train/{n}.jpg": encoded(photo(n), "JPEG") for n in range(2)})
    write_tree(folder, {"annotations/instances_train.json": json.dumps(content).encode()})
    return folder


def _voc(folder: pathlib.Path) -> pathlib.Path:
    return write_tree(folder / "VOCdevkit" / "VOC2012", voc_tree()).parents[1]


def _boxes(folder: pathlib.Path) -> pathlib.Path:
    return write_tree(folder / "VOC2007", detection_tree({"train": range(3)})).parent


def _xml(folder: pathlib.Path) -> pathlib.Path:
    tree = detection_tree({"train": range(4)})
    return write_tree(folder, {path.removeprefix("ImageSets/Main/"): content for path, content in tree.items()})


KINDS = {
    "image_folder_segmentation": ("mask", "train", _image_folder, "train/masks/1.png"),
    "image_folder_classification": ("label", "train", _labeled, "train/b/1.jpg"),
    "zip": ("label", "train", _zipped, "train.zip"),
    "coco": ("boxes", "train", _coco, "train/1.jpg"),
    "xml_folder_detection": ("boxes", "train", _xml, "Annotations/000001.xml"),
    "voc_segmentation": ("mask", "train", _voc, "VOCdevkit/VOC2012/JPEGImages/2007_000001.jpg"),
    "voc_detection": ("boxes", "train2007", _boxes, "VOC2007/Annotations/000001.xml"),
}


def _open(kind: str, folder: pathlib.Path):
    target, split, *_ = KINDS[kind]
    name = "image_folder_classification" if kind == "zip" else kind
    return open_dataset(name, split, target=target, data_dir=folder / "none", manual_dir=folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_moved_folder_is_the_same_and_another_file_is_not(kind, tmp_path, monkeypatch):
    _, _, make, file = KINDS[kind]
    first = make(tmp_path / "first")
    before = identity_of(_open(kind, first))
    moved = shutil.copytree(first, tmp_path / "deeper" / "second")
    assert identity_of(_open(kind, moved)) == before
    monkeypatch.chdir(tmp_path)
    assert identity_of(_open(kind, pathlib.Path("deeper", "..", "deeper", "second"))) == before
    shutil.move(first, tmp_path / "gone")
    assert identity_of(_open(kind, moved)) == before
    content = (moved / file).read_bytes()
    # A zip's comment and spaces after a document leave everything else as it is.
    longer = content[:-2] + b"\1\0\n" if file.endswith(".zip") else content + b"\n"
    (moved / file).write_bytes(longer)
    assert identity_of(_open(kind, moved))["content"] != before["content"]


def test_annotations_of_coco_count(tmp_path):
    folder = _coco(tmp_path)
    before = identity_of(_open("coco", folder))
    path = folder / "annotations" / "instances_train.json"
    path.write_text(path.read_text().replace("[1, 2, 10, 11]", "[1, 2, 10, 12]"))
    assert identity_of(_open("coco", folder)) != before


def test_the_order_of_a_list_counts(tmp_path):
    folder = _xml(tmp_path)
    before = identity_of(_open("xml_folder_detection", folder))
    (folder / "train.txt").write_text("\n".join(reversed((folder / "train.txt").read_text().split())))
    assert identity_of(_open("xml_folder_detection", folder)) != before


def test_prepared_sets_are_known_by_their_shards(tmp_path):
    for place, count in (("one", 3), ("two", 3), ("three", 4)):
        prepare_image_folder(tmp_path / place / "data", _image_folder(tmp_path / place / "set", count), progress=False)
    one, two, three = (
        open_dataset("image_folder_segmentation", "train", data_dir=tmp_path / place / "data")
        for place in ("one", "two", "three")
    )
    assert identity_of(one) == identity_of(two)
    assert identity_of(one)["content"] != identity_of(three)["content"]
    part = open_dataset("image_folder_segmentation", "train[:2]", data_dir=tmp_path / "one" / "data")
    assert identity_of(part)["content"] != identity_of(one)["content"]


def test_views_count(tmp_path):
    source = _open("image_folder_segmentation", _image_folder(tmp_path / "set"))
    grid = [prepare_proposals(source, ProposalConfig("grid", n), tmp_path, workers=0, progress=False) for n in (9, 300)]
    views = [
        source,
        match_classes(source, ("b", "a")),
        JoinedDataset("both", "train", [source, source]),
        *(attach(source, found) for found in grid),
    ]
    assert len({view.fingerprint() for view in views}) == len(views)


def test_a_file_that_is_not_there_is_part_of_it(tmp_path):
    (tmp_path / "a").write_text("a")
    paths = [tmp_path / "a", tmp_path / "b"]
    before = fingerprint_of(paths)
    (tmp_path / "b").write_text("b")
    assert fingerprint_of(paths) != before


def test_of_many_files_some_are_looked_at(tmp_path, monkeypatch):
    for number in range(50):
        (tmp_path / str(number)).write_text("x")
    paths, looked = [tmp_path / str(n) for n in range(50)], []
    monkeypatch.setattr(module, "MOST_FILES", 10)
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked.append(path) or stat(path, **options))
    fingerprint_of(paths, ids=list(range(50)))
    assert 10 <= len({os.path.basename(path) for path in looked}) < 20


@pytest.mark.slow
def test_a_million_files_take_seconds(tmp_path):
    (tmp_path / "one.jpg").write_text("x")
    paths = [str(tmp_path / "one.jpg")] * 1_280_000
    start = time.process_time()
    fingerprint_of(paths, ids=[str(number) for number in range(len(paths))])
    assert time.process_time() - start < 20


RECORD = {
    "name": "mine",
    "examples": 3,
    "seed": 0,
    "manual_dir": "data",
    "identity": {"class_names": ["a", "b"], "void": [], "content": "0123"},
}


def _changed(**identity):
    return RECORD | {"identity": RECORD["identity"] | identity}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (RECORD | {"manual_dir": "elsewhere"}, []),
        (RECORD | {"seed": 1}, ["seed was 0 and is 1"]),
        (RECORD | {"examples": 4}, ["examples was 3 and is 4"]),
        (_changed(class_names=["b", "a"]), ["the classes were a, b and are b, a"]),
        (_changed(class_names=["a", "c"]), ["the classes were b and are c"]),
        (_changed(class_names=["a"]), ["the classes were a, b and are a"]),
        (_changed(void=[6]), ["void was [] and is [6]"]),
        (
            _changed(content="4567"),
            ["as many examples of the same classes, but the files' names, order or sizes are others"],
        ),
    ],
)
def test_differences_are_named(now, said):
    assert data_differences(RECORD, now) == said


def test_records_without_a_fingerprint_compare_places_and_names(tmp_path, monkeypatch):
    before = {key: value for key, value in RECORD.items() if key != "identity"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    names = (("a", "b"), ("a", "b"))
    for same in (tmp_path / "data", "./data", "link"):
        assert data_differences(before, RECORD | {"manual_dir": str(same)}, names) == []
    assert data_differences(before, RECORD | {"manual_dir": "other"}, names) == ["manual_dir was data and is other"]
    assert data_differences(before, RECORD, (("b", "a"), ("a", "b"))) == ["the classes were b, a and are a, b"]
    assert data_differences(before, RECORD) == []
