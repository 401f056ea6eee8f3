"""Segmentation as a task: the loss against optax, weights, jitter, sums."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from made import segmentation

from cvjax.errors import ConfigError
from cvjax.tasks.losses import soft_jaccard
from cvjax.tasks.segmentation.crf_config import CRFConfig

NAMES = ("background", "a", "b")


def batch(seed=0, rows=3, size=6):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 3, (rows, size, size)).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.3] = 255
    return {
        "image": rng.integers(0, 256, (rows, size, size, 3)).astype(np.uint8),
        "mask": mask,
        "index": np.arange(rows, dtype=np.int32),
        "valid": np.array([True] * (rows - 1) + [False]),
        "skipped": np.zeros(rows, np.int32),
    }


def logits(seed=1, rows=3, size=6):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, size, size, 3)), jnp.float32)


def test_loss_is_the_mean_over_labeled_pixels_of_valid_rows():
    task, given, scores = segmentation(NAMES), batch(), logits()
    total, sums = task.loss(scores, given)
    counted = (given["mask"] != 255) & given["valid"][:, None, None]
    each = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.minimum(given["mask"], 2))
    assert int(task.weight(given)) == counted.sum()
    assert total / task.weight(given) == pytest.approx(float(each[counted].mean()), rel=1e-6)
    right = (np.asarray(scores).argmax(-1) == given["mask"])[counted].sum()
    assert int(sums["accuracy"]) == right


def test_without_normalization_the_loss_is_the_sum_over_an_images_pixels():
    task, given, scores = segmentation(NAMES, normalize_loss=False), batch(), logits()
    total, sums = task.loss(scores, given)
    counted = (given["mask"] != 255) & given["valid"][:, None, None]
    each = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.minimum(given["mask"], 2))
    expected = (np.asarray(each) * counted).sum((1, 2))[:2].mean()
    assert total / task.weight(given) == pytest.approx(float(expected), rel=1e-6)
    right = (np.asarray(scores).argmax(-1) == given["mask"]) & counted
    fractions = right.sum((1, 2))[:2] / counted.sum((1, 2))[:2]
    assert sums["accuracy"] / task.weight(given) == pytest.approx(fractions.mean(), rel=1e-6)


def test_auxiliary_loss_is_added_with_its_weight():
    task, given = segmentation(NAMES, aux_weight=0.4), batch()
    main, aux = task.loss(logits(1), given)[0], task.loss(logits(2), given)[0]
    both, _ = task.loss((logits(1), {"aux": logits(2)}), given)
    assert both == pytest.approx(float(main + 0.4 * aux), rel=1e-6)


def test_jaccard_is_added_and_adds_up_over_parts_of_a_batch():
    task, given, scores = segmentation(NAMES, jaccard_weight=0.5), batch(), logits()
    counted = (given["mask"] != 255) & given["valid"][:, None, None]
    plain = segmentation(NAMES).loss(scores, given)[0]
    each = soft_jaccard(scores, jnp.asarray(given["mask"]), counted)
    expected = float(plain) + 0.5 * (np.asarray(each) * counted.sum((1, 2))).sum()
    assert task.loss(scores, given)[0] == pytest.approx(float(expected), rel=1e-6)
    parts = [task.loss(scores[i : i + 1], {k: v[i : i + 1] for k, v in given.items()})[0] for i in range(3)]
    assert sum(map(float, parts)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"dice_weight": 1.0},
        {"lovasz_weight": 1.0, "pixel_weight": 0.0},
        {"pixel_loss": "focal", "focal_alpha": 0.25},
        {"pixel_loss": "ohem", "ohem_fraction": 0.3},
        {"pixel_loss": "ohem", "ohem_threshold": 1.0, "ohem_minimum": 4, "class_weights": (0.5, 1.0, 3.0)},
    ],
)
def test_losses_add_up_over_parts_of_a_batch_and_have_finite_gradients(options):
    task, given, scores = segmentation(NAMES, **options), batch(), logits()
    given["mask"][0] = 255  # an image without a label
    grad = jax.jit(jax.value_and_grad(lambda x, b: task.loss(x, b)[0]))
    total, gradient = grad(scores, given)
    parts = [grad(scores[i : i + 1], {k: v[i : i + 1] for k, v in given.items()}) for i in range(3)]
    assert sum(float(loss) for loss, _ in parts) == pytest.approx(float(total), rel=1e-5)
    np.testing.assert_allclose(np.concatenate([g for _, g in parts]), gradient, rtol=1e-4, atol=1e-6)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[1]).max() > 0
    np.testing.assert_array_equal(np.asarray(gradient)[[0, 2]], 0)  # no label there, and not valid


def test_ohem_train_on_the_mean_of_the_hardest():
    task, given, scores = segmentation(NAMES, pixel_loss="ohem", ohem_fraction=0.25), batch(), logits()
    expected = 0.0
    for image in range(2):
        counted = given["mask"][image] != 255
        each = optax.softmax_cross_entropy_with_integer_labels(scores[image][counted], given["mask"][image][counted])
        hardest = np.sort(np.asarray(each))[-int(np.ceil(0.25 * counted.sum())) :]
        expected += hardest.mean() * counted.sum()
    assert task.loss(scores, given)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pixel_weight": 0.0}, "at least one above 0"),
        ({"pixel_loss": "hinge"}, "ohem"),
        ({"focal_alpha": 1.5}, "focal_alpha"),
        ({"ohem_fraction": 0.0}, "ohem_fraction"),
        ({"trimap": (0,)}, "trimap"),
    ],
)
def test_options_that_mean_nothing(options, named):
    with pytest.raises(ConfigError, match=named):
        segmentation(NAMES, **options)


def test_loss_stride_is_the_loss_of_every_nth_pixel():
    given, scores = batch(), logits()
    thinned = given | {"mask": given["mask"][:, ::2, ::2]}
    for options in ({}, {"jaccard_weight": 1.0}, {"class_weights": (0.5, 1.0, 3.0)}):
        wide, dense = segmentation(NAMES, loss_stride=2, **options), segmentation(NAMES, **options)
        got, sums = wide.loss((scores, {"aux": scores}), given)
        expected, expected_sums = dense.loss((scores[:, ::2, ::2], {"aux": scores[:, ::2, ::2]}), thinned)
        assert got == pytest.approx(float(expected), rel=1e-6)
        assert sums["accuracy"] == expected_sums["accuracy"]
        assert wide.weight(given) == dense.weight(thinned)


def test_class_weights_weigh_pixels_in_sum_and_divisor():
    weights = (0.5, 1.0, 3.0)
    task, given, scores = segmentation(NAMES, class_weights=weights), batch(), logits()
    counted = (given["mask"] != 255) & given["valid"][:, None, None]
    each = np.asarray(optax.softmax_cross_entropy_with_integer_labels(scores, jnp.minimum(given["mask"], 2)))
    factor = np.asarray(weights)[np.minimum(given["mask"], 2)]
    assert task.weight(given) == pytest.approx(factor[counted].sum(), rel=1e-6)
    assert task.loss(scores, given)[0] == pytest.approx((each * factor)[counted].sum(), rel=1e-5)


def test_jitter_follows_the_example_and_not_its_row():
    task, given, key = segmentation(NAMES, brightness=0.3, contrast=0.3, saturation=0.3), batch(), jax.random.key(3)
    whole = task.prepare(given, key)[0]
    turned = {name: value[::-1] for name, value in given.items()}
    np.testing.assert_allclose(task.prepare(turned, key)[0][::-1], whole, atol=1e-5)
    assert np.abs(whole - task.prepare(given, None)[0]).max() > 0.01


def test_normalizing_the_mean_gives_zero():
    task = segmentation(NAMES)
    image = jnp.broadcast_to(jnp.asarray(task.mean), (2, 2, 3))
    np.testing.assert_allclose(task.normalize(image), 0, atol=1e-6)


def test_sums_of_two_batches_report_as_one():
    task = segmentation(NAMES)
    sums = [task.update(jax.nn.softmax(logits(s)), batch(s)) for s in (1, 2)]
    added = {name: np.asarray(sums[0][name]) + np.asarray(sums[1][name]) for name in sums[0]}
    report = task.compute(added)
    assert report["examples"] == 4
    predictions = np.concatenate([np.asarray(logits(s)).argmax(-1) for s in (1, 2)])
    masks = np.concatenate([batch(s)["mask"] for s in (1, 2)])
    valid = np.concatenate([batch(s)["valid"] for s in (1, 2)])[:, None, None] & (masks != 255)
    assert report["pixel_accuracy"] == pytest.approx((predictions == masks)[valid].mean(), abs=1e-12)


def test_scores_near_borders_and_of_images_are_reported_when_asked_for():
    task = segmentation(NAMES, boundary=True, trimap=(1, 3))
    report = task.compute(jax.tree.map(np.asarray, task.update(jax.nn.softmax(logits()), batch())))
    assert {"boundary_iou", "trimap_miou_1", "trimap_miou_3", "image_miou", "fwiou"} <= report.keys()
    assert all(0 < report[name] < 1 for name in ("boundary_iou", "trimap_miou_1", "image_miou", "fwiou"))
    plain = segmentation(NAMES).compute(segmentation(NAMES).update(jax.nn.softmax(logits()), batch()))
    assert plain == {name: report[name] for name in plain}


def test_a_crf_before_the_scores_sees_the_images_alone_and_not_their_padding():
    rng = np.random.default_rng(5)
    truth = (np.arange(12) // 6)[None] * np.ones((8, 1), int)  # two halves of different color
    image = np.where(truth[..., None] == 0, 60, 190) + rng.integers(0, 9, (8, 12, 3))
    probabilities = np.clip(np.eye(3)[truth] * 0.3 + 0.7 * rng.dirichlet(np.ones(3), truth.shape), 1e-3, None)
    task = segmentation(NAMES, crf=CRFConfig(3.0, 1.0, 5.0, 8.0, 20.0, iterations=3))
    evaluate = jax.jit(task.update)

    def scored(evaluate, junk):
        pad = lambda x, fill: np.pad(x, ((0, 3), (0, 5)) + ((0, 0),) * (x.ndim - 2), constant_values=fill)  # noqa: E731
        given = {
            "image": pad(image, junk)[None].astype(np.uint8),
            "mask": pad(truth, 255)[None].astype(np.uint8),
            "size": np.array([[8, 12]], np.int32),
            "valid": np.ones(1, bool),
            "skipped": np.zeros(1, np.int32),
        }
        sums = evaluate(pad(probabilities, (junk + 1) / 256)[None].astype(np.float32), given)
        return np.asarray(sums["confusion"])

    refined = scored(evaluate, 0)
    assert np.trace(refined) > np.trace(scored(segmentation(NAMES).update, 0))
    assert refined.sum() == truth.size
    np.testing.assert_array_equal(scored(evaluate, 66), refined)


def test_logits_of_another_class_count_are_refused():
    with pytest.raises(AssertionError):
        segmentation((*NAMES, "c")).loss(logits(), batch())
