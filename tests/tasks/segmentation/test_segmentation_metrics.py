"""The confusion matrix and the report made from it, against counting by hand and scikit-learn."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

from cvjax.tasks.confusion import confusion_matrix
from cvjax.tasks.segmentation.scores import regions as metrics


def count_by_hand(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    confusion = np.zeros((num_classes, num_classes), np.int64)
    keep = (labels >= 0) & (labels < num_classes)
    np.add.at(confusion, (labels[keep], predictions[keep]), 1)
    return confusion


def random_maps(seed: int, shape: tuple[int, ...], num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, shape).astype(np.uint8)
    labels[rng.random(shape) < 0.1] = 255
    return labels, rng.integers(0, num_classes, shape).astype(np.int32)


@pytest.mark.parametrize("shape", [(2, 7, 5), (1, 1, 1), (3, 97, 101), (5, 64, 64)])
def test_counts_every_pixel_once(shape):
    labels, predictions = random_maps(0, shape, 21)
    confusion = jax.jit(confusion_matrix, static_argnums=2)(labels, predictions, 21)
    chex.assert_shape(confusion, (21, 21))
    assert confusion.dtype == jnp.int32
    np.testing.assert_array_equal(confusion, count_by_hand(labels, predictions, 21))


@pytest.mark.parametrize("chunk", [1, 7, 35, 36])
def test_chunks_that_do_not_divide_the_image(monkeypatch, chunk):
    monkeypatch.setattr("cvjax.tasks.confusion._CHUNK_BYTES", 1)
    monkeypatch.setattr("cvjax.tasks.confusion._MIN_CHUNK", chunk)
    labels, predictions = random_maps(1, (2, 7, 5), 4)
    confusion = confusion_matrix(labels, predictions, 4)
    np.testing.assert_array_equal(confusion, count_by_hand(labels, predictions, 4))


def test_rows_are_the_truth():
    confusion = confusion_matrix(jnp.zeros((1, 2, 3), int), jnp.ones((1, 2, 3), int), 2)
    np.testing.assert_array_equal(confusion, [[0, 6], [0, 0]])


def test_invalid_images_and_ignored_labels_do_not_count():
    labels, predictions = random_maps(2, (3, 8, 8), 5)
    confusion = confusion_matrix(labels, predictions, 5, ignore=0, valid=jnp.array([True, False, True]))
    expected = count_by_hand(labels[[0, 2]], predictions[[0, 2]], 5)
    expected[0] = 0
    np.testing.assert_array_equal(confusion, expected)


def test_exact_beyond_the_integers_of_float32():
    # 4096 x 4100 pixels of one class, more than 2^24: a float32 sum would stop at 16,777,216.
    labels = jnp.ones((1, 4096, 4100), jnp.uint8)
    confusion = confusion_matrix(labels, labels, 2)
    np.testing.assert_array_equal(confusion, [[0, 0], [0, 4096 * 4100]])


def test_no_scatter_in_the_program():
    labels, predictions = random_maps(3, (2, 16, 16), 4)
    assert "scatter" not in str(jax.make_jaxpr(lambda t, p: confusion_matrix(t, p, 4))(labels, predictions))


def test_a_batch_sharded_over_devices_counts_the_same():
    labels, predictions = random_maps(4, (8, 32, 32), 6)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:8]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    confusion = jax.jit(confusion_matrix, static_argnums=2)(*jax.device_put((labels, predictions), sharding), 6)
    np.testing.assert_array_equal(confusion, count_by_hand(labels, predictions, 6))


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        confusion_matrix(jnp.zeros((1, 4, 4), int), jnp.zeros((1, 4, 5), int), 2)
    with pytest.raises(AssertionError):
        confusion_matrix(jnp.zeros((2, 4, 4), int), jnp.zeros((2, 4, 4), int), 2, valid=jnp.ones(3, bool))


@pytest.mark.parametrize("seed", range(5))
def test_report_agrees_with_scikit_learn(seed):
    names = [f"class {i}" for i in range(12)]
    labels, predictions = random_maps(seed, (2, 33, 47), 9)
    predictions[predictions == 3] = 10  # never predicted, though true; 10 predicted, never true; 9 and 11 neither
    confusion = np.asarray(confusion_matrix(labels, predictions, 12), np.int64)
    report = metrics.segmentation_report(confusion, names)
    keep = labels != 255
    truth, guess = labels[keep], predictions[keep]
    present = np.union1d(truth, guess)
    iou = sk.jaccard_score(truth, guess, labels=present, average=None, zero_division=0)
    assert abs(report["miou"] - iou.mean()) < 1e-12
    assert abs(report["pixel_accuracy"] - sk.accuracy_score(truth, guess)) < 1e-12
    recall = sk.recall_score(truth, guess, labels=np.unique(truth), average="macro")
    assert abs(report["mean_accuracy"] - recall) < 1e-12
    np.testing.assert_allclose([report["iou"][names[i]] for i in present], iou, rtol=0, atol=1e-12)
    assert np.isnan(report["iou"]["class 9"])
    assert np.isnan(report["iou"]["class 11"])
    assert report["iou"]["class 3"] == report["iou"]["class 10"] == 0


def test_frequency_weighted_iou_is_that_of_the_formula():
    labels, predictions = random_maps(7, (2, 33, 47), 9)
    confusion = np.asarray(confusion_matrix(labels, predictions, 12), np.int64)
    keep = labels != 255
    present = np.unique(labels[keep])
    iou = sk.jaccard_score(labels[keep], predictions[keep], labels=present, average=None)
    share = np.array([(labels[keep] == c).mean() for c in present])
    report = metrics.segmentation_report(confusion, [f"class {i}" for i in range(12)])
    assert report["fwiou"] == pytest.approx((share * iou).sum(), abs=1e-12)


def test_images_are_scored_one_by_one():
    labels, predictions = random_maps(8, (4, 9, 11), 5)
    labels[1] = 255  # nothing to score
    labels[2] = predictions[2]
    confusions = confusion_matrix(labels, predictions, 6, per_image=True)
    sums = metrics.image_iou_sums(confusions)
    expected = []
    for truth, guess in zip(labels, predictions):
        keep = truth != 255
        if keep.any():
            present = np.union1d(truth[keep], guess[keep])
            expected.append(sk.jaccard_score(truth[keep], guess[keep], labels=present, average="macro"))
    assert sums["scored_images"] == 3
    assert metrics.image_miou(sums) == pytest.approx(np.mean(expected), rel=1e-6)
    np.testing.assert_array_equal(confusions.sum(0), confusion_matrix(labels, predictions, 6))


def test_report_of_large_counts_by_hand():
    confusion = np.array([[3 * 2**40, 2**40], [0, 4 * 2**40]], np.int64)
    report = metrics.segmentation_report(confusion, ("a", "b"))
    assert report["iou"] == {"a": 3 / 4, "b": 4 / 5}
    assert report["pixel_accuracy"] == 7 / 8
    assert report["mean_accuracy"] == (3 / 4 + 1) / 2
    assert report["fwiou"] == (3 / 4 + 4 / 5) / 2
    assert all(type(report[key]) is float for key in ("miou", "pixel_accuracy", "mean_accuracy"))


def test_report_of_nothing_is_nan_without_a_warning(recwarn):
    report = metrics.segmentation_report(np.zeros((2, 2), np.int64), ("a", "b"))
    assert np.isnan([report["miou"], report["pixel_accuracy"], report["mean_accuracy"], *report["iou"].values()]).all()
    assert not recwarn


@pytest.mark.parametrize(
    ("confusion", "names"),
    [
        (np.zeros((2, 2)), ("a", "b")),
        (np.zeros((2, 3), int), ("a", "b")),
        (np.zeros((2, 2), int), ("a", "a")),
        (np.full((2, 2), -1), ("a", "b")),
    ],
)
def test_report_refuses_what_it_cannot_mean(confusion, names):
    with pytest.raises(ValueError, match=r"matrix|names"):
        metrics.segmentation_report(confusion, names)
