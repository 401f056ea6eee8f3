"""Detection as a task: what the net is given, sums of its losses, scores in the frame of the original images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import detection

from cvjax.models.detection.detector import Detections

TASK = detection(("disc", "square"))


def _batch() -> dict[str, np.ndarray]:
    """Images of 40 x 60 and 20 x 30 pixels, shown at half and twice their size, and a row that is none."""
    boxes = np.zeros((3, 3, 4), np.float32)
    boxes[0, :2], boxes[1, 0] = [(2, 3, 12, 18), (15, 4, 30, 20)], (10, 10, 50, 30)
    valid = np.asarray([[True, True, False], [True, False, False], [False] * 3])
    return {
        "image": np.zeros((3, 40, 60, 3), np.uint8),
        "boxes": boxes,
        "labels": np.where(valid, [[0, 1, 0]] * 3, -1).astype(np.int32),
        "difficult": np.asarray([[False, True, False], [False] * 3, [False] * 3]),
        "crowd": np.asarray([[False] * 3, [True, False, False], [True] * 3]),
        "box_valid": valid,
        "areas": np.asarray([[600, 960, 0], [200, 0, 0], [0] * 3], np.float32),
        "dropped_boxes": np.asarray([1, 2, 4], np.int32),
        "size": np.asarray([(20, 30), (40, 60), (0, 0)], np.int32),
        "scale": np.asarray([(0.5, 0.5), (2, 2), (1, 1)], np.float32),
        "original_size": np.asarray([(40, 60), (20, 30), (0, 0)], np.int32),
        "index": np.asarray([5, 6, -1], np.int32),
        "valid": np.asarray([True, True, False]),
        "skipped": np.asarray([0, 0, 1], np.int32),
    }


def test_a_detector_is_given_what_it_needs():
    batch = {**_batch(), "proposals": np.zeros((3, 2, 4), np.float32), "proposal_valid": np.ones((3, 2), bool)}
    seen = TASK.prepare(batch, jax.random.key(0))[0]
    assert seen.images.shape == (3, 40, 60, 3)
    np.testing.assert_array_equal(seen.sizes, batch["size"])
    np.testing.assert_array_equal(seen.proposals.valid, [[True] * 2, [True] * 2, [False] * 2])
    np.testing.assert_array_equal(seen.truth.valid, batch["box_valid"])
    np.testing.assert_array_equal(seen.truth.ignore, [[False, True, False], [True, False, False], [False] * 3])
    assert seen.truth.labels.min() == 0  # padding too is a class, as indexing wants it
    bare = TASK.prepare(_batch(), None)[0]
    assert (bare.proposals, bare.truth) == (None, None)


def test_losses_are_sums_over_images_that_are_there():
    losses = {"a": jnp.asarray([1.0, 2.0, np.nan]), "b": jnp.asarray([0.5, 0.25, 1e9])}
    total, sums = TASK.loss(losses, _batch())
    assert (float(total), float(sums["a"]), float(sums["b"])) == (3.75, 3.0, 0.75)
    assert float(TASK.weight(_batch())) == 2
    slopes = jax.grad(lambda losses: TASK.loss(losses, _batch())[0])(losses)
    np.testing.assert_array_equal(slopes["a"], [1, 1, 0])


def _report(task, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict:
    batch = _batch()
    found = Detections(boxes, scores, classes, scores > 0)
    sums = task.update(found, batch)
    return task.compute({**jax.device_get(sums), **task.summarize(jax.device_get(task.gather(found, batch)))[1]})


def test_detections_are_scored_in_the_original_frame():
    batch = _batch()
    scores, classes = np.asarray([[0.9, 0.8], [0.7, 0], [0.9, 0.9]]), np.asarray([[0, 1], [0, 0], [0, 0]])
    _, rows = TASK.summarize(
        jax.device_get(TASK.gather(Detections(batch["boxes"][:, :2], scores, classes, scores > 0), batch))
    )
    np.testing.assert_array_equal(rows["detection_boxes"], [(4, 6, 24, 36), (30, 8, 60, 40), (5, 5, 25, 15)])
    np.testing.assert_array_equal(rows["truth_boxes"], rows["detection_boxes"])
    np.testing.assert_array_equal(rows["image"], [5, 6])
    report = _report(TASK, batch["boxes"][:, :2], scores, classes)
    # Of three objects one is difficult and one a crowd: one is to be found.
    assert report["objects"] == {"disc": 1, "square": 0}
    assert (report["map"], report["map_voc07"], report["map_small"]) == pytest.approx((1, 1, 1))
    assert (report["examples"], report["skipped"], report["dropped_boxes"]) == (2, 1, 3)


def test_boxes_beside_the_objects_score_nothing():
    report = _report(TASK, np.full((3, 2, 4), 1.0), np.ones((3, 2)), np.zeros((3, 2), np.int32))
    assert report["map"] == 0
    assert report["errors"]["disc"]["background"] == 1


def test_cocos_scores_are_reported_where_wanted():
    scores, classes = np.ones((3, 3)), np.asarray([[0, 1, 0]] * 3)
    report = _report(detection(TASK.class_names, coco=True), _batch()["boxes"], scores, classes)
    assert report["coco_ap"] == pytest.approx(1)
    assert "coco_ap" not in _report(TASK, _batch()["boxes"], scores, classes)
