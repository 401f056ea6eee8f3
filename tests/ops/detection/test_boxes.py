"""Boxes: formats, overlaps and coding against hand-made cases; degenerate boxes never give NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from cvjax.ops.detection import boxes

# Compiled once: one operation after another, each would compile by itself.
_IOU, _GIOU = jax.jit(boxes.iou), jax.jit(boxes.giou)
_ENCODE, _DECODE = jax.jit(boxes.encode), jax.jit(boxes.decode)
_COORDINATES = st.floats(-200, 200, width=32)
_ANY_BOXES = arrays(np.float32, (6, 4), elements=_COORDINATES)


def _filled(raw):
    """Boxes with sides of at least a pixel, from any numbers."""
    low = np.minimum(raw[:, :2], raw[:, 2:])
    return np.concatenate([low, low + 1 + np.abs(raw[:, 2:] - raw[:, :2])], axis=1)


def test_formats_of_one_box():
    box = jnp.asarray([10.0, 20.0, 16.0, 40.0])
    written = {"xyxy": [10, 20, 16, 40], "yxyx": [20, 10, 40, 16], "xywh": [10, 20, 6, 20], "cxcywh": [13, 30, 6, 20]}
    assert set(written) == set(boxes.FORMATS)
    for source, value in written.items():
        np.testing.assert_array_equal(boxes.convert(jnp.asarray(value), source), box)
        for target, expected in written.items():
            np.testing.assert_array_equal(boxes.convert(jnp.asarray(value), source, target), expected)
    with pytest.raises(ValueError, match="xyyx"):
        boxes.convert(box, "xyyx")


def test_area_and_clip():
    given_boxes = jnp.asarray([[0.0, 0, 3, 2], [3, 0, 0, 2], [-5, -5, 90, 4], [70, 10, 80, 20]])
    np.testing.assert_array_equal(boxes.area(given_boxes), [6, 0, 95 * 9, 100])
    clipped = boxes.clip(given_boxes, (15, 60))
    np.testing.assert_array_equal(clipped, [[0, 0, 3, 2], [3, 0, 0, 2], [0, 0, 60, 4], [60, 10, 60, 15]])
    np.testing.assert_array_equal(boxes.clip(given_boxes, (jnp.full(4, 15), 60)), clipped)


def test_overlaps_of_hand_made_boxes():
    a = jnp.asarray([0.0, 0, 2, 2])
    others = jnp.asarray([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [3, 3, 4, 4], [0, 0, 1, 1]])
    np.testing.assert_allclose(_IOU(a, others), [1, 1 / 3, 0, 0, 1 / 4], rtol=1e-6)
    np.testing.assert_array_equal(boxes.intersection(a, others), [4, 2, 0, 0, 1])
    # Touching boxes fill their hull; the far one leaves 16 - 5 of it empty.
    np.testing.assert_allclose(_GIOU(a, others), [1, 1 / 3, 0, -11 / 16, 1 / 4], rtol=1e-6, atol=1e-7)
    table = boxes.pairwise_iou(others, a[None])
    np.testing.assert_array_equal(table[:, 0], _IOU(a, others))


@settings(deadline=None, max_examples=25)
@given(_ANY_BOXES, _ANY_BOXES, st.integers(-64, 64), st.sampled_from([0.5, 2.0, 4.0]))
def test_overlaps_are_symmetric_bounded_and_do_not_depend_on_place_or_scale(a, b, shift, scale):
    a, b = _filled(a), _filled(b)
    for overlap, low in ((_IOU, 0.0), (_GIOU, -1.0)):
        value = np.asarray(overlap(a, b))
        np.testing.assert_allclose(value, overlap(b, a), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(overlap(a, a), 1.0, rtol=1e-6)
        assert (value >= low - 1e-6).all()
        assert (value <= 1 + 1e-6).all()
        np.testing.assert_allclose(overlap(a + shift, b + shift), value, atol=1e-3)
        np.testing.assert_allclose(overlap(a * scale, b * scale), value, atol=1e-6)
    assert (_GIOU(a, b) <= _IOU(a, b) + 1e-6).all()


@settings(deadline=None, max_examples=25)
@given(_ANY_BOXES, _ANY_BOXES)
def test_decode_undoes_encode(raw, start):
    target, anchors = _filled(raw), _filled(start)
    # Within the bound on growth.
    target[:, 2:] = np.minimum(target[:, 2:], target[:, :2] + 60 * (anchors[:, 2:] - anchors[:, :2]))
    for weights in ((1, 1, 1, 1), (10, 10, 5, 5)):
        deltas = _ENCODE(target, anchors, weights)
        np.testing.assert_allclose(_DECODE(deltas, anchors, weights), target, atol=2e-3)


def test_coding_of_hand_made_boxes():
    anchor = jnp.asarray([0.0, 0, 10, 20])
    box = jnp.asarray([5.0, 10, 25, 20])  # center (15, 15), 20 x 10, from center (5, 10)
    expected = np.asarray([1, 0.25, np.log(2), -np.log(2)])
    np.testing.assert_allclose(_ENCODE(box, anchor), expected, rtol=1e-6)
    np.testing.assert_allclose(_ENCODE(box, anchor, (10, 10, 5, 5)), expected * [10, 10, 5, 5], rtol=1e-6)
    np.testing.assert_allclose(_DECODE(jnp.asarray([1, 0.25, np.log(2), -np.log(2)]), anchor), box, rtol=1e-6)
    grown = _DECODE(jnp.asarray([0.0, 0, 50, 50]), anchor)
    np.testing.assert_allclose(grown[2:] - grown[:2], [10 * 62.5, 20 * 62.5], rtol=1e-5)
    by_class = _DECODE(jnp.zeros((3, 5, 4)), jnp.broadcast_to(anchor, (3, 1, 4)))
    np.testing.assert_array_equal(by_class, jnp.broadcast_to(anchor, (3, 5, 4)))


_DEGENERATE = jnp.asarray(
    [[0.0, 0, 0, 0], [5, 5, 5, 5], [5, 5, 5, 9], [9, 9, 5, 5], [0, 0, 1e-12, 1e-12], [0, 0, 1e-20, 1e3], [1, 2, 7, 9]]
)


@pytest.mark.parametrize("function", [boxes.iou, boxes.giou, boxes.encode])
def test_degenerate_boxes_have_finite_values_and_gradients(function):
    a, b = _DEGENERATE[:, None], _DEGENERATE[None]
    value, gradients = jax.jit(jax.value_and_grad(lambda a, b: function(a, b).sum(), argnums=(0, 1)))(a, b)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)
    of_empty = jax.jit(function)(_DEGENERATE[:6], _DEGENERATE[:6])  # each with itself
    np.testing.assert_allclose(of_empty, 0, atol=1e-6)


def test_decoding_wild_deltas_stays_finite():
    deltas = jnp.asarray([[0.0, 0, 1e4, 1e4], [1e4, -1e4, -1e4, -1e4], [0, 0, 0, 0]])

    def total(deltas, anchors):
        return boxes.decode(deltas[:, None], anchors[None]).sum()

    value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(deltas, _DEGENERATE)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("function", [boxes.iou, boxes.giou, boxes.encode])
def test_gradients_equal_finite_differences(function):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        corners = rng.uniform(0, 8, (2, 20, 2))
        a, b = jnp.asarray(np.concatenate([corners, corners + rng.uniform(4, 9, corners.shape)], axis=-1))
        check_grads(jax.jit(function), (a, b), order=1, atol=1e-5, rtol=1e-5)


def test_low_precision_and_whole_numbers_are_computed_in_float32():
    a, b = jnp.asarray([0, 0, 300, 300]), jnp.asarray([0, 0, 300, 299])
    np.testing.assert_allclose(boxes.iou(a, b), 299 / 300, rtol=1e-6)
    assert boxes.area(a.astype(jnp.bfloat16)).dtype == jnp.float32
