"""VGG: dense layers that slide, denser maps with the same weights, and what 3x3 convolutions cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.nn import Conv

TINY = {"stage_sizes": (1, 1, 1, 1, 1), "hidden": 16}


def _parameters(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _init(model, *shape):
    images = jax.random.normal(jax.random.key(0), shape)
    return images, jax.jit(model.init)(jax.random.key(1), images)


@pytest.mark.slow
def test_sliding_dense_layers_give_the_logits_of_each_window():
    dense = create_model("vgg11", num_classes=5, **TINY)
    sliding = create_model("vgg11", num_classes=5, fully_convolutional=True, **TINY)
    images, variables = _init(dense, 1, 256, 288, 3)
    scores = jax.jit(sliding.apply)(variables, images)
    assert scores.shape == (1, 2, 3, 5)
    pool5 = dense.apply(variables, images, method="features")["pool5"]
    for row in range(2):
        for column in range(3):
            window = pool5[:, row : row + 7, column : column + 7]
            logits = dense.apply(variables, window, method=lambda self, x: self.head(x))
            np.testing.assert_allclose(scores[:, row, column], logits[:, 0, 0], atol=1e-5)


def test_both_forms_agree_on_one_window_and_have_the_same_parameters():
    dense, sliding = (create_model("vgg11_bn", num_classes=5, fully_convolutional=f, **TINY) for f in (False, True))
    images, variables = _init(dense, 1, 224, 224, 3)
    np.testing.assert_allclose(
        jax.jit(sliding.apply)(variables, images)[:, 0, 0], jax.jit(dense.apply)(variables, images), atol=1e-5
    )


@pytest.mark.parametrize("output_stride", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_denser_maps_hold_the_strided_ones(output_stride):
    coarse, dense = (create_model("vgg11", num_classes=0, output_stride=s, **TINY) for s in (32, output_stride))
    images, variables = _init(coarse, 1, 64, 96, 3)
    a, b = (jax.jit(lambda x, m=m: m.apply(variables, x, method="features"))(images) for m in (coarse, dense))
    step = 32 // output_stride
    assert b["pool5"].shape[1:3] == (64 // output_stride, 96 // output_stride)
    np.testing.assert_allclose(b["pool5"][:, ::step, ::step], a["pool5"], atol=1e-5)


def test_denser_score_maps_hold_the_coarse_ones():
    options = {"num_classes": 3, "fully_convolutional": True, **TINY}
    coarse, dense = (create_model("vgg11", output_stride=s, **options) for s in (32, 16))
    images, variables = _init(coarse, 1, 256, 256, 3)
    fine = jax.jit(dense.apply)(variables, images)
    assert fine.shape == (1, 4, 4, 3)
    np.testing.assert_allclose(fine[:, ::2, ::2], jax.jit(coarse.apply)(variables, images), atol=1e-5)


def test_two_3x3_have_18_weights_where_one_5x5_has_25():
    x = jnp.zeros((1, 8, 8, 6))

    def weights(*sizes):
        total, y = 0, x
        for size in sizes:
            y, variables = Conv(6, (size, size), use_bias=False).init_with_output(jax.random.key(0), y)
            total += _parameters(variables)
        return total / 6**2

    assert (weights(3, 3), weights(5), weights(3, 3, 3), weights(7)) == (18, 25, 27, 49)


def test_features_are_named_before_and_behind_each_pooling():
    model = create_model("vgg16", num_classes=0)
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    for stage, width in enumerate((64, 128, 256, 512, 512), start=1):
        assert maps[f"stage{stage}"].shape == (1, 128 // 2**stage, 192 // 2**stage, width)
        assert maps[f"pool{stage}"].shape == (1, 64 // 2**stage, 96 // 2**stage, width)


@pytest.mark.parametrize(
    ("options", "size", "fix"),
    [
        ({}, 31, "32x32"),
        ({"fully_convolutional": True}, 200, "224x224"),
        ({"in_channels": 1}, 64, "in_channels=3"),
        ({"output_stride": 4}, 64, "8, 16 or 32"),
    ],
)
def test_impossible_images_and_options(options, size, fix):
    with pytest.raises(ConfigError, match=fix):
        create_model("vgg11", num_classes=2, **options).init(jax.random.key(0), jnp.zeros((1, size, size, 3)))


def test_windows_of_three_stay_on_the_images_corner_and_take_any_size():
    """Pixel j of a map of stride s is at pixel s * j: one bright pixel comes out as the brightest there."""
    model = create_model("vgg11", num_classes=0, pool_size=3, **TINY)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 33, 33, 3)))
    ones = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    for name, layer in ones["params"].items():
        if name.startswith("conv"):
            layer["kernel"][1, 1] = 1 / layer["kernel"].shape[2]
    images = jnp.zeros((1, 49, 65, 3)).at[:, 16, 48].set(1.0)
    maps = model.apply(ones, images, method="features")
    for stage in range(1, 5):
        step = 2**stage
        pooled = np.asarray(maps[f"pool{stage}"][0, ..., 0])
        assert pooled.shape == (48 // step + 1, 64 // step + 1)
        assert pooled[16 // step, 48 // step] == pooled.max() > 0
    one = jax.ShapeDtypeStruct((1, 1, 1, 3), jnp.float32)
    assert jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), shapes, one)["pool5"].shape[1:3] == (1, 1)
    with pytest.raises(ConfigError, match="2 or 3"):
        jax.eval_shape(create_model("vgg11", num_classes=0, pool_size=4).init, jax.random.key(0), images)
