"""One set of photographs in each format is read to the same images, boxes, masks and objects."""

import json
import pathlib
import pickle
import types

import numpy as np
import pytest
from commands import configure
from own_pictures import write_parquet
from own_sets import CLASSES, WRITERS, coco_content, mask_of, photos, put, write_coco, write_yolo

from cvjax.data.annotations import decode_boxes_example
from cvjax.data.decode import decode_example
from cvjax.data.objects import decode_objects
from cvjax.datasets.own import open_own, splits_of
from cvjax.datasets.registry import open_dataset, own_place
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.load import open_scored, with_settings
from experiments import yolo_voc

SPLITS = photos()
OUTLINED = [name for name in WRITERS if name != "voc"]

# pycocotools hands its masks to NumPy in the way of before NumPy 2.
PYCOCOTOOLS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _written(folder: pathlib.Path, kind: str, polygons: bool) -> pathlib.Path:
    WRITERS[kind](folder, SPLITS, polygons)
    return folder


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("kind", WRITERS)
def test_boxes_are_the_same(tmp_path, kind, polygons):
    folder = _written(tmp_path, kind, polygons)
    for split, shown in SPLITS.items():
        source = open_own(folder, split, "boxes")
        assert source.class_names == CLASSES
        assert len(source) == len(shown)
        for index, each in enumerate(shown):
            record = source[index]
            assert record["image"] == each.data
            order = [CLASSES[label] for label in record["labels"]]
            assert order == [thing.name for thing in each.things]
            wanted = np.array([thing.box for thing in each.things]).reshape(-1, 4)
            np.testing.assert_allclose(record["boxes"], wanted, rtol=1e-6, atol=1e-5 if kind == "voc" else 1e-6)
            assert not record["difficult"].any()
            assert source.header_size(index) == each.size
            decode_boxes_example(record, 3)


@pytest.mark.parametrize("kind", OUTLINED)
def test_masks_are_the_polygons_pixels(tmp_path, kind):
    folder = _written(tmp_path, kind, True)
    for split, shown in SPLITS.items():
        source = open_own(folder, split, "mask")
        assert source.class_names == ("background", *CLASSES)
        for index, each in enumerate(shown):
            decoded = decode_example(source[index], 4)
            np.testing.assert_array_equal(decoded["mask"], mask_of(each))


@pytest.mark.parametrize("kind", OUTLINED)
def test_objects_have_the_same_masks(tmp_path, kind):
    source = open_own(_written(tmp_path, kind, True), "train", "objects")
    objects = decode_objects(source[1], 4)["objects"]
    order = [CLASSES[label - 1] for label in objects.labels]
    assert order == ["dog", "cat"]
    wanted = mask_of(SPLITS["train"][1])
    for name, number in zip(order, objects.numbers):
        np.testing.assert_array_equal(objects.mask == number, wanted == CLASSES.index(name) + 1)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_path_stands_for_the_name(tmp_path, kind):
    folder = _written(tmp_path, kind, False)
    by_path = open_dataset(str(folder), "val", target="boxes")
    by_name = open_dataset("own", "val", target="boxes", manual_dir=folder)
    assert by_path.ids() == by_name.ids()
    assert by_path.fingerprint() == by_name.fingerprint()


def test_a_path_in_the_place_of_a_name(tmp_path, monkeypatch):
    write_coco(tmp_path / "pets", SPLITS)
    (tmp_path / "coco").mkdir()
    monkeypatch.chdir(tmp_path)
    assert own_place("pets") == ("own", str(tmp_path / "pets"))
    assert own_place("coco") == ("coco", None)  # a name of the catalog is that
    assert own_place("nowhere", "folder") == ("nowhere", "folder")
    with pytest.raises(ConfigError, match="pets is a path and names the data already"):
        own_place("pets", "folder")
    config = configure(yolo_voc, ["quick", "--data", "pets"])
    assert (config.data, config.input.manual_dir) == ("own", str(tmp_path / "pets"))
    with pytest.raises(ConfigError, match=r"There is no data set '\./pots', nor such a file or folder; choose one of"):
        open_dataset("./pots", "train", target="boxes")


def test_a_run_is_scored_on_the_path_of_other_data(tmp_path):
    """The path takes the place of the run's own name, folder and format."""
    write_coco(tmp_path / "pets", SPLITS)
    write_yolo(tmp_path / "others", {"val": SPLITS["train"]})
    config = configure(yolo_voc, ["quick", "--data", tmp_path / "pets", "--input.format", "coco"])
    task = Detection(config, CLASSES)
    settings = types.SimpleNamespace(data=str(tmp_path / "others"), data_dir=None, manual_dir=None)
    task, source = open_scored(with_settings(task, settings, data_fields=("manual_dir",)), None)
    assert (len(source), len(open_scored(Detection(config, CLASSES), None)[1])) == (3, 2)


@pytest.mark.parametrize("kind", ["coco", "parquet"])
def test_boxes_that_training_does_not_see_are_a_warning(tmp_path, capsys, kind):
    if kind == "coco":
        write_coco(tmp_path, SPLITS)
    for split, shown in SPLITS.items() if kind == "parquet" else ():
        objects = [
            {
                "bbox": [(a, b, c - a, d - b) for a, b, c, d in (thing.box for thing in each.things)],
                "category": [CLASSES.index(thing.name) for thing in each.things],
            }
            for each in shown
        ]
        rows = [{"image": {"bytes": each.data, "path": None}, "objects": own} for each, own in zip(shown, objects)]
        names = {"names": list(CLASSES), "_type": "ClassLabel"}
        write_parquet(tmp_path, split, rows, {"image": {"_type": "Image"}, "objects": [{"category": names}]})
    config = configure(yolo_voc, ["quick", "--data", tmp_path, "--input.boxes", "1"])
    train, model = Detection.open(config, "train"), config.model.build(num_classes=3)
    Detection.create(config, train, model)
    classes, boxes = capsys.readouterr().err.splitlines()
    assert classes.startswith(
        f"warning: {tmp_path}, split train: emu is in none of the 3 images and cannot be learned;"
    )
    assert boxes.startswith(
        f"warning: {tmp_path}, split train: in 1 of the 3 images are more boxes than --input.boxes 1,"
    )
    assert boxes.endswith("--input.boxes 2 keeps all.")
    config = configure(yolo_voc, ["quick", "--data", tmp_path, "--eval.boxes", "1"])
    task = Detection.create(config, Detection.open(config, "all"), model)
    assert not capsys.readouterr().err
    if kind == "coco":
        with pytest.raises(DataError, match="11 has 2 boxes and evaluation must see all"):
            task.matched(train)


@pytest.mark.parametrize("kind", WRITERS)
def test_datasets_pickle_and_know_their_content(tmp_path, kind):
    source = open_own(_written(tmp_path / "a", kind, kind != "voc"), "train", "boxes")
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint() == source.fingerprint()
    np.testing.assert_array_equal(again[0]["boxes"], source[0]["boxes"])
    moved = open_own(_written(tmp_path / "b", kind, kind != "voc"), "train", "boxes")
    assert moved.fingerprint() == source.fingerprint()
    everything = open_own(tmp_path / "a", "all", "boxes")
    assert len(everything) == 5
    assert everything.fingerprint() != source.fingerprint()


def test_another_class_is_another_fingerprint(tmp_path):
    write_yolo(tmp_path, SPLITS)
    before = open_own(tmp_path, "train", "boxes").fingerprint()
    label = tmp_path / "labels/train/p0.txt"
    label.write_text("1" + label.read_text()[1:])
    assert open_own(tmp_path, "train", "boxes").fingerprint() != before


@PYCOCOTOOLS
@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_are_those_of_pycocotools(tmp_path, compressed):
    coco_mask = pytest.importorskip("pycocotools.mask")
    shown = SPLITS["train"][:1]
    pixels = np.random.default_rng(0).random(shown[0].size) < 0.4
    pixels[:, 3:20] = True  # long runs, beyond what five bits hold
    encoded = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    counts = encoded["counts"].decode()
    if not compressed:
        flat = np.concatenate([[False], pixels.T.ravel(), [False]])
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        counts = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
        counts = counts[:-1] if counts[-1] == 0 else counts
    content = coco_content(shown)
    thing = content["annotations"][0]
    thing["segmentation"] = {"size": list(shown[0].size), "counts": counts}
    del thing["bbox"]
    put(tmp_path, "mine.json", json.dumps(content))
    put(tmp_path, "p0.png", shown[0].data)
    mask = decode_example(open_own(tmp_path / "mine.json", "train", "mask")[0], 4)["mask"]
    np.testing.assert_array_equal(mask == 1, coco_mask.decode(encoded) == 1)
    x, y, width, height = coco_mask.toBbox(encoded)
    box = open_own(tmp_path, "all", "boxes")[0]["boxes"]
    np.testing.assert_array_equal(box, [[x, y, x + width, y + height]])


@PYCOCOTOOLS
def test_polygons_differ_from_pycocotools_along_their_border_alone(tmp_path):
    coco_mask = pytest.importorskip("pycocotools.mask")
    write_coco(tmp_path, SPLITS)
    source = open_own(tmp_path, "val", "mask")
    for index, each in enumerate(SPLITS["val"]):
        theirs = np.zeros(each.size, np.uint8)
        for thing in each.things:
            runs = coco_mask.frPyObjects([[v for point in thing.polygon for v in point]], *each.size)
            theirs[coco_mask.decode(coco_mask.merge(runs)) > 0] = CLASSES.index(thing.name) + 1
        differ = decode_example(source[index], 4)["mask"] != theirs
        # pycocotools rounds corners to fifths of a pixel.
        assert differ.sum() <= 0.1 * (theirs > 0).sum()


def _lift(folder: pathlib.Path) -> None:
    """Moves the files of a folder into the one above, and removes it."""
    for file in folder.iterdir():
        file.rename(folder.parent / file.name)
    folder.rmdir()


@pytest.mark.parametrize("kind", ["coco", "yolo", "labelme", "cvat", "voc"])
def test_a_set_without_splits_is_all_train(tmp_path, kind):
    shown = [*SPLITS["train"], *SPLITS["val"]]
    WRITERS[kind](tmp_path, {"train": shown}, kind != "voc")
    if kind == "coco":
        (tmp_path / "annotations/instances_train.json").rename(tmp_path / "annotations/instances_default.json")
        _lift(tmp_path / "images/train")
    if kind == "yolo":
        (tmp_path / "data.yaml").unlink()
        put(tmp_path, "classes.txt", "\n".join(CLASSES))
        _lift(tmp_path / "images/train")
        _lift(tmp_path / "labels/train")
    if kind == "labelme":
        _lift(tmp_path / "train")
    if kind == "cvat":
        file = tmp_path / "annotations.xml"
        file.write_text(file.read_text().replace('subset="Train"', ""))
        _lift(tmp_path / "images/Train")
    if kind == "voc":
        (tmp_path / "ImageSets/Main/train.txt").unlink()
    assert splits_of(tmp_path) == []
    assert len(open_own(tmp_path, "train", "boxes")) == 5
    with pytest.raises(DataError, match=r"has no splits.*--input.hold-out 0.2"):
        open_own(tmp_path, "val", "boxes")
