"""The second stage of two-stage detectors: which regions train, their losses, and what is detected."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.models.detection.detector import Proposals, Truth
from cvjax.models.detection.roi_heads import Coding, Regions, detect, region_losses, sample_regions
from cvjax.ops.compiling import compiler_options

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
    options = {"coding": Coding(), "samples": samples, "positive_share": share} | options
    drawn = compiled(functools.partial(sample_regions, **options))(PROPOSALS, truth, keys)
    return jax.tree.map(lambda array: np.asarray(array[0]), drawn)


def test_objects_train_beside_the_proposals():
    drawn = _sample()
    # Two proposals and the object itself are positive, the fourth proposal is background. The ignored object, the one
    # without area, the proposal on the ignored one, and all padding are left out.
    assert drawn.drawn.sum() == 4
    assert sorted(drawn.classes[drawn.drawn].tolist()) == [0, 3, 3, 3]
    background = drawn.boxes[drawn.drawn & (drawn.classes == 0)]
    np.testing.assert_array_equal(background, PROPOSALS.boxes[0, 3:4])
    shifted = np.flatnonzero((drawn.boxes[:, 0] == 4) & drawn.drawn)
    np.testing.assert_allclose(drawn.targets[shifted[0]], [-0.2 / 0.1, 0, 0, 0], atol=1e-6)


def test_positives_are_a_part_at_most():
    drawn = _sample(samples=4, share=0.25)
    assert (drawn.classes > 0).sum() == 1
    assert drawn.drawn.sum() == 2  # there is one of background alone


def test_a_floor_leaves_out_easy_background():
    assert _sample(floor=0.1).drawn.sum() == 3


def test_images_without_objects_are_background():
    for count in (0, 2):
        nothing = Truth(
            *(jnp.zeros((1, count, *tail), t) for tail, t in (((4,), float), ((), int), ((), bool), ((), bool)))
        )
        drawn = _sample(nothing)
        assert drawn.drawn.sum() == 4
        assert not drawn.classes.any()


def test_coding_is_undone_and_normalises():
    boxes, proposals = jnp.array([[3.0, 4, 30, 50]]), jnp.array([[0.0, 0, 20, 40]])
    coding = Coding(mean=(0.1, 0.0, -0.2, 0.0), std=(0.1, 0.2, 0.3, 0.4))
    np.testing.assert_allclose(coding.decode(coding.encode(boxes, proposals), proposals), boxes, rtol=1e-5)
    # torchvision's weights are the reciprocals of the paper's deviations.
    plain = Coding((0, 0, 0, 0), (1, 1, 1, 1)).encode(boxes, proposals)
    np.testing.assert_allclose(Coding().encode(boxes, proposals), plain * jnp.array([10, 10, 5, 5]), rtol=1e-5)


def test_losses_are_the_papers_formula():
    rng = np.random.default_rng(0)
    logits, deltas = rng.standard_normal((1, 4, 3)), rng.standard_normal((1, 4, 3, 4))
    targets = rng.standard_normal((1, 4, 4))
    classes, drawn = np.array([[2, 0, 1, 2]]), np.array([[True, True, True, False]])
    regions = Regions(jnp.zeros((1, 4, 4)), jnp.asarray(classes), jnp.asarray(targets), jnp.asarray(drawn))
    losses = region_losses(jnp.asarray(logits), jnp.asarray(deltas), regions, beta=1.0)
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    expected = -np.log([probabilities[i, classes[0, i]] for i in range(3)]).mean()
    assert float(losses["class"][0]) == pytest.approx(expected, rel=1e-5)
    off = np.abs([deltas[0, i, classes[0, i]] - targets[0, i] for i in (0, 2)])
    expected = np.where(off < 1, off**2 / 2, off - 0.5).sum() / 3
    assert float(losses["box"][0]) == pytest.approx(expected, rel=1e-5)


def _iou(a, b):
    sides = [max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def _detected(logits, deltas, proposals, **options):
    run = compiled(functools.partial(detect, sizes=jnp.array([[70, 80]]), coding=Coding(), **options))
    return run(jnp.asarray(logits), deltas, proposals)


def test_detections_are_the_greedy_choice_of_each_class():
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 60, (1, 30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(15, 40, (1, 30, 2))], -1).astype(np.float32)
    logits = (2 * rng.standard_normal((1, 30, 4))).astype(np.float32)
    valid = np.arange(30)[None] < 25
    options = {"score_threshold": 0.1, "overlap": 0.4, "most": 40}
    deltas, proposals = jnp.zeros((1, 30, 4, 4)), Proposals(jnp.asarray(boxes), jnp.asarray(valid))
    found = _detected(logits, deltas, proposals, **options)

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
    few = _detected(logits, deltas, proposals, **options | {"most": 3})
    np.testing.assert_array_equal(few.scores[0], found.scores[0, :3])
