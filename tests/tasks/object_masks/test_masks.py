"""Targets and loss of masks inside boxes."""

import jax.numpy as jnp
import numpy as np
import optax

from cvjax.tasks.object_masks.losses import mask_loss, mask_targets

OBJECTS = np.zeros((2, 6, 8), np.uint8)
OBJECTS[0, 1:4, 2:6] = 7
OBJECTS[0, 3, 2:6] = 255
OBJECTS[1, :, 4:] = 1


def test_targets_are_the_pixels_of_the_box():
    boxes = jnp.asarray([[[2.0, 1, 6, 5]], [[2, 1, 6, 5]]])
    targets, weights = mask_targets(OBJECTS, jnp.asarray([[7], [1]]), boxes, 4)
    rows = np.asarray([1.0, 1, 0, 0])
    np.testing.assert_array_equal(targets[0, 0], rows[:, None] * np.ones(4))
    np.testing.assert_array_equal(weights[0, 0], np.asarray([1.0, 1, 0, 1])[:, None] * np.ones(4))
    np.testing.assert_array_equal(targets[1, 0], np.ones((4, 1)) * [0, 0, 1, 1])
    np.testing.assert_array_equal(weights[1, 0], np.ones((4, 4)))


def test_pixels_are_the_nearest_at_any_size():
    targets, _ = mask_targets(OBJECTS, jnp.asarray([[7], [1]]), jnp.asarray([[[0.0, 0, 8, 6]]] * 2), 24)
    np.testing.assert_array_equal(targets[1, 0], np.repeat(np.repeat(OBJECTS[1] == 1, 4, 0), 3, 1))


def test_what_lies_beyond_the_image_does_not_count():
    boxes = jnp.asarray([[[-4.0, -3, 4, 3]], [[4, 3, 12, 9]]])
    targets, weights = mask_targets(OBJECTS, jnp.asarray([[7], [1]]), boxes, 2)
    np.testing.assert_array_equal(weights[:, 0], [[[0, 0], [0, 1]], [[1, 0], [0, 0]]])
    assert not (targets * (1 - weights)).any()
    empty, _ = mask_targets(OBJECTS, jnp.asarray([[9], [9]]), boxes, 2)
    assert not empty.any()


def test_loss_is_the_mean_over_what_counts():
    logits = jnp.asarray([[[2.0, -1], [0, 3]], [[5, 5], [5, 5]]])
    targets, weights = jnp.asarray([[[1.0, 0], [1, 0]]] * 2), jnp.asarray([[[1.0, 1], [1, 0]], [[0, 0], [0, 0]]])
    each = optax.losses.sigmoid_binary_cross_entropy(logits, targets)
    expected = [(each[0, 0, 0] + each[0, 0, 1] + each[0, 1, 0]) / 3, 0.0]
    np.testing.assert_allclose(mask_loss(logits, targets, weights), expected, rtol=1e-6)
