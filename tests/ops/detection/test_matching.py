"""Matching: hand-made cases, the definition one box at a time, and what degenerate or missing objects do."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.ops.detection.matching import match

_MATCH = jax.jit(
    match, static_argnames=("fg_iou", "bg_iou", "bg_iou_low", "allow_low_quality_matches", "ignored_share")
)


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = sum(max(c[2] - c[0], 0) * max(c[3] - c[1], 0) for c in (a, b)) - shared
    return shared / union if union > 0 else 0.0


def by_definition(boxes, truth, valid, high, low, allow_low_quality_matches):
    """torchvision's rule, with integers for the boxes so that ties are ties."""
    table = np.array([[overlap(b, t) if v else -1.0 for t, v in zip(truth, valid)] for b in boxes])
    best = np.array([max(table[:, m]) if valid[m] else 9.0 for m in range(len(truth))])
    positive, negative, index = [], [], []
    for row in table:
        k = int(np.argmax(row))
        value = max(row[k], 0.0)
        forced = allow_low_quality_matches and any(row[m] == best[m] > 0 for m in range(len(truth)))
        positive.append(value >= high or forced)
        negative.append(value < low and not forced)
        index.append(k if value > 0 else 0)
    return np.array(index), np.array(positive), np.array(negative)


def random_boxes(rng, count, side=24):
    low = rng.integers(0, side, (count, 2))
    return np.concatenate([low, low + rng.integers(0, 14, (count, 2))], axis=1).astype(np.float32)


@pytest.mark.parametrize("allow_low_quality_matches", [False, True])
def test_equals_the_definition(allow_low_quality_matches):
    rng = np.random.default_rng(allow_low_quality_matches)
    boxes = np.stack([random_boxes(rng, 40) for _ in range(60)])
    truth = np.stack([random_boxes(rng, 5) for _ in range(60)])
    valid = rng.random((60, 5)) < 0.6
    valid[0] = False
    rule = partial(match, fg_iou=0.5, bg_iou=0.3, allow_low_quality_matches=allow_low_quality_matches)
    got = jax.jit(jax.vmap(rule))(boxes, truth, valid)
    for i in range(60):
        index, positive, negative = by_definition(boxes[i], truth[i], valid[i], 0.5, 0.3, allow_low_quality_matches)
        np.testing.assert_array_equal(got.index[i], index)
        np.testing.assert_array_equal(got.positive[i], positive)
        np.testing.assert_array_equal(got.negative[i], negative)
    assert got.positive.any()
    assert (~got.positive & ~got.negative).any()


def test_thresholds_belong_to_the_upper_side():
    truth = jnp.asarray([[0.0, 0, 10, 10]])
    boxes = jnp.asarray([[0.0, 0, 10, 5], [0, 0, 10, 2.5], [0, 0, 10, 4.99], [0, 0, 10, 1], [20, 20, 30, 30]])
    got = _MATCH(boxes, truth, jnp.ones(1, bool), fg_iou=0.5, bg_iou=0.25, bg_iou_low=0.1)
    np.testing.assert_array_equal(got.positive, [True, False, False, False, False])
    np.testing.assert_array_equal(got.negative, [False, False, False, True, False])  # 0.1 is not below the floor
    np.testing.assert_allclose(got.overlap, [0.5, 0.25, 0.499, 0.1, 0], rtol=1e-6)


def test_equal_overlaps():
    """Two equal objects: the first. Two equally good anchors for a small object: both are its best."""
    boxes = jnp.asarray([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16]])
    truth = jnp.asarray([[6.0, 2, 10, 6], [6, 2, 10, 6]])
    got = _MATCH(boxes, truth, jnp.ones(2, bool), fg_iou=0.7, bg_iou=0.3, allow_low_quality_matches=True)
    np.testing.assert_array_equal(got.index, [0, 0, 0])
    np.testing.assert_array_equal(got.positive, [True, True, False])
    np.testing.assert_array_equal(got.negative, [False, False, True])
    alone = _MATCH(boxes, truth, jnp.ones(2, bool), fg_iou=0.7, bg_iou=0.3)
    assert not alone.positive.any()
    assert alone.negative.all()


def test_a_best_anchor_keeps_the_object_that_it_overlaps_most():
    boxes = jnp.asarray([[0.0, 0, 10, 10], [40, 40, 50, 50]])
    truth = jnp.asarray([[0.0, 0, 10, 6], [8, 8, 14, 14]])  # the second's only, poor, overlap is with the first box
    got = _MATCH(boxes, truth, jnp.ones(2, bool), fg_iou=0.7, bg_iou=0.3, allow_low_quality_matches=True)
    assert got.positive.tolist() == [True, False]
    assert got.index[0] == 0


def test_ignored_objects_are_neither():
    boxes = jnp.asarray([[0.0, 0, 4, 4], [0, 0, 20, 20], [18, 0, 22, 4], [30, 0, 34, 4], [30, 0, 38, 8]])
    truth = jnp.asarray([[0.0, 0, 20, 20], [30, 0, 34, 4]])
    valid, ignored = jnp.ones(2, bool), jnp.asarray([True, False])
    got = _MATCH(boxes, truth, valid, fg_iou=0.5, bg_iou=0.3, ignored=ignored, allow_low_quality_matches=True)
    # Within the crowd; the crowd itself; half of it within; the object; background.
    np.testing.assert_array_equal(got.positive, [False, False, False, True, False])
    np.testing.assert_array_equal(got.negative, [False, False, False, False, True])
    smaller = _MATCH(boxes, truth, valid, fg_iou=0.5, bg_iou=0.3, ignored=ignored, ignored_share=0.6)
    assert smaller.negative[2]
    padded = _MATCH(boxes, truth, jnp.asarray([False, True]), fg_iou=0.5, bg_iou=0.3, ignored=ignored)
    np.testing.assert_array_equal(padded.negative, [True, True, True, False, True])
    # What is ignored takes no positive away.
    both = jnp.asarray([[30.0, 0, 34, 4], [30, 0, 34, 4]])
    assert _MATCH(boxes, both, valid, fg_iou=0.5, bg_iou=0.3, ignored=ignored).positive[3]


def test_boxes_that_are_not_valid_are_neither_and_nobodys_best():
    boxes = jnp.asarray([[0.0, 0, 10, 10], [0, 0, 10, 4], [30, 30, 40, 40]])
    truth = jnp.asarray([[0.0, 0, 10, 10]])
    usable = jnp.asarray([False, True, False])
    got = _MATCH(
        boxes, truth, jnp.ones(1, bool), fg_iou=0.9, bg_iou=0.3, allow_low_quality_matches=True, box_valid=usable
    )
    np.testing.assert_array_equal(got.positive, [False, True, False])
    assert not got.negative.any()


@pytest.mark.parametrize("rows", [0, 3])
def test_images_without_objects_have_negatives_alone(rows):
    boxes = jnp.asarray([[0.0, 0, 10, 10], [0, 0, 0, 0]])
    truth, valid = jnp.zeros((rows, 4)), jnp.zeros(rows, bool)
    got = _MATCH(boxes, truth, valid, fg_iou=0.5, bg_iou=0.5, allow_low_quality_matches=True)
    assert got.negative.all()
    assert not got.positive.any()
    np.testing.assert_array_equal(got.index, [0, 0])
    assert not _MATCH(boxes, truth, valid, fg_iou=0.5, bg_iou=0.5, bg_iou_low=0.1).negative.any()


def test_degenerate_boxes_match_nothing_and_stay_finite():
    odd = jnp.asarray(
        [[5.0, 5, 5, 5], [9, 9, 5, 5], [0, 0, 1e-20, 1e3], [0, 0, jnp.nan, 4], [-jnp.inf, 0, jnp.inf, 4], [0, 0, 8, 8]]
    )
    got = _MATCH(
        odd, odd, jnp.ones(6, bool), fg_iou=0.5, bg_iou=0.3, allow_low_quality_matches=True, ignored=jnp.zeros(6, bool)
    )
    assert np.isfinite(got.overlap).all()
    np.testing.assert_array_equal(got.positive, [False] * 5 + [True])
    np.testing.assert_array_equal(got.index[jnp.asarray([0, 1, 3, 4, 5])], [0, 0, 0, 0, 5])


def test_no_gradient_and_thresholds_in_order():
    boxes = jnp.asarray([[0.0, 0, 10, 10]])
    gradient = jax.grad(lambda b: match(b, boxes + 1, jnp.ones(1, bool), fg_iou=0.5, bg_iou=0.3).overlap.sum())(boxes)
    np.testing.assert_array_equal(gradient, 0)
    with pytest.raises(ValueError, match="bg_iou <= fg_iou"):
        match(boxes, boxes, jnp.ones(1, bool), fg_iou=0.3, bg_iou=0.5)
