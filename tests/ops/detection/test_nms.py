"""Suppression against torchvision's kept indices, and against a plain loop over boxes."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cvjax.ops.detection import nms as module
from cvjax.ops.detection.nms import nms, soft_nms

_GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "ops.npz")


def _random(count, seed=0, side=100):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, side, (count, 2))
    found = np.concatenate([low, low + rng.uniform(5, 40, (count, 2))], axis=1).astype(np.float32)
    # Scores in steps, so that many are equal.
    return found, (rng.integers(1, count // 2 + 2, count) / count).astype(np.float32), rng.integers(0, 3, count)


def _iou(a, b):
    side = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.float32(np.prod(np.maximum(side, 0)))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def _greedy(found, scores, classes, threshold):
    """The definition: one box after another, by score and then by place."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(classes[i] != classes[j] or _iou(found[j], found[i]) <= threshold for j in kept):
            kept.append(i)
    return kept


def _soft(found, scores, classes, count, factor):
    left, taken = dict(enumerate(scores.astype(np.float64))), []
    while left and len(taken) < count:
        best = max(left, key=lambda i: (left[i], -i))
        taken.append((best, left.pop(best)))
        for i in left:
            if classes[i] == classes[best]:
                left[i] *= factor(_iou(found[best], found[i]))
    return [(i, s) for i, s in taken if s > 0.001]


def _indices(kept):
    valid = np.asarray(kept.valid)
    assert (np.diff(valid.astype(int)) <= 0).all()  # padding is at the end
    assert not np.asarray(kept.indices)[~valid].any()
    assert not np.asarray(kept.scores)[~valid].any()
    return np.asarray(kept.indices)[valid].tolist()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_kept_indices_equal_torchvision(threshold):
    expected = _GOLDEN[f"nms_keep_{threshold}"]
    kept = nms(_GOLDEN["nms_boxes"], _GOLDEN["nms_scores"], iou_threshold=threshold, max_output=300)
    assert _indices(kept) == expected.tolist()
    np.testing.assert_array_equal(np.asarray(kept.scores)[: len(expected)], _GOLDEN["nms_scores"][expected])


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("tile", [8, 64])
def test_greedy_over_tiles_equals_the_definition(monkeypatch, by_class, tile):
    monkeypatch.setattr(module, "_TILE", tile)
    run = jax.jit(partial(nms, iou_threshold=0.2, max_output=100))
    for seed in range(3):
        found, scores, classes = _random(90, seed)
        classes = classes if by_class else np.zeros(90, int)
        expected = _greedy(found, scores, classes, 0.2)
        assert _indices(run(found, scores, classes=classes if by_class else None)) == expected
        assert len(set(expected)) < 90  # some are removed


def test_a_chain_of_overlaps_keeps_every_second_box():
    # Each box overlaps its neighbors alone, so the fixed point takes as many sweeps as there are boxes.
    x = np.arange(60, dtype=np.float32)[:, None] * 6
    found = np.concatenate([x, np.zeros_like(x), x + 10, np.full_like(x, 10)], axis=1)
    kept = nms(found, np.linspace(1, 0.5, 60, dtype=np.float32), iou_threshold=0.2, max_output=60)
    assert _indices(kept) == list(range(0, 60, 2))


def test_equal_scores_keep_the_lower_index_and_equal_overlap_is_kept():
    same = np.asarray([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 2]], np.float32)
    assert _indices(nms(same, np.ones(3, np.float32), iou_threshold=0.6, max_output=3)) == [0, 2]
    assert _indices(nms(same, np.ones(3, np.float32), iou_threshold=0.5, max_output=3)) == [0, 2]  # IoU is 0.5
    assert _indices(nms(same, np.ones(3, np.float32), iou_threshold=0.49, max_output=3)) == [0]


def test_padding_thresholds_and_empty_input():
    found, scores, _ = _random(12, side=1000)
    scores[[2, 5]] = [-np.inf, np.nan]
    found[5] = np.nan
    kept = _indices(nms(found, scores, iou_threshold=0.9, max_output=20))
    assert sorted(kept) == [i for i in range(12) if i not in (2, 5)]
    limit = float(np.nanmedian(scores))
    some = _indices(nms(found, scores, iou_threshold=0.9, max_output=20, score_threshold=limit))
    assert some == [i for i in kept if scores[i] > limit]
    assert _indices(nms(found, scores, iou_threshold=0.9, max_output=4)) == kept[:4]
    empty = np.zeros((4, 4), np.float32)  # empty boxes overlap nothing
    assert _indices(nms(empty, np.ones(4, np.float32), iou_threshold=0.0, max_output=4)) == [0, 1, 2, 3]
    for suppress in (partial(nms, iou_threshold=0.5), soft_nms):
        nothing = suppress(jnp.zeros((0, 4)), jnp.zeros(0), max_output=3)
        assert nothing.indices.shape == (3,)
        assert not nothing.valid.any()


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_equals_the_definition(method):
    found, scores, classes = _random(40)
    factors = {
        "linear": lambda o: 1 - o if o > 0.3 else 1.0,
        "gaussian": lambda o: np.exp(-(o**2) / 0.5),
    }
    run = jax.jit(partial(soft_nms, max_output=30, method=method))
    for groups in (classes, np.zeros(40, int)):
        expected = _soft(found, scores, groups, 30, factors[method])
        kept = run(found, scores, classes=groups)
        assert _indices(kept) == [i for i, _ in expected]
        np.testing.assert_allclose(np.asarray(kept.scores)[: len(expected)], [s for _, s in expected], rtol=1e-4)


def test_soft_nms_removes_a_copy_only_when_linear():
    found = np.asarray([[0, 0, 4, 4], [0, 0, 4, 4]], np.float32)
    scores = np.asarray([0.9, 0.8], np.float32)
    assert _indices(soft_nms(found, scores, max_output=5, method="linear")) == [0]
    kept = soft_nms(found, scores, max_output=5)
    assert _indices(kept) == [0, 1]
    np.testing.assert_allclose(kept.scores[1], 0.8 * np.exp(-2), rtol=1e-5)


def test_a_batch_by_vmap_equals_image_by_image_and_scores_have_gradients():
    images = [_random(30, seed)[:2] for seed in range(3)]
    found, scores = (jnp.stack([jnp.asarray(image[k]) for image in images]) for k in (0, 1))
    for suppress in (
        jax.jit(partial(nms, iou_threshold=0.3, max_output=30)),
        jax.jit(partial(soft_nms, max_output=30, method="linear")),
    ):
        together = jax.vmap(suppress)(found, scores)
        for i in range(3):
            np.testing.assert_array_equal(together.indices[i], suppress(found[i], scores[i]).indices)
        gradients = jax.grad(lambda b, s, f=suppress: f(b, s).scores.sum(), (0, 1))(found[0], scores[0])
        assert not gradients[0].any()
        kept = _indices(suppress(found[0], scores[0]))
        # All of a kept box's score is its own; a lowered one passes on the factor.
        assert gradients[1][kept[0]] == 1.0
        assert ((np.asarray(gradients[1])[kept] > 0) & (np.asarray(gradients[1])[kept] <= 1)).all()


def test_errors_name_the_fix():
    found, scores, _ = _random(4)
    with pytest.raises(ValueError, match="at least 1"):
        nms(found, scores, iou_threshold=0.5, max_output=0)
    with pytest.raises(ValueError, match="hard"):
        soft_nms(found, scores, max_output=3, method="hard")
    with pytest.raises(AssertionError):
        nms(found[:3], scores, iou_threshold=0.5, max_output=3)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_exports_for_accelerators(platform):
    shapes = jax.ShapeDtypeStruct((2, 300, 4), jnp.float32), jax.ShapeDtypeStruct((2, 300), jnp.float32)
    for suppress in (partial(nms, iou_threshold=0.5, max_output=50), partial(soft_nms, max_output=50)):
        exported = export.export(jax.jit(jax.vmap(suppress)), platforms=[platform])(*shapes)
        assert [a.shape for a in exported.out_avals] == [(2, 50)] * 3
