"""Boxes of tiles, scales and mirror images, joined; found by connected components in the place of a net."""

import cv2
import jax
import numpy as np
import pytest
from made import detection
from toy_detector import ToyDetector

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.detection.detector import Detections
from cvjax.tasks.detection.box_finder import BoxPredictor
from cvjax.tasks.detection.joined_boxes import join_boxes
from cvjax.tasks.prediction.pieces import Views, predict_one
from cvjax.visual.boxes import Boxes

SIDE = 64
SMALL = [
    (5, 6, 15, 20),
    (58, 40, 70, 52),
    (120, 60, 131, 70),
    (60, 90, 75, 105),
    (150, 120, 165, 134),
]


def drawn(boxes: list[tuple[int, ...]], height: int = 150, width: int = 200) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return image


def components(self, rows):
    """The bright rectangles of each image as boxes of class 0, 1 if they are wider than high."""
    found = []
    for image in np.asarray(rows["image"]):
        count, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 127).astype(np.uint8), connectivity=4)
        left, top, width, height = stats[1:, :4].T.astype(np.float32)
        boxes, classes = np.zeros((40, 4), np.float32), np.zeros(40, np.int32)
        boxes[: count - 1] = np.stack([left, top, left + width, top + height], axis=1)
        valid = np.arange(40) < count - 1
        found.append((boxes, np.where(valid, 0.9, 0).astype(np.float32), classes, valid))
    return Detections(*(np.stack(values) for values in zip(*found)))


@pytest.fixture
def finder(monkeypatch):
    monkeypatch.setattr(BoxPredictor, "start", components)

    def make(short_side: int | None = None, **views) -> BoxPredictor:
        task = detection(("thing", "wide"), crop=(SIDE, SIDE), short_side=short_side)
        return BoxPredictor(task, ToyDetector(2), {}, Views(**views))

    return make


def sorted_boxes(found: Boxes) -> np.ndarray:
    return np.asarray(sorted(found.boxes.round(3).tolist()))


def test_tiles_equal_the_whole_where_objects_fit_into_what_they_share(finder):
    tiled = finder(tile=SIDE, overlap=24, whole=False)
    found = predict_one(tiled, drawn(SMALL))
    assert len(tiled.pieces((150, 200))) > 6
    np.testing.assert_array_equal(sorted_boxes(found), sorted(SMALL))
    assert found.scores is not None
    assert (np.diff(found.scores) <= 0).all()
    # Without the rule for cut boxes, parts of objects would be left: their IoU with the whole ones is low.
    parts = [tiled.part(_row(tiled, piece), _prepared(tiled, piece), piece) for piece in tiled.pieces((150, 200))]
    loose = join_boxes(parts, [np.zeros(len(part.labels), bool) for part in parts], 0.5)
    assert len(loose.labels) > len(SMALL)


def _prepared(finder, piece):
    return finder.prepare(drawn(SMALL), piece)


def _row(finder, piece):
    rows = {name: value[None] for name, value in _prepared(finder, piece).items()}
    return Detections(*(values[0] for values in finder.start(rows)))


def test_objects_larger_than_a_tile_are_found_in_the_whole(finder):
    large = (20, 20, 180, 130)
    found = predict_one(finder(tile=SIDE, overlap=16), drawn([large]))
    np.testing.assert_allclose(found.boxes, [large], atol=4)  # seen at a third of its size
    parts = predict_one(finder(tile=SIDE, overlap=16, whole=False), drawn([large]))
    assert len(parts.labels) > 1  # parts are better than nothing
    assert parts.boxes.min() == 20


def test_mirror_images_and_scales_find_the_same_boxes(finder):
    plain = predict_one(finder(), drawn(SMALL[:1], 64, 64))
    np.testing.assert_array_equal(plain.boxes, SMALL[:1])
    for views in ({"flip": True}, {"scales": (1.0, 2.0)}, {"flip": True, "tile": 48, "overlap": 24}):
        joined = predict_one(finder(short_side=64, **views), drawn(SMALL[:1], 64, 64))
        np.testing.assert_allclose(sorted_boxes(joined), sorted_boxes(plain), atol=1)
    (_, flipped) = finder(flip=True).pieces((64, 64))
    moved = finder(flip=True).part(
        Detections(np.array([[1.0, 2, 5, 9]]), np.ones(1), np.zeros(1, int), np.ones(1, bool)),
        {"scale": np.ones(2), "original_size": np.array([64, 64])},
        flipped,
    )
    np.testing.assert_array_equal(moved.boxes, [[59, 2, 63, 9]])


def test_boxes_are_joined_by_class():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 4]], np.float32)
    first = Boxes(boxes, np.array([0, 0, 1]), np.array([0.5, 0.8, 0.7]))
    second = Boxes(boxes[:1], np.array([1]), np.array([0.6]))
    uncut = [np.zeros(3, bool), np.zeros(1, bool)]
    joined = join_boxes([first, second], uncut, 0.5)
    np.testing.assert_allclose(joined.scores, [0.8, 0.7, 0.6])
    # The third is inside of the last of its class, which no border cut.
    joined = join_boxes([first, second], [np.array([False, False, True]), uncut[1]], 0.5)
    np.testing.assert_array_equal(joined.labels, [0, 1])
    np.testing.assert_array_equal(joined.boxes, boxes[[1, 0]])
    nothing = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0))
    assert len(join_boxes([nothing, nothing], [np.zeros(0, bool)] * 2, 0.5).labels) == 0


def test_a_detector_of_one_size_takes_no_scales():
    model = create_model("yolov1_tiny", num_classes=2, hidden=4, grid=(1, 1), width=0.02)
    task = detection(("a", "b"), crop=(64, 64), keep_aspect=False)
    variables = jax.eval_shape(lambda key: task.init(model, key), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    with pytest.raises(ConfigError, match=r"takes images of 64x64 pixels alone, and --scales has 2;"):
        BoxPredictor(task, model, variables, Views(scales=(1.0, 2.0)))
