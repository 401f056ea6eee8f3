"""R-CNN, SPPnet and Fast R-CNN: what they learn from, what they report, and bad boxes that must not hurt them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_variables import drawn_variables

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.detection.detector import Proposals, Truth, display_threshold
from cvjax.models.detection.regions import (
    Sample,
    box_loss,
    class_loss,
    on_image,
    sample_regions,
    select_detections,
)
from cvjax.ops.detection.boxes import encode, pairwise_iou
from cvjax.weights import to_torch
from cvjax.weights.backbone import backbone_name, load_backbone

NARROW = {"channels": (4, 4, 4, 4, 4), "hidden": 8}
MODELS = {
    "fast_rcnn_alexnet": {"backbone": NARROW, "rois_per_image": 8, "bg_iou_low": 0.0},
    "rcnn_alexnet": {"backbone": NARROW, "rois_per_image": 4, "window_size": 63, "windows_at_once": 4},
    "sppnet_zf5": {"backbone": NARROW, "rois_per_image": 8, "bg_iou_low": 0.0, "scales": (48, 96)},
}


def _bad_boxes(random, *shape):
    """Inside, outside, empty, inverted, huge."""
    boxes = random.uniform(-40, 140, (*shape, 4)).astype(np.float32)
    boxes[..., 2:] = np.where(random.random((*shape, 2)) < 0.7, boxes[..., :2] + abs(boxes[..., 2:]), boxes[..., 2:])
    boxes[random.random(shape) < 0.2] = 7.0
    return boxes


def _inputs(seed, images=2, proposals=9, objects=3):
    random = np.random.default_rng(seed)
    truth = Truth(
        jnp.asarray(_bad_boxes(random, images, objects)),
        jnp.asarray(random.integers(0, 3, (images, objects)), jnp.int32),
        jnp.asarray(random.random((images, objects)) < 0.3),
        jnp.asarray(random.random((images, objects)) < 0.7),
    )
    given = Proposals(
        jnp.asarray(_bad_boxes(random, images, proposals)), jnp.asarray(random.random((images, proposals)) < 0.8)
    )
    return (
        jnp.asarray(random.normal(size=(images, 72, 80, 3)), jnp.float32),
        jnp.asarray([[72, 80], [50, 61]][:images], jnp.int32),
        given,
        truth,
    )


def _variables(model, *inputs):
    """Boxes that are moved by little, so that none leaves its image."""
    params = drawn_variables(model, *inputs)["params"]
    return {"params": {**params, "regressor": jax.tree.map(lambda x: 0.05 * x, params["regressor"])}}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_bad_boxes_and_empty_images_train_and_are_reported_in_order(name):
    model = create_model(name, num_classes=3, score_threshold=-jnp.inf, max_detections=7, **MODELS[name])
    images, sizes, proposals, truth = _inputs(0)
    variables = _variables(model, images, sizes, proposals)

    @jax.jit
    def step(variables, key, images, sizes, proposals, truth):
        def total(variables):
            rngs = {"dropout": key, "sample": key}
            losses = model.apply(variables, images, sizes, proposals, truth, train=True, rngs=rngs)
            return sum(value.sum() for value in losses.values()), losses

        return jax.value_and_grad(total, has_aux=True)(variables)

    detect = jax.jit(model.apply)
    learnt = 0
    for seed in range(6):
        images, sizes, proposals, truth = _inputs(seed)
        if seed == 4:  # no objects
            truth = truth._replace(valid=jnp.zeros_like(truth.valid))
        if seed == 5:  # nothing at all
            truth = truth._replace(valid=jnp.zeros_like(truth.valid))
            proposals = proposals._replace(valid=jnp.zeros_like(proposals.valid))
        stepped = step(variables, jax.random.key(seed), images, sizes, proposals, truth)
        (total, losses), gradient = jax.device_get(stepped)
        assert all(np.isfinite(value).all() and (value >= 0).all() for value in losses.values())
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        learnt += bool(gradient["params"]["classifier"]["kernel"].any())
        assert (total == 0) == (seed == 5)
        found = jax.device_get(detect(variables, images, sizes, proposals))
        assert found.boxes.shape == (2, 7, 4)
        assert bool(found.valid.any()) == (seed != 5)
        assert (found.valid[:, :-1] >= found.valid[:, 1:]).all()
        for row, (height, width) in enumerate(np.asarray(sizes)):
            kept = found.valid[row]
            boxes = found.boxes[row][kept]
            assert (np.diff(found.scores[row][kept]) <= 0).all()
            assert (boxes >= 0).all()
            assert (boxes <= [width, height, width, height]).all()
            assert (found.scores[row][~kept] == 0).all()
    assert learnt >= 4


@pytest.mark.parametrize("name", MODELS)
def test_what_is_no_proposal_changes_nothing(name):
    model = create_model(name, num_classes=3, score_threshold=-jnp.inf, max_detections=5, **MODELS[name])
    images, sizes, proposals, _ = _inputs(1)
    variables = _variables(model, images, sizes, proposals)
    detect = jax.jit(model.apply)
    first = detect(variables, images, sizes, proposals)
    assert first.valid.any()
    other = jnp.where(proposals.valid[..., None], proposals.boxes, jnp.asarray([[[3.0, 4, 60, 44]]]))
    for a, b in zip(first, detect(variables, images, sizes, Proposals(other, proposals.valid))):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_proposals_are_asked_for(name):
    images, sizes, *_ = _inputs(0)
    with pytest.raises(ConfigError, match="give proposals"):
        jax.eval_shape(create_model(name, num_classes=3, **MODELS[name]).init, jax.random.key(0), images, sizes)
    with pytest.raises(ConfigError, match="cannot classify regions"):
        create_model(name, num_classes=3, backbone="resnet18")


def test_samples_are_what_they_are_taken_for():
    """Many draws: shares, thresholds, labels; objects among the regions, ignored ones nowhere."""
    random = np.random.default_rng(0)
    objects = np.asarray([[10, 10, 50, 40], [60, 20, 90, 80], [0, 60, 30, 90]], np.float32)
    boxes = np.concatenate([objects[[0] * 20 + [1] * 20 + [2] * 20] + random.normal(0, 8, (60, 4)), objects])
    truth = Truth(objects[None], jnp.asarray([[2, 0, 1]]), jnp.asarray([[False, False, True]]), jnp.ones((1, 3), bool))
    proposals = on_image(
        Proposals(jnp.asarray(boxes, jnp.float32)[None], jnp.ones((1, 63), bool)), jnp.full((1, 2), 100), "x"
    )
    draw = jax.jit(partial(sample_regions, size=16, bg_iou_low=0.1))
    for seed in range(5):
        sample = draw(jax.random.split(jax.random.key(seed), 1), proposals, truth)
        regions, classes, valid = (np.asarray(x[0]) for x in (sample.boxes, sample.classes, sample.valid))
        assert 0 < (classes > 0).sum() <= 4
        overlaps = np.asarray(pairwise_iou(regions, objects))
        assert (overlaps[valid & (classes == 3), 0] >= 0.5).all()
        assert (overlaps[valid & (classes == 1), 1] >= 0.5).all()
        assert not (classes == 2).any()
        background = overlaps[valid & (classes == 0)]
        assert (background[:, :2].max(1) < 0.5).all()
        assert (background[:, :2].max(1) >= 0.1).all()
        assert (background[:, 2] < 0.5).all()
        np.testing.assert_array_equal(sample.objects[0][classes == 3], objects[[0] * (classes == 3).sum()])


def test_losses_by_hand():
    sample = Sample(
        jnp.asarray([[[0.0, 0, 10, 10], [5, 5, 25, 15], [0, 0, 4, 4]]]),
        jnp.asarray([[2, 0, 1]]),
        jnp.asarray([[[1.0, 0, 11, 10], [0, 0, 1, 1], [0, 0, 9, 9]]]),
        jnp.asarray([[True, True, False]]),
    )
    logits = jnp.asarray([[[0.0, 1, 2], [1, 0, 0], [9, 9, 9]]])
    expected = [np.log(1 + np.e + np.e**2) - 2, np.log(np.e + 2) - 1]
    np.testing.assert_allclose(class_loss(logits, sample), [np.mean(expected)], rtol=1e-6)
    deltas = jnp.zeros((1, 3, 2, 4)).at[0, 0, 1].set(jnp.asarray([1.0, 0.5, 3, 0])).at[0, 1].set(7.0)
    # The object lies a tenth to the right, so the target is (1, 0, 0, 0) with weights of 10.
    expected = (0.5 * 0.5**2 + 2.5) / 2
    np.testing.assert_allclose(box_loss(deltas, sample, (10, 10, 5, 5)), [expected], rtol=1e-5)
    np.testing.assert_allclose(
        encode(sample.objects[0, 0], sample.boxes[0, 0], (10, 10, 5, 5)), [1, 0, 0, 0], atol=1e-6
    )


def test_detections_are_the_best_of_each_class_after_suppression():
    boxes = jnp.asarray([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 80, 80], [5, 5, 5, 9]])
    scores = jnp.asarray([[0.9, 0.2], [0.8, 0.7], [0.3, 0.01], [0.99, 0.99]])
    every = jnp.broadcast_to(boxes[:, None], (4, 2, 4))[None]
    options = {"nms_threshold": 0.3, "score_threshold": 0.05, "max_detections": 5}
    found = select_detections(every, scores[None], jnp.ones((1, 4), bool), jnp.asarray([[60, 70]]), **options)
    np.testing.assert_allclose(found.scores, [[0.9, 0.7, 0.3, 0, 0]])
    np.testing.assert_array_equal(found.classes, [[0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(found.valid, [[True, True, True, False, False]])
    np.testing.assert_allclose(found.boxes[0, :3], [[0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 70, 60]])


@pytest.mark.parametrize("name", ["fast_rcnn_alexnet", "rcnn_alexnet"])
def test_imagenets_weights_start_convolutions_and_dense_layers(name):
    classifier = create_model("alexnet", num_classes=5, **NARROW)
    given = drawn_variables(classifier, jnp.zeros((1, 64, 64, 3)))
    images, sizes, proposals, _ = _inputs(0)
    assert backbone_name(name) == "alexnet"
    fresh = drawn_variables(create_model(name, num_classes=3, **MODELS[name]), images, sizes, proposals)
    blank = jax.tree.map(jnp.zeros_like, fresh)
    filled = load_backbone(blank, to_torch("alexnet", given), "alexnet")["params"]
    for layer in ("conv_0", "conv_4"):
        np.testing.assert_array_equal(filled["backbone"][layer]["kernel"], given["params"][layer]["kernel"])
    for layer in ("fc6", "fc7"):
        np.testing.assert_array_equal(
            filled["backbone"]["head"][layer]["kernel"], given["params"]["head"][layer]["kernel"]
        )
    assert not filled["classifier"]["kernel"].any()


def test_what_is_worth_a_look_depends_on_what_scores_are():
    """A machine's margin may be any number; YOLO's product of two regressed numbers is seldom a half."""
    names = "fast_rcnn_vgg16", "rcnn_vgg16", "yolov1"
    least = {name: display_threshold(create_model(name, num_classes=3)) for name in names}
    assert least == {"fast_rcnn_vgg16": 0.5, "rcnn_vgg16": 0.0, "yolov1": 0.2}
    assert display_threshold(create_model("rcnn_vgg16", num_classes=3, scorer="softmax")) == 0.5
