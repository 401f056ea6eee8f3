"""Masks inside boxes as a task: where they are pasted, their loss and their scores."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import object_masks

from cvjax.tasks.object_masks.task import paste_masks

TASK = object_masks(("background", "disc", "square"))
_evaluate, _loss = jax.jit(TASK.update), jax.jit(TASK.loss)


def _batch():
    """Two images with two boxes each; the second image's second box only fills up."""
    objects = np.zeros((2, 24, 32), np.uint8)
    objects[0, 4:12, 6:16], objects[0, 8:20, 18:30], objects[1, 2:22, 2:12] = 1, 2, 1
    objects[0, 4, 6:16] = 255
    return {
        "image": jnp.zeros((2, 24, 32, 3), jnp.uint8),
        "objects": jnp.asarray(objects),
        "boxes": jnp.asarray([[[6.0, 4, 16, 12], [18, 8, 30, 20]], [[0, 0, 16, 24], [0, 0, 1, 1]]]),
        "numbers": jnp.asarray([[1, 2], [1, 0]]),
        "labels": jnp.asarray([[1, 2], [2, -1]]),
        "valid": jnp.asarray([True, True]),
        "skipped": jnp.zeros(2, jnp.int32),
        "index": jnp.arange(2),
    }


def test_a_mask_lies_on_its_boxs_pixels():
    masks = np.random.default_rng(0).random((1, 1, 6, 6), np.float32)
    pasted, within = paste_masks(jnp.asarray(masks), jnp.asarray([[[3.0, 2, 9, 8]]]), (10, 12))
    np.testing.assert_allclose(pasted[0, 0, 2:8, 3:9], masks[0, 0], atol=1e-6)
    assert within.sum() == 36 == within[0, 0, 2:8, 3:9].sum()
    assert not np.asarray(pasted)[~np.asarray(within)].any()


@pytest.mark.parametrize("box", [(2.0, 1.0, 26.0, 19.0), (-6.0, -4.0, 10.0, 30.0), (4.5, 4.5, 7.0, 9.0)])
def test_between_its_pixels_a_mask_is_interpolated(box):
    ramp = np.broadcast_to((np.arange(8) + 0.5) / 8, (8, 8))
    pasted, within = paste_masks(jnp.asarray(ramp)[None, None], jnp.asarray([[box]]), (20, 28))
    along = np.clip((np.arange(28) + 0.5 - box[0]) / (box[2] - box[0]), 1 / 16, 15 / 16)
    expected = np.where(np.asarray(within)[0, 0], along, 0.0)
    np.testing.assert_allclose(pasted[0, 0], expected, atol=1e-5)


def test_perfect_masks_overlap_in_full_and_whole_boxes_by_the_objects_share():
    batch = _batch()
    truth = np.zeros((2, 2, 48, 48), np.float32)
    truth[0] = 1.0
    rows, columns = np.arange(48) / 2, np.arange(48) / 3
    truth[1, 0] = ((rows >= 2) & (rows < 22))[:, None] & ((columns >= 2) & (columns < 12))
    report = TASK.compute(jax.device_get(_evaluate(jnp.asarray(truth), batch)))
    assert report["mask_iou"] == pytest.approx(1.0, abs=0.02)
    assert (report["objects"], report["examples"], report["found_70"]) == (3, 2, 1.0)
    sums = jax.device_get(_evaluate(jnp.ones((2, 2, 5, 5)), batch))
    report = TASK.compute(sums)
    share = 200 / (16 * 24)
    assert report["iou"] == pytest.approx({"disc": 1.0, "square": (1 + share) / 2})
    assert report["mask_iou"] == pytest.approx((2 + share) / 3)
    assert (report["found_50"], report["found_70"]) == (1.0, pytest.approx(2 / 3))


def test_rows_that_are_no_examples_and_unknown_objects_count_nowhere():
    batch = _batch()
    batch |= {"valid": jnp.asarray([True, False]), "objects": batch["objects"].at[0, 8:20, 18:30].set(255)}
    report = TASK.compute(jax.device_get(_evaluate(jnp.ones((2, 2, 5, 5)), batch)))
    assert (report["objects"], report["examples"]) == (1, 1)
    assert math.isnan(report["iou"]["square"])
    assert float(TASK.weight(batch)) == 2.0
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2, 5, 5)), jnp.float32)
    loss, sums = _loss(logits, batch)
    alone, _ = _loss(logits.at[1].set(9.0).at[0, 1].set(-9.0), batch)
    assert float(loss) == pytest.approx(float(alone), rel=1e-6)
    assert 0 < float(loss) < 5
    assert 0 < float(sums["accuracy"]) <= 2.0


def test_nothing_at_all_scores_nan():
    batch = _batch() | {"labels": jnp.full((2, 2), -1)}
    report = TASK.compute(jax.device_get(_evaluate(jnp.ones((2, 2, 5, 5)), batch)))
    assert math.isnan(report["mask_iou"])
    assert report["objects"] == 0


def test_inputs_are_images_and_boxes():
    batch = _batch()
    images, boxes = TASK.prepare(batch, jax.random.key(0))[0]
    assert (images.shape, images.dtype) == ((2, 24, 32, 3), jnp.float32)
    np.testing.assert_array_equal(boxes, batch["boxes"])
