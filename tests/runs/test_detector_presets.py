"""What the presets of all detectors share, and the bare command."""

import dataclasses

import pytest

from cvjax.engine.config import ModelConfig
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval, eval_transform, train_transform
from cvjax.tasks.detection.task import Detection
from experiments import _detectors
from experiments._detectors import QUICK, coco, configure_detector, voc07, voc0712

TASK = Detection(class_names=("a", "b"))
BASE = DetectionConfig(model=ModelConfig("net"), workdir="runs")
PRESETS = {
    "quick": dataclasses.replace(BASE, **QUICK),
    "voc07": dataclasses.replace(BASE, **voc07(DetectionData(), DetectionEval())),
}


@pytest.mark.parametrize("make", [voc07, voc0712, coco, lambda *given: QUICK])
def test_transforms_are_made_of_the_fields(make):
    config = dataclasses.replace(BASE, **make(DetectionData(short_side=300, long_side=500), DetectionEval(boxes=7)))
    train, evaluation = train_transform(config.input, TASK), eval_transform(TASK, config.eval, config.input)
    assert (train.size, train.short_side, train.max_boxes) == (
        config.input.crop,
        config.input.short_side,
        config.input.boxes,
    )
    assert (evaluation.size, evaluation.short_side, evaluation.max_boxes) == (
        config.input.crop,
        config.input.short_side,
        config.eval.boxes,
    )


def test_data_sets_are_those_of_the_papers():
    default = DetectionData(), DetectionEval()
    made = [(fields["input"], fields["eval"]) for fields in (make(*default) for make in (voc07, voc0712, coco))]
    assert [(reading.train_split, reading.eval_split, scoring.metric) for reading, scoring in made] == [
        ("trainval2007", "test2007", "map_voc07"),
        ("trainval0712", "test2007", "map_voc07"),
        ("train", "val", "map"),
    ]
    assert (made[2][0].on_bad_boxes, made[2][1].coco) == ("drop", True)


def test_a_bare_command_takes_voc_where_it_is_and_says_so_where_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path))
    assert configure_detector(PRESETS, "toy", "A toy.", []).data == "scenes"
    assert "no VOC 2007" in capsys.readouterr().out
    monkeypatch.setattr(_detectors, "open_voc_detection", lambda *_: None)
    assert configure_detector(PRESETS, "toy", "A toy.", []).data == "voc_detection"
    changed = configure_detector(PRESETS, "toy", "A toy.", ["quick", "--input.sizes", "96", "96", "128", "128"])
    assert changed.input.sizes == ((96, 96), (128, 128))
    assert changed.data == "scenes"
