"""A head's rows follow the classes' names: with its rows in another order, a net gives its results in that order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved_run import drawn

from cvjax.models import create_model
from cvjax.models.detection.detector import Proposals
from cvjax.runtime.compiler import compiler_options
from cvjax.weights.class_rows import class_axes, rows_by_name

BEFORE, NAMES = ("a", "b", "c"), ("c", "a", "b")
KEPT = [BEFORE.index(name) for name in NAMES]
VGG = {"stage_sizes": (1, 1, 1, 1, 1), "widths": (2, 3, 4, 5, 6), "hidden": 7}
ALEX = {"channels": (4, 4, 4, 4, 4), "hidden": 8}
MAPS = {
    "resnet18": {"width": 4, "stage_sizes": (1, 1, 1, 1)},
    "vgg11": VGG,
    "nin": {},
    "fcn8s_vgg16": {"backbone": VGG, "upsampling": "transposed"},
    "hypercolumn_vgg16": {"backbone": VGG},
    "deeplabv2_vgg16": {"backbone": {"stage_sizes": (1,) * 5, "widths": (2, 3, 4, 5, 6)}, "hidden": 7},
    "deeplabv3plus_resnet18": {
        **{"backbone": {"width": 4, "stage_sizes": (1, 1, 1, 1)}, "aspp_features": 4, "low_level_features": 4},
        "upsampling": "transposed",
    },
}
YOLO = {
    **{"backbone": {"stages": (((3, 4, 2),), ((3, 8, 1),))}, "neck": ((3, 8, 1),), "grid": (16, 16), "hidden": 16},
    "max_detections": 9,
}
GRIDS = {"dense": YOLO, "convolutional": YOLO | {"fully_convolutional": True, "batch_norm": True}}
BOXES = {
    "fast_rcnn_alexnet": {"backbone": ALEX, "score_threshold": 0.0, "max_detections": 7},
    "sppnet_zf5": {"backbone": ALEX, "scales": (48, 96), "score_threshold": -jnp.inf, "max_detections": 7},
    "faster_rcnn_zf": {
        **{"backbone": ALEX, "rpn_channels": 8, "rpn_pre_nms_top_n": (40, 40), "rpn_post_nms_top_n": (20, 10)},
        **{"anchor_sizes": (16.0, 32.0), "rpn_border": None, "score_threshold": 0.0, "max_detections": 10},
    },
}


def _nets(name, options, *inputs, classes=3):
    """A net with drawn variables, and a function from names to the net of these classes with the rows by name."""
    model, larger = (create_model(name, num_classes=n, **options) for n in (classes, classes + 1))
    variables = drawn(lambda key: model.init(key, *inputs))
    shapes = jax.eval_shape(lambda key: larger.init(key, *inputs), jax.random.key(0))
    axes = class_axes(variables, shapes, classes)

    def by_name(names):
        found, said = rows_by_name(variables, axes, BEFORE, names)
        return create_model(name, num_classes=len(names), **options), found, said

    return model, variables, by_name


@functools.partial(jax.jit, static_argnames=("model", "method"), compiler_options=compiler_options("cpu", once=True))
def _apply(model, variables, *inputs, method=None):
    return model.apply(variables, *inputs, method=method)


@pytest.mark.parametrize("name", MAPS)
def test_logits_come_in_the_order_of_the_names(name):
    images = jax.random.normal(jax.random.key(0), (1, 80, 80, 3))
    model, variables, by_name = _nets(name, MAPS[name], images)
    logits = np.asarray(_apply(model, variables, images))
    assert np.ptp(logits, axis=-1).max() > 1e-3 * np.abs(logits).max()
    reordered, found, said = by_name(NAMES)
    np.testing.assert_allclose(np.asarray(_apply(reordered, found, images)), logits[..., KEPT], rtol=1e-4, atol=1e-5)
    assert said == "the head's rows are taken by the names of the classes, in the order c, a, b"
    if "upsampling" in MAPS[name]:
        return  # channels are mixed with those of the class that is left out
    smaller, found, said = by_name(("c", "a"))
    np.testing.assert_allclose(np.asarray(_apply(smaller, found, images)), logits[..., KEPT[:2]], rtol=1e-4, atol=1e-5)
    assert said.endswith("in the order c, a; b are left out")


@pytest.mark.parametrize("kind", GRIDS)
def test_cells_predict_the_classes_of_the_same_names(kind):
    images = jax.random.normal(jax.random.key(0), (1, 64, 64, 3))
    model, variables, by_name = _nets("yolov1", GRIDS[kind], images)
    found = jax.device_get(_apply(model, variables, images, method="predict"))
    assert np.ptp(found.classes, axis=-1).max() > 1e-3
    reordered, moved, _ = by_name(NAMES)
    again = jax.device_get(_apply(reordered, moved, images, method="predict"))
    np.testing.assert_allclose(again.classes, found.classes[..., KEPT], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again.boxes, found.boxes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again.confidence, found.confidence, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOXES)
def test_detections_are_of_the_classes_of_the_same_names(name):
    images, sizes = jax.random.normal(jax.random.key(0), (1, 64, 64, 3)), jnp.array([[64, 64]])
    corners = jnp.array([[[4, 6, 30, 28], [30, 30, 60, 62], [0, 40, 20, 60], [10, 10, 50, 50]]], jnp.float32)
    inputs = (images, sizes, Proposals(corners, jnp.ones((1, 4), bool)))
    model, variables, by_name = _nets(name, BOXES[name], *inputs)
    found = jax.device_get(_apply(model, variables, *inputs))
    reordered, moved, _ = by_name(NAMES)
    again = jax.device_get(_apply(reordered, moved, *inputs))
    assert len(set(found.classes[found.valid].tolist())) > 1
    np.testing.assert_array_equal(again.valid, found.valid)
    shown = found.valid
    assert [NAMES[label] for label in again.classes[shown]] == [BEFORE[label] for label in found.classes[shown]]
    np.testing.assert_allclose(again.scores[shown], found.scores[shown], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again.boxes[shown], found.boxes[shown], rtol=1e-4, atol=1e-3)


def test_an_unknown_class_makes_the_head_start_anew():
    images = jax.random.normal(jax.random.key(0), (1, 64, 64, 3))
    _, variables, by_name = _nets("resnet18", MAPS["resnet18"], images)
    _, found, said = by_name(("a", "b", "d"))
    assert said == "its classes lack d: the head starts anew"
    assert variables["params"].keys() - found["params"].keys() == {"head"}


def test_the_same_names_change_nothing():
    variables = {"params": {"head": {"bias": np.arange(3)}}}
    assert rows_by_name(variables, {}, BEFORE, BEFORE) == (variables, "")
