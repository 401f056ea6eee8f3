"""`cvjax data check` and `cvjax data look` on small folders: what they print, write, and end with."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from tiny_run import draw_folder
from tiny_sets import box_xml, class_tree, encoded, photo, write_tree

from cvjax.cli.data import check, look
from cvjax.data.loader import train_batches
from cvjax.data.part import part_of
from cvjax.datasets.registry import open_dataset
from cvjax.engine.config import as_json
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.detection.config import DetectionConfig
from cvjax.tasks.segmentation.config import SegmentationConfig
from cvjax.tasks.variants import decoded, task_to_look, varied
from cvjax.visual.sheets.samples import around, augmented_truth
from experiments import deeplab_voc, yolo_voc


@pytest.fixture
def boxes(tmp_path):
    tree = {f"{n}.jpg": encoded(photo(n, 60, 80), "JPEG") for n in range(12)}
    things = [("cat", 10, 10, 40, 40), ("dog", 30, 20, 70, 50)]
    tree |= {f"{n}.xml": box_xml(things[: 1 + n % 2], size=(60, 80)) for n in range(12)}
    return write_tree(tmp_path / "pets", tree)


def test_check_ends_with_0_and_strict_with_1(boxes, tmp_path, capsys):
    check.main([str(boxes), "--strict", "--ignore", "near-duplicates", "near-duplicates-across-splits"])
    assert "no findings" in capsys.readouterr().out
    (boxes / "3.jpg").write_bytes(b"\xff\xd8\xffnothing")
    (boxes / "5.xml").write_bytes(box_xml([("dog", 30, 20, 30, 50)], size=(60, 80)))
    args = [str(boxes), "--html", str(tmp_path / "a.html"), "--json", str(tmp_path / "a.json")]
    check.main(args)
    printed = capsys.readouterr().out
    assert f"{boxes / '3.jpg'}: " in printed
    assert f"{boxes / '5.jpg'}: box 1, dog at (29, 19, 29, 50), is empty or inverted" in printed
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["counts"]["unreadable"] == report["counts"]["empty-box"] == 1
    assert report["class_names"] == ["cat", "dog"]
    assert sum(split["images"] for split in report["splits"].values()) == 12
    page = (tmp_path / "a.html").read_text()
    assert "Boxes that are empty or inverted: 1" in page
    assert 'src="data:image/' in page
    assert "http:" not in page.replace("http-equiv", "")
    assert "https:" not in page
    with pytest.raises(SystemExit) as ended:
        check.main([*args, "--strict"])
    assert ended.value.code == 1


def test_a_split_that_cannot_be_opened_is_a_finding(tmp_path, capsys):
    write_tree(tmp_path, class_tree("train/", 2))
    check.main(["image_folder_classification", "--manual-dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "Files that cannot be read: 1" in printed
    assert "val" in printed
    with pytest.raises(DataError, match="no split"):
        check.main(["image_folder_classification", "--manual-dir", str(tmp_path), "--splits", "other"])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nothing_at_all"], "no data set 'nothing_at_all'"),
        (["scenes", "--void", "3"], "--mask-values and --void are of folders"),
        (["scenes", "--distance", "65"], "--distance is 65"),
    ],
)
def test_check_refuses(arguments, what):
    with pytest.raises(ConfigError, match=what):
        check.main([*arguments, "--target", "mask"] if "--void" in arguments else arguments)


def test_look_says_what_training_would_leave_out(boxes, tmp_path):
    place = tmp_path / "look.html"
    look.main([str(boxes), "--html", str(place), "--count", "2", "--input.boxes", "1"])
    assert "in 6 of the 12 images are more boxes than --input.boxes 1" in place.read_text()
    look.main([str(boxes), "--html", str(place), "--count", "2"])
    assert "more boxes than" not in place.read_text()


def test_look_shows_examples_of_classes(boxes, tmp_path, capsys):
    place = tmp_path / "look.html"
    args = [str(boxes), "--html", str(place), "--json", str(tmp_path / "a.json")]
    look.main([*args, "--count", "3", "--variants", "2", "--classes", "dog", "--like", "yolo_voc/quick"])
    shown = json.loads((tmp_path / "a.json").read_text())["examples"]
    assert {row["split"] for row in shown} == {"all"}
    assert all("dog" in row["classes"] and row["size"] == [60, 80] for row in shown)
    assert all(int(row["file"].partition(".")[0]) % 2 for row in shown)  # where the dogs are
    page = place.read_text()
    assert page.count("<img ") == 3 * len(shown)
    assert page.count(">augmented<") == 2 * len(shown)
    assert "<i " in page  # the legend's colors
    with pytest.raises(ConfigError, match="no class 'cow'"):
        look.main([*args, "--classes", "cow"])
    with pytest.raises(ConfigError, match="learns mask"):
        look.main([*args, "--target", "boxes", "--like", "deeplab_voc/quick"])
    with pytest.raises(ConfigError, match="has no preset 'quik'"):
        look.main([*args, "--like", "yolo_voc/quik"])


def test_look_takes_a_runs_config_and_flags(boxes, tmp_path):
    config = dataclasses.replace(yolo_voc.PRESETS["quick"], seed=5)
    (tmp_path / "config.json").write_text(
        json.dumps({"format": 3, "run": as_json(config), "task": {"kind": "detection"}})
    )
    for like in (tmp_path, tmp_path / "config.json"):
        arguments, read, target = look.read(
            [str(boxes), "--like", str(like), "--input.flip", "0.25", "--input.crop", "64", "96"]
        )
        assert (target, arguments.count) == ("boxes", 12)
        wanted = dataclasses.replace(config.input, flip=0.25, crop=(64, 96), manual_dir=None)
        assert read == dataclasses.replace(config, input=wanted, data=str(boxes))
    with pytest.raises(ConfigError, match="does not describe a run"):
        look.read([str(boxes), "--like", str(boxes)])


def _first_epoch(task, source, seed):
    """What the loader's training stream makes of each example in epoch 0, by index."""
    stream = train_batches(
        source, task.decoder(), task.train_transform(), batch_size=1, seed=seed, target=task.target, threads=0
    )
    with stream:
        batches = [next(stream) for _ in range(len(source))]
    return {int(batch["index"][0]): batch for batch in batches}


def test_variants_are_those_of_training(tmp_path):
    source = open_dataset("image_folder_segmentation", "train", manual_dir=draw_folder(tmp_path, train=4, val=1))
    data = dataclasses.replace(
        deeplab_voc.PRESETS["quick"].input, crop=(48, 48), brightness=0.0, contrast=0.0, saturation=0.0
    )
    config = dataclasses.replace(SegmentationConfig(), input=data)
    task = task_to_look(config, source)
    for index, batch in _first_epoch(task, source, 7).items():
        image, mask, _ = decoded(task, source, index)
        made, target, _ = varied(task, image, mask, index, 7, 0)
        np.testing.assert_array_equal(made, batch["image"][0])
        np.testing.assert_array_equal(target, batch["mask"][0])
    recolored = dataclasses.replace(config, input=dataclasses.replace(data, brightness=0.5))
    bright, same, _ = varied(task_to_look(recolored, source), image, mask, index, 7, 0)
    np.testing.assert_array_equal(same, target)
    factors = bright[made > 30].astype(float) / made[made > 30]
    assert abs(np.median(factors) - 1) > 0.01
    assert np.std(factors[bright[made > 30] < 255]) < 0.02  # one factor for the image


def test_boxes_of_variants(boxes):
    source = open_dataset("xml_folder_detection", "train", target="boxes", manual_dir=boxes)
    source = part_of(source, range(3), "train")
    config = DetectionConfig()
    config = dataclasses.replace(config, input=dataclasses.replace(config.input, crop=(64, 64), random_crop=0.0))
    task = task_to_look(config, source)
    for index, batch in _first_epoch(task, source, 1).items():
        image, objects, _ = decoded(task, source, index)
        shown, truth = augmented_truth("boxes", *varied(task, image, objects, index, 1, 0))
        here = batch["box_valid"][0]
        np.testing.assert_array_equal(truth.boxes, batch["boxes"][0][here])
        assert shown.shape[:2] == tuple(batch["size"][0])


def test_what_a_net_without_padding_sees_is_cut_to_its_mask():
    image = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
    shown, mask = augmented_truth("mask", image, np.zeros((12, 16), np.uint8), {})
    assert mask.shape == (12, 16)
    np.testing.assert_array_equal(shown, image[4:16, 4:20])


def test_surroundings_hold_the_box():
    image = np.zeros((60, 90, 3), np.uint8)
    for box in ((0, 0, 4, 4), (80, 50, 90, 60), (40, 2, 50, 58), (0, 0, 90, 60)):
        rows, columns = around(image, box)
        assert columns.start <= box[0] < box[2] <= columns.stop <= 90
        assert rows.start <= box[1] < box[3] <= rows.stop <= 60
        assert columns.stop - columns.start >= 30


def test_masks_of_ones_own_values(tmp_path, capsys):
    folder = draw_folder(tmp_path / "a", train=2, val=1)
    for path in folder.glob("*/masks/*.png"):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.choose(np.minimum(mask, 3), [0, 100, 200, 50]).astype(np.uint8))
    args = [str(folder), "--ignore", "near-duplicates", "near-duplicates-across-splits", "absent-class"]
    check.main([*args, "--mask-values", "0", "100", "200", "--void", "50", "--strict"])
    assert "no findings" in capsys.readouterr().out
    check.main(args)
    assert "Labels that are no class: 3" in capsys.readouterr().out
