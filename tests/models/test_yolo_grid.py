"""YOLO's cells: what they learn, and the loss against the paper's equation written as plain loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.models.detection.detector import Truth
from cvjax.models.detection.yolo_grid import Grid, Predictions, decode, encode, losses

GRID = Grid(rows=3, columns=4, cell=16, height=48, width=64)
SIZE = jnp.array([48, 64])
ENCODE = jax.jit(encode, static_argnames="grid")
LOSSES = jax.jit(losses, static_argnames="grid")


def _truth(boxes, labels=None, ignore=(), valid=None):
    count = len(boxes)
    return Truth(
        jnp.asarray(boxes, jnp.float32).reshape(count, 4),
        jnp.zeros(count, jnp.int32) if labels is None else jnp.asarray(labels, jnp.int32),
        jnp.isin(jnp.arange(count), jnp.asarray(ignore, jnp.int32)),
        jnp.ones(count, bool) if valid is None else jnp.asarray(valid),
    )


def _predictions(seed=0, classes=3):
    keys = jax.random.split(jax.random.key(seed), 3)
    return Predictions(
        jax.random.uniform(keys[0], (3, 4, 2, 4), minval=-0.2, maxval=1.0),
        jax.random.normal(keys[1], (3, 4, 2)),
        jax.random.normal(keys[2], (3, 4, classes)),
    )


def _corners(x, y, width, height):
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(a, b):
    (ax, ay, au, av), (bx, by, bu, bv) = _corners(*a), _corners(*b)
    shared = max(0.0, min(au, bu) - max(ax, bx)) * max(0.0, min(av, bv) - max(ay, by))
    union = a[2] * a[3] + b[2] * b[3] - shared
    return shared / union if union > 0 else 0.0


def _paper(predictions, objects):
    """Equation 3 in numbers of the unit square; objects are {(row, column): (box, label)} in pixels."""
    boxes, confidence, classes = (np.asarray(array, np.float64) for array in predictions)
    sums = dict.fromkeys(("coordinates", "sizes", "objectness", "no_object", "classes"), 0.0)
    for row in range(3):
        for column in range(4):
            responsible = None
            if (row, column) in objects:
                (x1, y1, x2, y2), label = objects[row, column]
                x, y, w, h = (x1 + x2) / 128, (y1 + y2) / 96, (x2 - x1) / 64, (y2 - y1) / 48
                found = [((column + b[0]) / 4, (row + b[1]) / 3, b[2] ** 2, b[3] ** 2) for b in boxes[row, column]]
                overlaps = [_overlap(box, (x, y, w, h)) for box in found]
                distances = [math.dist(box, (x, y, w, h)) for box in found]
                responsible = int(np.argmax(overlaps)) if max(overlaps) > 0 else int(np.argmin(distances))
                px, py, r, s = boxes[row, column, responsible]
                sums["coordinates"] += 5 * ((4 * x - column - px) ** 2 + (3 * y - row - py) ** 2)
                sums["sizes"] += 5 * ((math.sqrt(w) - r) ** 2 + (math.sqrt(h) - s) ** 2)
                sums["objectness"] += (overlaps[responsible] - confidence[row, column, responsible]) ** 2
                for name, score in enumerate(classes[row, column]):
                    sums["classes"] += (float(name == label) - score) ** 2
            for box in range(2):
                if box != responsible:
                    sums["no_object"] += 0.5 * confidence[row, column, box] ** 2
    return sums


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_those_of_the_paper(seed):
    # Row 0 has none; the first object lies in cell (1, 2), the second in (2, 0), the third, tiny, in (1, 0).
    boxes, labels = [[30.0, 10, 46, 42], [1.0, 30, 12, 47], [8.0, 20, 8.25, 20.5]], [2, 0, 1]
    cells = ((1, 2), (2, 0), (1, 0))
    predictions = _predictions(seed)
    # Both boxes of the last cell lie elsewhere, so that the distance decides.
    predictions = predictions._replace(boxes=predictions.boxes.at[1, 0].set(jnp.array([[0.9, 0.9, 0.1, 0.1]] * 2)))
    predictions = predictions._replace(boxes=predictions.boxes.at[1, 0, seed % 2, 0].set(0.8))
    found = LOSSES(predictions, ENCODE(_truth(boxes, labels), SIZE, grid=GRID), grid=GRID)
    expected = _paper(predictions, dict(zip(cells, zip(boxes, labels))))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_a_perfect_cell_has_no_loss_and_the_worse_box_is_background():
    targets = ENCODE(_truth([[30, 10, 46, 42]], [2]), SIZE, grid=GRID)
    boxes = jnp.stack([jnp.zeros((3, 4, 4)), targets.boxes], axis=2)
    confidence = jnp.zeros((3, 4, 2)).at[1, 2].set(jnp.array([0.5, 1.0]))
    classes = jnp.zeros((3, 4, 3)).at[1, 2, 2].set(1.0)
    found = LOSSES(Predictions(boxes, confidence, classes), targets, grid=GRID)
    assert {name: float(value) for name, value in found.items() if value > 1e-10} == {"no_object": 0.125}


def test_decoding_undoes_encoding():
    keys = jax.random.split(jax.random.key(0), 2)
    places = jnp.stack(jnp.meshgrid(jnp.arange(4), jnp.arange(3)), axis=-1).reshape(-1, 2)
    centers = (places.astype(jnp.float32) + jax.random.uniform(keys[0], (12, 2))) * 16
    sides = jax.random.uniform(keys[1], (12, 2), minval=0.01, maxval=60)
    boxes = jnp.concatenate([centers - sides / 2, centers + sides / 2], axis=-1)
    targets = ENCODE(_truth(boxes, jnp.arange(12)), SIZE, grid=GRID)
    assert targets.occupied.all()
    assert not targets.ignored.any()
    np.testing.assert_array_equal(targets.labels.reshape(-1), np.arange(12))
    assert (targets.boxes[..., :2] >= 0).all()
    assert (targets.boxes[..., :2] <= 1).all()
    np.testing.assert_allclose(decode(targets.boxes[:, :, None], GRID).reshape(12, 4), boxes, atol=1e-4)


def test_the_first_of_several_in_a_cell_wins():
    boxes = [[2, 2, 10, 10], [3, 3, 9, 9], [1, 1, 9, 9]]
    targets = ENCODE(_truth(boxes, [0, 1, 2], valid=[False, True, True]), SIZE, grid=GRID)
    assert int(targets.occupied.sum()) == 1
    assert int(targets.labels[0, 0]) == 1
    np.testing.assert_allclose(decode(targets.boxes[:, :, None], GRID)[0, 0, 0], boxes[1], atol=1e-5)


def test_ignored_objects_make_no_loss():
    predictions = _predictions()
    alone = LOSSES(predictions, ENCODE(_truth([[30, 10, 46, 42]], [2]), SIZE, grid=GRID), grid=GRID)
    # One ignored object beside it in its cell, which changes nothing, and one in the cell (0, 3).
    truth = _truth([[28, 20, 40, 30], [30, 10, 46, 42], [50, 2, 60, 10]], [1, 2, 0], ignore=(0, 2))
    found = LOSSES(predictions, ENCODE(truth, SIZE, grid=GRID), grid=GRID)
    expected = dict(alone) | {"no_object": alone["no_object"] - 0.5 * jnp.square(predictions.confidence[0, 3]).sum()}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


DEGENERATE = {
    "none": [],
    "no width": [[8, 8, 8, 20]],
    "upside down": [[8, 20, 20, 8]],
    "outside": [[-30, 5, -2, 20], [60, 40, 90, 90]],
    "in the padding": [[40, 20, 60, 30]],
    "not finite": [[np.nan, 0, 5, 5], [0, 0, np.inf, 5], [-np.inf, 0, np.inf, 9], [np.nan] * 4],
    "beyond all bounds": [[-3e38, -3e38, 3e38, 3e38]],
}


@pytest.mark.parametrize("boxes", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("ignored", [False, True])
def test_objects_that_cannot_be_learnt_do_not_exist(boxes, ignored):
    truth = _truth(boxes, ignore=range(len(boxes)) if ignored else ())
    targets = ENCODE(truth, jnp.array([48, 40]), grid=GRID)
    assert not targets.occupied.any()
    assert not targets.ignored.any()
    assert not targets.boxes.any()
    assert not targets.labels.any()


def test_gradients_are_finite_for_any_truth_and_for_empty_predictions():
    def total(predictions, truth):
        return sum(losses(predictions, encode(truth, SIZE, GRID), GRID).values())

    gradient = jax.jit(jax.grad(total))
    rng = np.random.default_rng(0)
    zeros = jax.tree.map(jnp.zeros_like, _predictions())
    for seed in range(20):
        boxes = rng.uniform(-20, 90, (12, 4))
        boxes[::3, 2:] = boxes[::3, :2] + rng.choice([0, 1e-6, 1e-30, 5], (4, 2))
        truth = _truth(boxes, rng.integers(0, 3, 12), np.flatnonzero(rng.random(12) < 0.2), rng.random(12) < 0.8)
        for predictions in (_predictions(seed), zeros):
            found = gradient(predictions, truth)
            assert all(np.isfinite(leaf).all() for leaf in found)
            # Zeros are what an empty image wants.
            assert found.confidence.any() or predictions is zeros
