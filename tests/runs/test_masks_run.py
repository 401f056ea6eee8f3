"""A run that learns masks inside boxes, by its commands, on a drawn devkit; and what it says to bad input."""

import json
import pathlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from commands import configure
from tiny_run import command

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.tasks.object_masks.config import ObjectMasksConfig
from cvjax.tasks.object_masks.task import ObjectMasks
from experiments import hypercolumn_masks

TINY = (
    "voc --data voc_segmentation --model.backbone.stage-sizes 1 1 1 1 1 --model.backbone.widths 8 8 16 16 16"
    " --model.backbone.hidden 16 --model.backbone.batch-norm --model.norm.momentum 0.8 --model.dropout 0"
    " --model.mask-size 16 --model.grid 2"
    " --input.crop 48 48 --input.workers 0 --input.train-split train --steps 60 --batch-size 8 --log-every 30"
    " --eval-every 60 --checkpoint-every 30 --eval.batch-size 4 --eval.boxes 3 --optim.name adamw"
    " --optim.learning-rate 0.003 --optim.head-lr-mult 1 --optim.bias-lr-mult 1"
).split()


def _draw(folder: pathlib.Path) -> pathlib.Path:
    """An unpacked devkit of bright discs, aeroplanes and bicycles, on noise."""
    root, rng = folder / "VOC2012", np.random.default_rng(0)
    for name in ("JPEGImages", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for split, numbers in (("train", range(12)), ("val", range(12, 17))):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{n}\n" for n in numbers))
        for number in numbers:
            size = (int(rng.integers(44, 64)), int(rng.integers(52, 64)))
            image, objects = rng.integers(0, 120, (*size, 3), np.uint8), np.zeros(size, np.uint8)
            for thing in (1, 2):
                center, radius = (26 * thing - 12, int(rng.integers(14, size[0] - 14))), int(rng.integers(8, 12))
                cv2.circle(image, center, radius, (220, 200, 90), -1)
                cv2.circle(objects, center, radius, thing, -1)
            cv2.imwrite(str(root / "JPEGImages" / f"{number}.jpg"), image)
            for name in ("SegmentationObject", "SegmentationClass"):
                cv2.imwrite(str(root / name / f"{number}.png"), objects)
    return folder


@pytest.mark.slow
def test_masks_are_trained_scored_and_drawn(tmp_path):
    folder = _draw(tmp_path / "data")
    workdir = tmp_path / "run"
    options = (*TINY, "--input.manual-dir", folder, "--workdir", workdir)
    process = command("experiments.hypercolumn_masks", *options)
    assert process.returncode == 0, process.err
    looped = json.loads((workdir / "report.json").read_text())
    assert (looped["examples"], looped["objects"]) == (5, 10)
    assert looped["mask_iou"] > 0.75
    assert 0 <= looped["found_70"] <= looped["found_50"] == 1.0
    assert cv2.imread(str(workdir / "predictions.png")).shape[1] > 500
    assert "mean IoU of an object's mask" in (workdir / "report.md").read_text()
    process = command("cvjax.cli.evaluate", workdir, "--json", tmp_path / "report.json", devices=2)
    assert process.returncode == 0, process.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["mask_iou"] == pytest.approx(looped["mask_iou"], rel=1e-4)
    assert report["iou"].keys() == looped["iou"].keys()
    process = command("cvjax.cli.evaluate", workdir, "--boxes", 1)
    assert process.returncode == 2
    assert "12 has 2 objects; give --eval.boxes (of evaluate: --boxes) at least that many." in process.err
    process = command("cvjax.cli.predict", workdir, folder / "VOC2012" / "JPEGImages" / "12.jpg")
    assert process.returncode == 2
    assert "draws masks inside given boxes" in process.err


def test_a_model_without_masks_is_refused():
    model = create_model("resnet18", num_classes=2)
    with pytest.raises(ConfigError, match=r"ResNet does not draw masks inside boxes; take --model\.name hypercolumn"):
        ObjectMasks.create(ObjectMasksConfig(), SimpleNamespace(class_names=("background", "dog")), model)


def test_a_bare_command_takes_voc_where_it_has_objects(tmp_path):
    folder = _draw(tmp_path)
    assert configure(hypercolumn_masks, ["--input.manual-dir", folder]).data == "voc_segmentation"
    assert (
        configure(hypercolumn_masks, ["--input.manual-dir", folder / "none", "--data-dir", folder / "none"]).data
        == "scenes"
    )
