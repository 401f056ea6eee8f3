"""Hypercolumns: scoring each map where it is equals scoring the stack, for pixels of images and of boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.segmentation.hypercolumn import STRIDES, interpolate_classifiers
from cvjax.ops.detection.roi import roi_align
from cvjax.tasks.object_masks.losses import mask_loss, mask_targets

SMALL = {"stage_sizes": (1, 1, 1, 1, 1), "widths": (4, 4, 5, 5, 6), "hidden": 7}
TINY = {"num_classes": 3, "backbone": SMALL, "grid": 2}


def _init(*size, **options):
    model = create_model("hypercolumn_vgg16", **TINY | {"mask_size": 6} | options)
    images = jax.random.normal(jax.random.key(0), (2, *size, 3))
    return model, jax.jit(model.init)(jax.random.key(1), images), images


def _joined(variables, kind, levels):
    """The classifier of the whole stack: a kernel [C, features], and a bias."""
    layers = [variables["params"][f"{kind}_{level}"] for level in levels]
    return jnp.concatenate([layer["kernel"][0, 0] for layer in layers]), layers[-1]["bias"]


@pytest.mark.slow
def test_summed_scores_are_the_scores_of_the_stack():
    levels = ("stage1", "pool2", "stage4", "pool5", "fc7")
    model, variables, images = _init(37, 45, levels=levels)
    stack = model.apply(variables, images, method="hypercolumns")
    assert stack.shape == (2, 37, 45, 4 + 4 + 5 + 6 + 7)
    kernel, bias = _joined(variables, "score", levels)
    logits = jax.jit(model.apply)(variables, images)
    expected = stack @ kernel + bias[None, None, None]
    np.testing.assert_allclose(logits, expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_the_stack_lies_over_its_pixels():
    """The mean of linear interpolation over a pixel of a map of stride 2 is 3/4 of it and 1/8 of either neighbor."""
    model, variables, images = _init(32, 64, levels=("pool1", "stage2"))
    stack = model.apply(variables, images, method="hypercolumns")
    maps = model.apply(variables, images, method="features")
    for channels, name in ((slice(0, 4), "pool1"), (slice(4, 8), "stage2")):
        blocks = stack[..., channels].reshape(2, 16, 2, 32, 2, 4).mean((2, 4))
        x = maps[name]
        x = x[:, :-2] / 8 + x[:, 1:-1] * 3 / 4 + x[:, 2:] / 8
        x = x[:, :, :-2] / 8 + x[:, :, 1:-1] * 3 / 4 + x[:, :, 2:] / 8
        np.testing.assert_allclose(blocks[:, 1:-1, 1:-1], x, atol=1e-5)


def test_masks_are_the_interpolated_classifiers_of_each_pixels_hypercolumn():
    """By hand: hypercolumns at the middles of pixels, each cell's classifier, the probabilities interpolated."""
    levels = ("pool2", "stage4", "fc7")
    model, variables, images = _init(48, 64, levels=levels)
    boxes = jnp.asarray([[[8.0, 8, 40, 32], [3.5, 10.25, 20, 30]], [[0, 0, 64, 48], [30, 5, 33, 40]]])
    maps = model.apply(variables, images, method="features")
    index = jnp.asarray([0, 0, 1, 1])
    options = {"sampling_ratio": 1, "aligned": True}
    stack = jnp.concatenate(
        [
            roi_align(maps[t], boxes.reshape(4, 4), index, (6, 6), spatial_scale=1 / STRIDES[t], **options)
            for t in levels
        ],
        axis=-1,
    )
    kernel, bias = _joined(variables, "mask", levels)
    p = jax.nn.sigmoid(stack @ kernel + bias[None, None, None]).reshape(4, 6, 6, 2, 2)
    # Middles of 6 pixels among the middles of 2 cells, which lie at 1.5 and 4.5 pixels.
    share = np.clip((np.arange(6) + 0.5 - 1.5) / 3, 0, 1)
    weights = np.stack([1 - share, share], -1).astype(np.float32)
    expected = jnp.einsum("nijkl,ik,jl->nij", p, weights, weights)
    logits = jax.jit(lambda v, x, b: model.apply(v, x, b, method="masks"))(variables, images, boxes)
    assert logits.shape == (2, 2, 6, 6)
    np.testing.assert_allclose(jax.nn.sigmoid(logits).reshape(4, 6, 6), expected, atol=1e-5)


def test_interpolation_is_stable_and_one_classifier_is_itself():
    scores = jnp.asarray([-200.0, 0.0, 200.0])[:, None, None, None] * jnp.ones((3, 4, 4, 9))
    values, gradient = jax.value_and_grad(lambda s: interpolate_classifiers(s).sum())(scores)
    assert np.isfinite(values)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_allclose(interpolate_classifiers(scores), scores[..., 0], atol=1e-4)
    alone = jax.random.normal(jax.random.key(0), (5, 5, 1))
    np.testing.assert_allclose(interpolate_classifiers(alone), alone[..., 0], atol=1e-5)


@pytest.mark.parametrize("upsampling", [None, "transposed", "nearest"])
def test_any_size_comes_out_as_it_went_in(upsampling):
    model = create_model(
        "hypercolumn_vgg16",
        **TINY | {"backbone": SMALL | {"batch_norm": True}},
        upsampling=upsampling,
        dtype=jnp.bfloat16,
    )
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    for size in ((1, 1), (33, 50), (1025, 2049)):
        images, boxes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, *size, 3), (1, 4, 4)))
        logits = jax.eval_shape(model.apply, variables, images)
        assert (logits.shape, logits.dtype) == ((1, *size, 3), jnp.float32)
        masks = jax.eval_shape(lambda v, x, b: model.apply(v, x, b, method="masks"), variables, images, boxes)
        assert (masks.shape, masks.dtype) == ((1, 4, 50, 50), jnp.float32)


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"levels": ("conv9",)}, "pool2"),
        ({"levels": ("pool2", "pool2")}, "each once"),
        ({"grid": 0}, "at least 1"),
        ({"kernel_size": 2}, "odd"),
        ({"in_channels": 1}, "in_channels=3"),
    ],
)
def test_impossible_options(options, fix):
    model = create_model("hypercolumn_vgg16", **TINY | options)
    with pytest.raises(ConfigError, match=fix):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@pytest.mark.slow
def test_masks_are_learnt_and_better_from_all_depths():
    """Discs of two colors on noise, a box around each: the masks come to overlap the discs."""
    overlap = {levels: _overlap_of_discs(levels) for levels in (("pool2", "stage4", "fc7"), ("fc7",))}
    assert overlap["pool2", "stage4", "fc7"] > 0.93  # the whole boxes would have pi / 4
    assert overlap["pool2", "stage4", "fc7"] > overlap["fc7",] + 0.05


def _overlap_of_discs(levels):
    """IoU, over all boxes, of masks that were trained for a hundred steps."""
    rng = np.random.default_rng(0)
    objects, boxes = np.zeros((8, 64, 64), np.int32), np.zeros((8, 2, 4), np.float32)
    images = rng.normal(0, 0.3, (8, 64, 64, 3)).astype(np.float32)
    y, x = np.mgrid[:64, :64] + 0.5
    for n in range(8):
        for k, column in enumerate((16, 46)):
            cy, cx, radius = rng.uniform(20, 44), column, rng.uniform(8, 13)
            disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            objects[n][disc] = k + 1
            images[n][disc, k] += 2.0
            boxes[n, k] = cx - radius, cy - radius, cx + radius, cy + radius
    backbone = SMALL | {"widths": (8, 8, 16, 16, 16)}
    options = {"backbone": backbone, "levels": levels, "mask_size": 16, "dropout": 0.0}
    model = create_model("hypercolumn_vgg16", **TINY | options)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    targets, weights = mask_targets(objects, jnp.asarray([[1, 2]] * 8), boxes, 16)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = model.apply({"params": params}, images, boxes, method="masks", train=True)
            return mask_loss(logits, targets, weights).mean(), logits

        (_, logits), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to the integer count of steps
            updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, logits

    state = optimizer.init(params)
    for _ in range(100):
        params, state, logits = step(params, state)
    found = (logits > 0).astype(jnp.float32)
    return float((found * targets).sum() / jnp.maximum(found, targets).sum())
