"""Classification as a task: loss against optax, scores against scikit-learn, mixing by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from made import classification
from scipy import stats
from sklearn import metrics as sk

from cvjax.errors import ConfigError
from cvjax.tasks.classification.calibration import BINS
from cvjax.tasks.classification.metrics import ranks
from cvjax.tasks.classification.mixing import draw_mix
from cvjax.tasks.classification.predict import classify

NAMES = tuple(f"class {i}" for i in range(9))


def batch(seed=0, rows=8, size=6, invalid=2):
    rng = np.random.default_rng(seed)
    valid = np.arange(rows) < rows - invalid
    return {
        "image": rng.integers(0, 256, (rows, size, size, 3)).astype(np.uint8),
        "label": np.where(valid, rng.integers(0, 8, rows), -1).astype(np.int32),  # 8 does not occur
        "index": np.where(valid, rng.permutation(1000)[:rows], -1).astype(np.int32),
        "valid": valid,
        "skipped": np.zeros(rows, np.int32),
    }


def logits(seed=1, rows=8):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, 9)), jnp.float32)


def test_loss_is_the_mean_over_valid_rows():
    task, given, scores = classification(NAMES), batch(), logits()
    total, sums = task.loss(scores, task.prepare(given, None)[1])
    each = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.maximum(given["label"], 0))
    assert task.weight(given) == 6
    assert total == pytest.approx(float(each[:6].sum()), rel=1e-6)
    assert int(sums["accuracy"]) == (np.asarray(scores).argmax(-1) == given["label"])[:6].sum()


def test_label_smoothing_is_optaxs():
    task, given, scores = classification(NAMES, label_smoothing=0.1), batch(invalid=0), logits()
    targets = optax.smooth_labels(jax.nn.one_hot(given["label"], 9), 0.1)
    expected = optax.softmax_cross_entropy(scores, targets).sum()
    assert task.loss(scores, task.prepare(given, None)[1])[0] == pytest.approx(float(expected), rel=1e-6)
    assert task.loss(scores, task.prepare(given, jax.random.key(0))[1])[0] == pytest.approx(float(expected), rel=1e-6)


def test_every_auxiliary_loss_is_added_with_its_weight():
    task, given = classification(NAMES, aux_weight=0.3), batch()
    main, one, two = (task.loss(logits(seed), task.prepare(given, None)[1])[0] for seed in (1, 2, 3))
    all_of_them, _ = task.loss((logits(1), {"aux1": logits(2), "aux2": logits(3)}), task.prepare(given, None)[1])
    assert all_of_them == pytest.approx(float(main + 0.3 * (one + two)), rel=1e-6)


@pytest.mark.parametrize("kind", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_images_and_targets_are_mixed_alike(kind):
    """Each class has its own level of gray, so the mean of a mixed image says what its target must be."""
    task = classification(NAMES, mean=(0, 0, 0), std=(1, 1, 1), **kind)
    given, key = batch(rows=64, size=8, invalid=0), jax.random.key(2)
    given["label"] = np.arange(64, dtype=np.int32) % 2 + 2 * (np.arange(64, dtype=np.int32) // 16)
    given["image"] = np.broadcast_to(given["label"][:, None, None, None] * 10, (64, 8, 8, 3)).astype(np.uint8)
    images, target = jax.jit(lambda b: (task.prepare(b, key)[0], task.prepare(b, key)[1]["target"]))(given)
    np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(images.mean((1, 2, 3)), np.asarray(target) @ np.arange(9) * 10, rtol=1e-4, atol=1e-3)
    assert np.std(target.max(-1)) > 0.05
    blended = np.array([len(np.unique(np.asarray(image).round(3))) == 1 for image in images])
    assert blended.all() == ("cutmix" not in kind)
    if len(kind) == 2:
        assert 0.2 < blended.mean() < 0.8
    assert np.abs(np.asarray(task.prepare(given, None)[0]) - given["image"]).max() == 0


def test_what_a_pair_draws_follows_its_examples_and_not_its_place():
    task = classification(NAMES, mixup=0.4, cutmix=1.0, pca_noise=0.1, contrast=0.2)
    given, key = batch(), jax.random.key(3)
    swapped = {name: np.concatenate([value[4:], value[:4]]) for name, value in given.items()}
    mixed = jax.jit(lambda b: (task.prepare(b, key)[0], task.prepare(b, key)[1]["target"]))
    (there, swapped_target), (here, target) = mixed(swapped), mixed(given)
    np.testing.assert_allclose(np.concatenate([there[4:], there[:4]]), here, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([swapped_target[4:], swapped_target[:4]]), target, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_have_the_distribution_of_beta(alpha):
    mix = jax.jit(lambda index: draw_mix(index, jax.random.key(0), alpha, 0.0, (4, 4)))(np.arange(8000))
    assert stats.kstest(np.asarray(mix.share, np.float64), stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_an_odd_batch_cannot_be_paired():
    with pytest.raises(ConfigError, match="batch_size a multiple of twice the devices"):
        classification(NAMES, mixup=0.2).prepare(batch(rows=5), jax.random.key(0))[0]


def test_pca_noise_shifts_all_pixels_of_an_image_alike_along_the_papers_directions():
    task = classification(NAMES, mean=(0, 0, 0), std=(1, 1, 1), pca_noise=0.1)
    given = batch(rows=400, size=2, invalid=0) | {"index": np.arange(400, dtype=np.int32)}
    given["image"] = np.full((400, 2, 2, 3), 128, np.uint8)
    shift = np.asarray(task.prepare(given, jax.random.key(1))[0]) - 128
    assert np.ptp(shift, axis=(1, 2)).max() < 1e-4
    values, vectors = np.linalg.eigh(np.cov(shift[:, 0, 0].T))
    assert np.sqrt(values[2]) == pytest.approx(5.546, rel=0.15)
    assert abs(vectors[:, 2] @ [0.5675, 0.5808, 0.5836]) > 0.99


def test_ranks_count_better_classes_and_ties_in_argmaxs_order():
    scores = jnp.array([[0.5, 0.2, 0.2, 0.1], [0.25] * 4, [0.25] * 4])
    np.testing.assert_array_equal(ranks(scores, jnp.array([2, 0, 3])), [2, 0, 3])


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_scores_of_batches_added_up_are_scikit_learns(shards):
    task = classification(NAMES)
    given = [batch(seed, rows=64, invalid=16 * seed) for seed in range(3)]
    chances = [jax.nn.softmax(2 * logits(seed, 64)) for seed in range(3)]
    devices = np.array(jax.devices()[:shards])
    rows = jax.sharding.NamedSharding(jax.sharding.Mesh(devices, ("data",)), jax.sharding.PartitionSpec("data"))
    evaluate = jax.jit(task.update)
    sums = [evaluate(*jax.device_put((p, b), rows)) for p, b in zip(chances, given)]
    report = task.compute(jax.tree.map(lambda *parts: np.sum([np.asarray(p) for p in parts], axis=0), *sums))

    valid = np.concatenate([b["valid"] for b in given])
    truth, chance = (np.concatenate(x)[valid] for x in ([b["label"] for b in given], chances))
    guess = chance.argmax(-1)
    assert (report["examples"], report["skipped"]) == (144, 0)
    assert report["top1"] == pytest.approx(sk.accuracy_score(truth, guess), abs=1e-12)
    assert report["top5"] == pytest.approx(sk.top_k_accuracy_score(truth, chance, k=5, labels=range(9)), abs=1e-12)
    assert report["loss"] == pytest.approx(sk.log_loss(truth, chance, labels=range(9)), rel=1e-5)
    assert report["mean_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, guess), abs=1e-12)
    np.testing.assert_array_equal(report["confusion"], sk.confusion_matrix(truth, guess, labels=range(9)))
    recall = sk.recall_score(truth, guess, labels=range(8), average=None)
    np.testing.assert_allclose([report["accuracy"][name] for name in NAMES[:8]], recall, atol=1e-12)
    assert np.isnan(report["accuracy"]["class 8"])

    sure, error = chance.max(-1), 0.0  # the definition, bin by bin
    for low in np.arange(BINS) / BINS:
        inside = (sure > low) & (sure <= low + 1 / BINS)
        if inside.any():
            error += inside.mean() * abs((guess == truth)[inside].mean() - sure[inside].mean())
    assert report["ece"] == pytest.approx(error, abs=1e-6)
    assert sum(b["count"] for b in report["bins"]) == 144


def test_a_report_of_nothing_is_nan():
    task = classification(NAMES)
    report = task.compute(jax.tree.map(np.asarray, task.update(jax.nn.softmax(logits()), batch(invalid=8))))
    assert report["examples"] == 0
    assert np.isnan([report[key] for key in ("top1", "top5", "loss", "ece", "mean_accuracy")]).all()


def test_ten_crops_are_corners_and_middle_and_their_mirror_images():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 10, 3)), jnp.float32)

    def corner(x):  # sees a crop's first pixel alone
        return x[:, 0, 0] * 3

    got = classify(corner, images, ten_crops=(5, 6))
    seen = [(top, side) for top, left in ((0, 0), (0, 4), (3, 0), (3, 4), (1, 2)) for side in (left, left + 5)]
    expected = np.mean([jax.nn.softmax(3 * images[:, row, column]) for row, column in seen], axis=0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(classify(corner, images), jax.nn.softmax(corner(images)), rtol=1e-6)


def test_logits_of_another_class_count_are_refused():
    few = classification(NAMES[:4])
    with pytest.raises(AssertionError):
        few.loss(logits(), few.prepare(batch(), None)[1])
