"""The proposal network's proposals and losses on anchors that can be counted by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.models.detection.detector import Truth
from cvjax.models.detection.rpn import Level, Selection, propose, rpn_losses
from cvjax.models.detection.sampled_losses import mean_over, smooth_l1
from cvjax.runtime.compiler import compiler_options

compiled = functools.partial(jax.jit, compiler_options=compiler_options("cpu", once=True))
ANCHORS = np.array([[0, 0, 20, 20], [2, 0, 22, 20], [50, 50, 90, 90], [-10, 60, 10, 80]], np.float32)
SIZES = jnp.array([[100, 100]])


def _level(scores, deltas=None, anchors=ANCHORS):
    scores = jnp.asarray([scores], jnp.float32)
    return Level(scores, jnp.zeros((*scores.shape, 4)) if deltas is None else jnp.asarray([deltas]), anchors)


def _truth(boxes, labels=None, ignore=None, valid=None):
    count = len(boxes)
    boxes = jnp.asarray(boxes, jnp.float32).reshape(1, count, 4)
    labels = jnp.zeros(count, int) if labels is None else jnp.asarray(labels)
    flags = (np.zeros(count, bool) if ignore is None else ignore, np.ones(count, bool) if valid is None else valid)
    return Truth(boxes, labels[None].astype(jnp.int32), *(jnp.asarray(flag, bool)[None] for flag in flags))


def _proposed(levels, sizes, selection):
    return compiled(lambda levels, sizes: propose(levels, sizes, selection))(levels, sizes)


def _losses(scores, truth, deltas=None, **options):
    options = {"samples": 64, "beta": 1 / 9, "border": None} | options
    level, keys = _level(scores, deltas), jax.random.split(jax.random.key(0), 1)
    losses = compiled(functools.partial(rpn_losses, **options))([level], SIZES, truth, keys)
    return float(losses["rpn_object"][0]), float(losses["rpn_box"][0])


def test_proposals_are_clipped_suppressed_and_sorted():
    levels = [_level([1.0, 2.0, 0.5, 3.0]), _level([0.0], anchors=ANCHORS[1:2])]
    found = _proposed(levels, SIZES, Selection(pre_nms_top_n=4, post_nms_top_n=6, nms_threshold=0.7, min_size=5.0))
    # The anchor at the border first, clipped; of the two that overlap the better; and that again, from its own map.
    expected = [[0, 60, 10, 80], ANCHORS[1], ANCHORS[2], ANCHORS[1]]
    np.testing.assert_allclose(found.boxes[0, :4], expected)
    assert found.valid[0].tolist() == [True] * 4 + [False] * 2
    assert not found.boxes[0, 4:].any()


def test_proposals_leave_out_what_is_small_or_beyond_the_best():
    found = _proposed([_level([1.0, 2.0, 0.5, 3.0])], SIZES, Selection(2, 3, nms_threshold=0.7, min_size=12.0))
    np.testing.assert_allclose(found.boxes[0, 0], ANCHORS[1])  # the best is ten pixels wide
    assert found.valid[0].tolist() == [True, False, False]


def test_proposals_lie_in_the_real_part_of_the_image():
    found = _proposed([_level([1.0, 2.0, 0.5, 3.0])], jnp.array([[70, 60]]), Selection(4, 4, 0.7, 1.0))
    assert found.boxes[0, :, 2].max() == 60
    assert found.boxes[0, :, 3].max() == 70
    nowhere = _proposed([_level([1.0, 2.0, 0.5, 3.0])], jnp.array([[0, 0]]), Selection(4, 4, 0.7, 1.0))
    assert not nowhere.valid.any()


def test_losses_are_the_papers_formula():
    scores, deltas = np.array([0.3, -0.2, 1.5, -1.0]), np.full((4, 4), 0.25, np.float32)
    # The first anchor is the object; the second overlaps it by 9 / 11, the others not at all.
    object_loss, box_loss = _losses(scores, _truth([[0, 0, 20, 20]]), deltas)
    signs = np.array([-1, -1, 1, 1])
    assert object_loss == pytest.approx(np.log1p(np.exp(signs * scores)).mean(), rel=1e-5)
    shift = np.array([[0, 0, 0, 0], [-0.1, 0, 0, 0]])
    off = np.abs(0.25 - shift)
    assert box_loss == pytest.approx((off - 1 / 18).sum() / 4, rel=1e-5)


def test_images_without_objects_are_all_background():
    scores = np.array([0.3, -0.2, 1.5, -1.0])
    expected = np.log1p(np.exp(scores)).mean()
    for truth in (_truth([]), _truth([[0, 0, 20, 20]], valid=[False]), _truth([[5, 5, 5, 30]])):
        assert _losses(scores, truth) == pytest.approx((expected, 0), rel=1e-5)


def test_ignored_objects_and_anchors_across_the_border_do_not_train():
    scores = np.array([0.3, -0.2, 1.5, -1.0])
    ignored = _losses(scores, _truth([[0, 0, 20, 20]], ignore=[True]))
    assert ignored == pytest.approx((np.log1p(np.exp(scores[2:])).mean(), 0), rel=1e-5)
    inside = _losses(scores, _truth([]), border=0.0)
    assert inside[0] == pytest.approx(np.log1p(np.exp(scores[:3])).mean(), rel=1e-5)


def test_smooth_l1_is_a_parabola_and_a_line():
    values = smooth_l1(jnp.array([0.0, 0.1, -0.5, 2.0]), 0.5)
    np.testing.assert_allclose(values, [0, 0.01, 0.25, 1.75], rtol=1e-6)
    slopes = jax.vmap(jax.grad(lambda x: smooth_l1(x, 0.5)))(jnp.array([0.0, 0.25, -3.0]))
    np.testing.assert_allclose(slopes, [0, 0.5, -1])


def test_means_without_anything_are_zero():
    nothing = jnp.zeros(3, bool)
    assert mean_over(jnp.array([1.0, jnp.nan, 2.0]), nothing, nothing) == 0
