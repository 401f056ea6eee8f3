"""What region-based detectors share, against rules written out: which regions train, and what is detected."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.models.detection.detector import Proposals, Truth
from cvjax.models.detection.regions import Sample, box_loss, class_loss, sample_regions, select_detections
from cvjax.runtime.compiler import compiler_options

compiled = functools.partial(jax.jit, compiler_options=compiler_options("cpu", once=True))
PROPOSALS = Proposals(
    jnp.array([[[0, 0, 20, 20], [4, 0, 24, 20], [60, 60, 80, 80], [2, 40, 30, 70], [0, 0, 0, 0]]], jnp.float32),
    jnp.array([[True, True, True, True, False]]),
)
TRUTH = Truth(
    boxes=jnp.array([[[0, 0, 20, 20], [60, 60, 80, 80], [9, 9, 9, 30], [0, 0, 0, 0]]], jnp.float32),
    labels=jnp.array([[2, 0, 1, 0]]),
    ignore=jnp.array([[False, True, False, False]]),
    valid=jnp.array([[True, True, True, False]]),
)


def _sample(truth=TRUTH, samples=8, share=0.5, **options):
    keys = jax.random.split(jax.random.key(1), 1)
    options = {"size": samples, "positive_fraction": share} | options
    drawn = compiled(functools.partial(sample_regions, **options))(keys, PROPOSALS, truth)
    return jax.tree.map(lambda array: np.asarray(array[0]), drawn)


def test_objects_train_beside_the_proposals():
    drawn = _sample()
    # Two proposals and the object itself are positive, the fourth proposal is background. The ignored object, the one
    # without area, the proposal on the ignored one, and all padding are left out.
    assert drawn.valid.sum() == 4
    assert sorted(drawn.classes[drawn.valid].tolist()) == [0, 3, 3, 3]
    background = drawn.boxes[drawn.valid & (drawn.classes == 0)]
    np.testing.assert_array_equal(background, PROPOSALS.boxes[0, 3:4])
    shifted = np.flatnonzero((drawn.boxes[:, 0] == 4) & drawn.valid)
    np.testing.assert_array_equal(drawn.objects[shifted[0]], TRUTH.boxes[0, 0])


def test_positives_are_a_part_at_most():
    drawn = _sample(samples=4, share=0.25)
    assert (drawn.classes > 0).sum() == 1
    assert drawn.valid.sum() == 2  # there is one of background alone


def test_the_least_iou_leaves_out_easy_background():
    assert _sample(bg_iou_low=0.1).valid.sum() == 3


def test_images_without_objects_are_background():
    for count in (0, 2):
        nothing = Truth(
            *(jnp.zeros((1, count, *tail), t) for tail, t in (((4,), float), ((), int), ((), bool), ((), bool)))
        )
        drawn = _sample(nothing)
        assert drawn.valid.sum() == 4
        assert not drawn.classes.any()


def test_losses_are_the_papers_formula():
    rng = np.random.default_rng(0)
    logits, deltas = rng.standard_normal((1, 4, 3)), rng.standard_normal((1, 4, 2, 4))
    corners = rng.uniform(0, 50, (2, 1, 4, 2))
    boxes, objects = np.concatenate([corners, corners + rng.uniform(5, 40, (2, 1, 4, 2))], -1)
    classes, drawn = np.array([[2, 0, 1, 2]]), np.array([[True, True, True, False]])
    sample = Sample(*(jnp.asarray(x) for x in (boxes, classes, objects, drawn)))
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    expected = -np.log([probabilities[i, classes[0, i]] for i in range(3)]).mean()
    assert float(class_loss(jnp.asarray(logits), sample)[0]) == pytest.approx(expected, rel=1e-5)

    def targets(i):
        sides = [b[0, i, 2:] - b[0, i, :2] for b in (boxes, objects)]
        centers = [b[0, i, :2] + side / 2 for b, side in zip((boxes, objects), sides)]
        moved = (centers[1] - centers[0]) / sides[0]
        return np.concatenate([10 * moved, 5 * np.log(sides[1] / sides[0])])

    off = np.abs([deltas[0, i, classes[0, i] - 1] - targets(i) for i in (0, 2)])
    for beta in (1.0, 1 / 9):
        expected = np.where(off < beta, off**2 / (2 * beta), off - beta / 2).sum() / 3
        found = box_loss(jnp.asarray(deltas), sample, (10.0, 10.0, 5.0, 5.0), beta)
        assert float(found[0]) == pytest.approx(expected, rel=1e-4)


def _iou(a, b):
    sides = [max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def test_detections_are_the_greedy_choice_of_each_class():
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 60, (1, 30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(15, 40, (1, 30, 2))], -1).astype(np.float32)
    logits = (2 * rng.standard_normal((1, 30, 4))).astype(np.float32)
    valid = np.arange(30)[None] < 25
    every = jnp.broadcast_to(boxes[:, :, None], (1, 30, 3, 4))
    probabilities, sizes = jax.nn.softmax(logits)[..., 1:], jnp.array([[70, 80]])
    options = {"score_threshold": 0.1, "nms_threshold": 0.4, "max_detections": 40}
    found = compiled(functools.partial(select_detections, **options))(every, probabilities, valid, sizes)

    scores = np.asarray(jax.nn.softmax(logits[0]))
    clipped = np.minimum(boxes[0], [80, 70, 80, 70])
    rows = []
    for label in range(3):
        kept = []
        for i in np.argsort(-scores[:25, label + 1]):
            if scores[i, label + 1] > 0.1 and all(_iou(clipped[i], clipped[j]) <= 0.4 for j in kept):
                kept.append(i)
        rows += [(scores[i, label + 1], label, i) for i in kept]
    rows.sort(reverse=True)
    assert 5 < len(rows) < 40
    assert found.valid[0].tolist() == [True] * len(rows) + [False] * (40 - len(rows))
    np.testing.assert_allclose(found.scores[0, : len(rows)], [row[0] for row in rows], rtol=1e-6)
    assert found.classes[0, : len(rows)].tolist() == [row[1] for row in rows]
    np.testing.assert_allclose(found.boxes[0, : len(rows)], clipped[[row[2] for row in rows]], atol=1e-4)
    assert not found.boxes[0, len(rows) :].any()
    assert not found.scores[0, len(rows) :].any()
    # Fewer rows are the best ones.
    options["max_detections"] = 3
    few = compiled(functools.partial(select_detections, **options))(every, probabilities, valid, sizes)
    np.testing.assert_array_equal(few.scores[0], found.scores[0, :3])


def test_thin_detections_are_dropped():
    boxes = jnp.array([[[0.0, 0, 30, 30], [40, 0, 60, 0.005], [5, 5, 5, 9]]])[:, :, None]
    found = select_detections(
        boxes,
        jnp.array([[[0.5], [0.9], [0.8]]]),
        jnp.ones((1, 3), bool),
        jnp.array([[70, 80]]),
        nms_threshold=0.5,
        score_threshold=0.05,
        max_detections=3,
        min_size=0.01,
    )
    np.testing.assert_array_equal(found.valid, [[True, False, False]])
    np.testing.assert_array_equal(found.boxes[0, 0], [0, 0, 30, 30])
