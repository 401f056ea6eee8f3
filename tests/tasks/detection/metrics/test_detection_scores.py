"""The report of a split: whatever the batches, with everything or with nothing in them."""

import math

import numpy as np
import pytest
from boxes_to_score import CLASSES, batch, random_images

from cvjax.errors import ConfigError
from cvjax.tasks.detection.metrics import DetectionScores, voc
from cvjax.tasks.detection.metrics.rows import flatten, tables

SCORES = DetectionScores(CLASSES, coco=True)


def report(images, scores=SCORES):
    return scores.report(scores.rows(batch(images)))


def join(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(np.array_equal(a, b, equal_nan=not isinstance(a, str)))


def test_the_same_in_any_batches_in_any_order():
    images = random_images(1)
    parts = [SCORES.rows(batch(images[i : i + 7], detections=12 + i, first=i)) for i in range(0, 30, 7)]
    whole = report(images)
    assert same(SCORES.report(join(parts)), whole)
    assert same(SCORES.report(join(parts[::-1])), whole)
    assert 0 < whole["map"] < 1


def test_what_a_report_holds():
    images = random_images(2)
    got = report(images)
    detections, truth, _ = tables(flatten(batch(images)))
    curves = [voc.curve(voc.judge(detections, truth, 4), label) for label in range(4)]
    assert got["ap"]["car"] == voc.area_under(curves[0])
    assert got["ap_11"]["bus"] == voc.eleven_points(curves[1])
    assert got["map"] == pytest.approx(np.mean([got["ap"][name] for name in ("car", "bus", "chair")]))
    assert math.isnan(got["ap"]["cat"])
    assert got["recall"] == pytest.approx(np.mean([curves[label].last_recall for label in (0, 1, 3)]))
    assert got["precision"].shape == (4, 101)
    # The mean over 11 of the 101 points is VOC 2007's average precision.
    np.testing.assert_allclose(got["precision"][:, ::10].mean(1), list(got["ap_11"].values()))
    assert sum(got["objects_by_size"].values()) == sum(got["objects"].values())
    assert {"map_small", "map_medium", "map_large", "coco_ap", "errors"} <= got.keys()
    assert list(got["errors"]) == list(CLASSES)
    assert "coco_ap" not in report(images, DetectionScores(CLASSES))


def test_sizes_are_told_apart():
    small, large = (0, 0, 10, 10), (0, 0, 100, 100)
    truth = [(small, 0, False, False), (large, 0, False, False)]
    got = report([{"found": [(large, 0.9, 0)], "truth": truth}])
    assert (got["map_small"], got["map_large"], got["map"]) == (0.0, 1.0, 0.5)
    assert math.isnan(got["map_medium"])
    assert got["objects_by_size"] == {"small": 1, "medium": 0, "large": 1}
    assert got["ap_by_size"]["large"]["car"] == 1


@pytest.mark.parametrize("found", [None, [], [((0, 0, 9, 9), 0.5, 1)]])
def test_without_objects_there_is_no_score(found):
    got = report([] if found is None else [{"found": found, "truth": []}])
    assert math.isnan(got["map"])
    assert all(math.isnan(value) for value in got["ap"].values())
    assert set(got["objects"].values()) == {0}


def test_without_detections_the_score_is_nought():
    got = report([{"found": [], "truth": [((0, 0, 9, 9), 1, False, False)]}])
    assert got["map"] == got["map_voc07"] == got["recall"] == 0
    assert got["coco_ap"] == 0


def test_padding_does_not_count():
    images = random_images(4, count=6)
    kept = batch(images)
    kept["valid"][3:] = False
    kept["index"][3:] = -1
    assert same(SCORES.report(SCORES.rows(kept)), report(images[:3]))


def test_numbers_that_are_none():
    box, nan = (0.0, 0.0, 10.0, 10.0), float("nan")
    truth = [(box, 0, False, False)]
    found = [(box, nan, 0), ((nan, 0, 10, 10), 0.9, 0), ((0, 0, float("inf"), 10), 0.8, 0), (box, 0.7, 0)]
    got = report([{"found": found, "truth": truth}])
    assert got["ap"]["car"] == pytest.approx(1 / 3)  # the first is dropped, the next two are wrong
    assert got["coco_ap"] == pytest.approx(1 / 3)


def test_what_is_refused():
    images = random_images(0, count=2)
    with pytest.raises(ValueError, match="twice"):
        SCORES.report(join([SCORES.rows(batch(images)), SCORES.rows(batch(images, first=1))]))
    with pytest.raises(ValueError, match="classes 0 to 0"):
        report(random_images(0), DetectionScores(("one",)))
    with pytest.raises(ConfigError, match="differ"):
        DetectionScores(("a", "a"))
    with pytest.raises(ConfigError, match="overlap"):
        DetectionScores(CLASSES, iou=0.0)
    with pytest.raises(ValueError, match="label"):
        SCORES.rows(batch(images) | {"classes": np.zeros((2, 5))})
