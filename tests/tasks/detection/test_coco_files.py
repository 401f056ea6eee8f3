"""COCO's scores from a file of annotations to the report equal those of pycocotools on the same file."""

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from made import detection
from tiny_sets import photo

from cvjax.datasets.registry import open_dataset
from cvjax.engine.evaluate import whole_split
from cvjax.models.detection.detector import Detections
from cvjax.tasks.detection.metrics.coco import STATS

pycocotools = pytest.importorskip("pycocotools")
SIDE = 200
ROWS = 12


def thing(number, image, category, bbox, **more) -> dict:
    area = bbox[2] * bbox[3]
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, "area": area, "iscrowd": 0} | more


def content(things, images=2, categories=1) -> dict:
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE} for n in range(1, images + 1)],
        "annotations": things,
        "categories": [{"id": 10 * n, "name": f"kind{n}"} for n in range(1, categories + 1)],
    }


def write(folder, said) -> None:
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(said))
    for image in said["images"]:
        cv2.imwrite(str(folder / "val2017" / image["file_name"]), photo(image["id"], SIDE, SIDE))


def pycocotools_says(folder, found) -> np.ndarray:
    """The twelve numbers of (image, label, corners, score) rows."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(folder / "annotations" / "instances_val2017.json")
        results = [
            {"image_id": i, "category_id": 10 * (label + 1), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            for i, label, (x1, y1, x2, y2), score in found
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def cvjax_says(folder, found, **options) -> dict:
    """The report of the same rows, by all steps of an evaluation but the net."""
    source = open_dataset("coco", "val", target="boxes", manual_dir=folder, data_dir=folder / "data")
    task = detection(source.class_names, coco=True, batch_size=2, workers=0, **options)
    totals: dict[str, list] = {}
    for batch in whole_split(task, source)():
        rows = len(batch["valid"])
        boxes, scores = np.zeros((rows, ROWS, 4), np.float32), np.zeros((rows, ROWS), np.float32)
        classes, valid = np.zeros((rows, ROWS), np.int32), np.zeros((rows, ROWS), bool)
        for row, index in enumerate(batch["index"]):
            mine = [item for item in found if item[0] == index + 1]
            for number, (_, label, corners, score) in enumerate(mine):
                boxes[row, number] = np.asarray(corners) * batch["scale"][row][[1, 0, 1, 0]]
                scores[row, number], classes[row, number], valid[row, number] = score, label, True
        detections = Detections(boxes, scores, classes, valid)
        arrays = task.summarize(task.gather(detections, batch))[1]
        for name, value in {**arrays, **task.update(detections, batch)}.items():
            totals.setdefault(name, []).append(np.asarray(value))
    return task.compute({k: np.concatenate(v) if v[0].ndim else np.sum(v) for k, v in totals.items()})


# Areas that are much smaller than the boxes move objects from the medium size to the small one.
AREAS = content(
    [
        thing(1, 1, 10, [10, 10, 40, 40], area=900),
        thing(2, 1, 10, [100, 10, 30, 30], area=900),
        thing(3, 1, 10, [10, 100, 60, 60], area=3600),
        thing(4, 2, 10, [10, 10, 40, 40], area=900),
        thing(5, 2, 10, [100, 100, 50, 50], area=2500),
    ]
)
FOUND = [
    (1, 0, (10, 10, 50, 50), 0.9),
    (1, 0, (10, 100, 70, 160), 0.8),
    (2, 0, (100, 100, 150, 150), 0.7),
    (2, 0, (0, 0, 5, 5), 0.95),
]


@pytest.mark.parametrize("options", [{}, {"short_side": 150}, {"crop": (100, 300), "keep_aspect": False}])
def test_sizes_of_objects_are_the_areas_that_the_file_states(options, tmp_path):
    write(tmp_path, AREAS)
    report = cvjax_says(tmp_path, FOUND, **options)
    assert report["coco_ap"] == pytest.approx(0.453, abs=5e-4)
    assert report["coco_ap_small"] == pytest.approx(0.1683, abs=5e-5)
    assert report["coco_ap_medium"] == pytest.approx(1.0)
    assert report["objects_by_size"] == {"small": 3, "medium": 2, "large": 0}
    np.testing.assert_allclose([report[name] for name in STATS[:5]], pycocotools_says(tmp_path, FOUND)[:5], atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_with_crowds_outlines_and_empty_images(seed, tmp_path):
    rng = np.random.default_rng(seed)
    things, found = [], []
    for image in range(1, 9):  # of 9; the last has nothing
        for _ in range(rng.integers(0, 6)):
            (x, y), (wide, high) = rng.integers(0, 90, 2).tolist(), rng.integers(8, 110, 2).tolist()
            crowd = int(rng.random() < 0.2)
            outline = (
                {"counts": [0, SIDE * SIDE], "size": [SIDE, SIDE]} if crowd else [[x, y, x + wide, y, x, y + high]]
            )
            label = int(rng.integers(0, 2))  # the third kind has no objects
            area = float(rng.integers(wide * high // 2, wide * high))
            things.append(
                thing(len(things) + 1, image, 10 * (label + 1), [x, y, wide, high], area=area, iscrowd=crowd)
                | {"segmentation": outline}
            )
            for _ in range(rng.integers(0, 3)):
                moved = np.clip(np.array([x, y, x + wide, y + high]) + rng.integers(-6, 7, 4), 0, SIDE).tolist()
                if moved[2] > moved[0] and moved[3] > moved[1]:
                    found.append((image, label, tuple(map(float, moved)), float(np.float32(rng.random()))))
    write(tmp_path, content(things, images=9, categories=3))
    report, wanted = cvjax_says(tmp_path, found, crop=(SIDE, SIDE)), pycocotools_says(tmp_path, found)
    np.testing.assert_allclose([report[name] for name in STATS], np.where(wanted < 0, np.nan, wanted), atol=1e-9)
    assert 0 < report["coco_ap"] < 1


def test_the_input_that_went_wrong(shared_dir):
    report = cvjax_says(shared_dir / "cases" / "area", FOUND)
    figures = [report[f"coco_ap{size}"] for size in ("", "_small", "_medium")]
    np.testing.assert_allclose(figures, (0.453, 0.1683, 1.0), atol=5e-4)
