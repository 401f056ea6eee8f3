"""What the presets of all detectors share: data sets as in the papers, transforms as the fields say."""

import dataclasses

import pytest
from made import detection

from experiments import faster_rcnn_voc, sppnet_voc, yolo_voc
from experiments._shared import QUICK_DETECTION, voc07

PRESETS = {
    "quick": QUICK_DETECTION,
    "voc07": voc07(QUICK_DETECTION),
    "voc0712": voc07(QUICK_DETECTION, "trainval0712"),
    "coco": faster_rcnn_voc.PRESETS["coco"],
}


@pytest.mark.parametrize("name", PRESETS)
def test_transforms_are_made_of_the_fields(name):
    config = PRESETS[name]
    data = dataclasses.replace(config.input, short_side=300, long_side=500, crop=(320, 400))
    task = detection(("a", "b")).reconfigured(input=data, eval=dataclasses.replace(config.eval, boxes=7))
    train, evaluation = task.train_transform(), task.eval_transform()
    assert (train.data.crop, train.data.short_side, train.data.boxes) == ((320, 400), 300, data.boxes)
    assert (evaluation.size, evaluation.short_side, evaluation.max_boxes) == ((320, 400), 300, 7)


def test_data_sets_are_those_of_the_papers():
    made = [(PRESETS[name].input, PRESETS[name].eval) for name in ("voc07", "voc0712", "coco")]
    assert [(data.train_split, data.eval_split, scoring.metric) for data, scoring in made] == [
        ("trainval2007", "test2007", "map_voc07"),
        ("trainval0712", "test2007", "map_voc07"),
        ("train", "val", "map"),
    ]
    assert (made[2][0].on_bad_boxes, made[2][1].coco) == ("drop", True)


def test_all_train_on_the_papers_splits():
    for experiment in (faster_rcnn_voc, sppnet_voc, yolo_voc):
        config = experiment.PRESETS["voc07"]
        assert (config.data, config.input.eval_split, config.eval.metric) == ("voc_detection", "test2007", "map_voc07")
