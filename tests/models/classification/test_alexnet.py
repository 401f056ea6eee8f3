"""AlexNet: two groups, local response normalization, activations and dropout."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model


def _shapes(name, **options):
    model = create_model(name, num_classes=10, **options)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 96, 96, 3)))
    return jax.tree.map(lambda leaf: leaf.shape, variables["params"])


def test_groups_lie_where_the_paper_has_them():
    kernels = [_shapes("alexnet_grouped")[f"conv_{i}"]["kernel"] for i in range(5)]
    assert kernels == [(11, 11, 3, 96), (5, 5, 48, 256), (3, 3, 256, 384), (3, 3, 192, 384), (3, 3, 192, 256)]


def test_the_published_size_leaves_six_pixels():
    for name, size in (("alexnet", 224), ("alexnet_grouped", 227)):
        model = create_model(name, num_classes=0)
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        maps = jax.eval_shape(lambda v, x, m=model: m.apply(v, x, method="features"), variables, images)
        assert [maps[key].shape[1] for key in ("conv1", "conv2", "conv5", "pool5")] == [55, 27, 13, 6]


def test_the_two_towers_do_not_see_each_other():
    """Convolutions 4 and 5 of one tower depend on the half of conv3's output that lies with it alone."""
    model = create_model("alexnet_grouped", num_classes=0, hidden=8)
    images = jax.random.normal(jax.random.key(0), (1, 67, 67, 3))
    params = jax.jit(model.init)(jax.random.key(1), images)["params"]
    cut = {**params, "conv_3": {**params["conv_3"], "kernel": params["conv_3"]["kernel"].at[..., 192:].set(0.0)}}

    def conv5(parameters):
        return jax.jit(lambda p: model.apply({"params": p}, images, method="features")["conv5"])(parameters)

    before, after = conv5(params), conv5(cut)
    np.testing.assert_array_equal(before[..., :128], after[..., :128])
    assert jnp.abs(before[..., 128:] - after[..., 128:]).max() > 0


@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0, np.inf), ("sigmoid", 0, 1), ("tanh", -1, 1)])
def test_activations(activation, low, high):
    model = create_model("alexnet", num_classes=0, activation=activation, hidden=8)
    images = 3 * jax.random.normal(jax.random.key(0), (1, 63, 63, 3))
    maps, _ = jax.jit(lambda key, x: model.init_with_output(key, x, method="features"))(jax.random.key(1), images)
    assert maps["conv1"].min() >= low
    assert maps["conv1"].max() <= high
    assert maps["conv1"].max() > (1 if activation == "relu" else 0.9)


def test_dropout_acts_in_training_only_and_by_its_key():
    model = create_model("alexnet", num_classes=4, hidden=32)
    images = jax.random.normal(jax.random.key(0), (2, 63, 63, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    train = jax.jit(lambda key: model.apply(variables, images, train=True, rngs={"dropout": key}))
    first, again, other = (train(jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 0


@pytest.mark.parametrize(
    ("name", "options", "shape", "fix"),
    [
        ("alexnet", {}, (1, 62, 80, 3), "63x80"),
        ("alexnet_grouped", {}, (1, 66, 66, 3), "67x67"),
        ("alexnet", {"activation": "gelu"}, (1, 64, 64, 3), "sigmoid"),
        ("alexnet", {}, (1, 3, 64, 64), "last axis"),
    ],
)
def test_impossible_images_and_options(name, options, shape, fix):
    with pytest.raises(ConfigError, match=fix):
        create_model(name, num_classes=2, **options).init(jax.random.key(0), jnp.zeros(shape))


def test_poolings_keep_the_last_row():
    sides, images = {}, jnp.zeros((1, 135, 163, 3))
    for ceil in (False, True):
        model = create_model(
            "alexnet_grouped",
            num_classes=2,
            channels=(4, 4, 4, 4, 4),
            hidden=4,
            stem_padding=5,
            pool_padding=1,
            ceil_mode=ceil,
        )
        made = jax.eval_shape(partial(model.init_with_output, method="features"), jax.random.key(0), images)
        maps = made[0]
        sides[ceil] = [maps[name].shape[1:3] for name in ("conv1", "conv2", "conv5")]
    assert sides == {False: [(34, 41), (17, 21), (9, 11)], True: [(34, 41), (18, 21), (10, 11)]}
