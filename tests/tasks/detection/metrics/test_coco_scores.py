"""COCO's scores equal those of pycocotools, called as its own demonstration calls it."""

import contextlib
import io
import sys

import numpy as np
import pytest
from boxes_to_score import CLASSES, batch, random_images

from cvjax.errors import ConfigError
from cvjax.tasks.detection.metrics import coco, rows

pycocotools = pytest.importorskip("pycocotools")


def xywh(box):
    box = [float(value) for value in box]
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def directly(images):
    """The twelve numbers and the table of precisions, from lists in COCO's format."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {"image_id": i, "bbox": xywh(box), "category_id": int(label), "iscrowd": int(crowd)}
        for i, image in enumerate(images)
        for box, label, _, crowd in image["truth"]
    ]
    for number, item in enumerate(annotations, 1):
        item |= {"id": number, "area": item["bbox"][2] * item["bbox"][3]}
    results = [
        {"image_id": i, "bbox": xywh(box), "score": float(np.float32(score)), "category_id": int(label)}
        for i, image in enumerate(images)
        for box, score, label in image["found"]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(len(images))],
            "categories": [{"id": label} for label in range(len(CLASSES))],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def ours(images, **extra):
    detections, truth, indices = rows.tables(rows.flatten(batch(images) | extra))
    return coco.coco_report(detections, truth, indices, CLASSES)


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools_with_crowds_and_sizes(seed):
    images = random_images(seed, crowds=0.2 * (seed % 2), difficult=0.0, side=160)
    report, wanted = ours(images), directly(images)
    expected = np.where(wanted.stats < 0, np.nan, wanted.stats)
    np.testing.assert_allclose([report[name] for name in coco.STATS], expected, rtol=0, atol=1e-9)
    assert 0 < report["coco_ap"] < report["coco_ap50"] < 1
    precision = wanted.eval["precision"][:, :, :, 0, 2]
    for label, name in enumerate(CLASSES):
        value = precision[:, :, label].mean()
        np.testing.assert_allclose(report["coco_ap_by_class"][name], value if value >= 0 else np.nan, atol=1e-9)


def test_no_detections_and_no_objects():
    truth = [((0, 0, 10, 10), 0, False, False)]
    missed = ours([{"found": [], "truth": truth}])
    assert missed["coco_ap"] == missed["coco_ar100"] == 0
    assert np.isnan(missed["coco_ap_large"])
    assert np.isnan(missed["coco_ap_by_class"]["bus"])
    for found in ([], [((0, 0, 10, 10), 0.5, 0)]):
        report = ours([{"found": found, "truth": []}])
        assert all(np.isnan(report[name]) for name in coco.STATS)


def test_a_crowd_takes_all_detections_and_a_difficult_object_the_one():
    box, inside = (0, 0, 40, 40), (0, 0, 40, 20)
    other = ((60, 60, 100, 100), 0, False, False)
    found = [(inside, 0.9, 0), (inside, 0.8, 0), ((60, 60, 100, 100), 0.7, 0)]
    as_crowd = ours([{"found": found, "truth": [(box, 0, False, True), other]}])
    assert as_crowd["coco_ap"] == pytest.approx(1.0)
    as_difficult = ours([{"found": [(box, 0.9, 0), found[2]], "truth": [(box, 0, True, False), other]}])
    assert as_difficult["coco_ap"] == pytest.approx(1.0)
    twice = ours([{"found": [(box, 0.9, 0), (box, 0.8, 0), found[2]], "truth": [(box, 0, True, False), other]}])
    assert twice["coco_ap"] == pytest.approx(0.5)


def test_sizes_go_by_the_areas_that_are_given():
    images = [{"found": [((0, 0, 40, 40), 0.9, 0)], "truth": [((0, 0, 40, 40), 0, False, False)]}]
    assert ours(images)["coco_ap_medium"] == pytest.approx(1.0)
    outline = ours(images, truth_areas=np.full((1, 6), 900.0))
    assert outline["coco_ap_small"] == pytest.approx(1.0)
    assert np.isnan(outline["coco_ap_medium"])


def test_without_pycocotools_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(ConfigError, match=r"cvjax\[coco\]"):
        ours(random_images(0, count=1))
