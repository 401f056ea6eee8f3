"""The stages behind a net, with a describer that knows the answer."""

import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models.detection.detector import Proposals, Truth
from cvjax.ops.detection.boxes import decode, pairwise_iou
from cvjax.tasks.detection.staged.stages import RegionBatch, describe_images, fit_stages, install
from cvjax.tasks.detection.staged.svm import SVMConfig


def _batches(count=10, proposals=40):
    """One object of class 0 or 1 an image, another that is ignored, and proposals that are shifted by known ways."""
    random = np.random.default_rng(0)
    batches = []
    for number in range(count):
        objects = np.asarray([[[20, 20, 60, 50], [70, 70, 95, 95], [0, 0, 0, 0]]], np.float32)
        shift = random.uniform(-6, 6, (1, proposals // 2, 2)).astype(np.float32)
        near = objects[:, :1] + np.concatenate([shift, shift], -1)
        far = random.uniform(0, 60, (1, proposals - proposals // 2, 2)).astype(np.float32)
        boxes = np.concatenate([near, np.concatenate([far, far + 9], -1)], axis=1)
        truth = Truth(
            objects,
            np.asarray([[number % 2, 1, 0]]),
            np.asarray([[False, True, False]]),
            np.asarray([[True, True, False]]),
        )
        valid = np.arange(proposals)[None] < proposals - 3
        batches.append(
            RegionBatch(np.full((1, 1, 1, 1), number % 2), np.asarray([[100, 100]]), Proposals(boxes, valid), truth)
        )
    return batches


def _describe(images, sizes, boxes):
    """Pooled: how far a box lies from the object's place. Hidden: whether it lies on it, by the class of the image."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2 - np.asarray([40, 35])
    kind = np.broadcast_to(images[:, :, 0], (*boxes.shape[:2], 1))
    on = np.asarray(pairwise_iou(boxes, np.asarray([[[20, 20, 60, 50]]])))
    pooled = np.concatenate([middle, np.ones_like(on)], -1)
    return pooled, np.concatenate([on * kind, on * (1 - kind)], -1)


def test_rows_leave_out_padding_and_what_is_ignored():
    (regions, pairs), *_ = describe_images(_describe, _batches(1), 2)
    assert len(regions.labels) == 1 + 37
    assert regions.labels.tolist() == [0] + [-1] * 37
    assert regions.overlaps[0].tolist() == [1, 0]
    assert len(pairs.features) == (regions.overlaps[1:, 0] > 0.6).sum() > 5
    assert (pairs.labels == 0).all()


@pytest.mark.slow
def test_stages_find_classes_and_move_boxes():
    config = SVMConfig(cost=1.0, batch=50)
    fitted = fit_stages(_describe, _batches, 3, svm=config, penalty=0.1)
    assert fitted["svm"].kernel.shape == (2, 3)
    assert fitted["regressor"].kernel.shape == (3, 12)
    for batch in _batches(4):
        pooled, hidden = _describe(batch.images, batch.sizes, batch.proposals.boxes)
        scores = hidden[0] @ fitted["svm"].kernel + fitted["svm"].bias
        label = int(batch.truth.labels[0, 0])
        best = int(scores[:, label].argmax())
        assert best < 20
        assert scores[:20, label].mean() > scores[20:, label].mean() + 0.5
        assert (scores[:, label] > scores[:, 1 - label]).mean() > 0.5
        deltas = (pooled[0] @ fitted["regressor"].kernel + fitted["regressor"].bias).reshape(-1, 3, 4)[:20, label]
        near = batch.proposals.boxes[0, :20]
        before, after = (
            np.asarray(pairwise_iou(boxes, batch.truth.boxes[0, :1]))[:, 0]
            for boxes in (near, np.asarray(decode(jnp.asarray(deltas), near)))
        )
        assert before.mean() < 0.8
        assert after.min() > 0.97


def test_few_pairs_are_kept_and_the_same_ones_each_time():
    first, second = (fit_stages(_describe, _batches, 3, most_pairs=6, penalty=0.1) for _ in range(2))
    np.testing.assert_array_equal(first["regressor"].kernel, second["regressor"].kernel)
    every = fit_stages(_describe, _batches, 3, penalty=0.1)
    assert np.abs(every["regressor"].kernel - first["regressor"].kernel).max() > 0


def test_layers_take_what_was_fitted():
    fitted = fit_stages(_describe, _batches, 3)
    params = {"svm": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}, "other": {}}
    filled = install({"params": params}, {"svm": fitted["svm"]})
    np.testing.assert_array_equal(filled["params"]["svm"]["kernel"], fitted["svm"].kernel)
    with pytest.raises(ConfigError, match="no layer regressor"):
        install({"params": params}, fitted)
