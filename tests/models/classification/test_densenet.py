"""DenseNet: concatenation, compression, and gradients with maps computed anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model

TINY = {"block_sizes": (2, 3), "growth": 4, "stem_features": 8}


def test_every_map_of_a_block_is_passed_on():
    model = create_model("densenet100_k12_cifar", num_classes=0, **TINY)
    images = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    maps, variables = jax.jit(lambda key, x: model.init_with_output(key, x, method="features"))(
        jax.random.key(1), images
    )
    assert maps["block1"].shape == (1, 8, 8, 8 + 2 * 4)
    np.testing.assert_array_equal(maps["block1"][..., :8], maps["stem"])
    kernels = {name: tree["conv1"]["kernel"].shape for name, tree in variables["params"].items() if "layer" in name}
    # 16 channels leave the first block, half of them the transition; every layer adds four.
    assert [kernels[f"block2_layer{i}"] for i in (1, 2, 3)] == [(1, 1, n, 16) for n in (8, 12, 16)]


@pytest.mark.parametrize("compression", [0.25, 1.0])
def test_compression(compression):
    model = create_model("densenet121", num_classes=0, compression=compression)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    assert variables["params"]["transition1"]["conv"]["kernel"].shape == (1, 1, 256, int(256 * compression))


def test_checkpointing_gives_the_same_gradients_and_keeps_fewer_maps():
    options = {"num_classes": 2, "block_sizes": (3,), "growth": 8, "stem_features": 8, "small_images": True}
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    plain, spare = (create_model("densenet121", checkpoint=checkpoint, **options) for checkpoint in (False, True))
    variables = jax.jit(plain.init)(jax.random.key(1), images)

    def logits(model, params):
        return model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])

    def gradients(model):
        def loss(params):
            return jnp.square(logits(model, params)[0]).sum()

        return jax.jit(jax.grad(loss))(variables["params"])

    def kept(model):
        """Elements that wait for the backward pass."""
        pull = jax.eval_shape(lambda params: jax.vjp(lambda p: logits(model, p)[0], params)[1], variables["params"])
        return sum(leaf.size for leaf in jax.tree.leaves(pull))

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradients(plain), gradients(spare)
    )
    assert kept(spare) < 0.4 * kept(plain)


def test_strides():
    model = create_model("densenet121", num_classes=0)
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    for name, stride in {"stem": 2, "block1": 4, "block2": 8, "block3": 16, "block4": 32}.items():
        assert maps[name].shape[1:3] == (64 // stride, 96 // stride)


@pytest.mark.parametrize(("name", "size", "fix"), [("densenet121", 28, "29x29"), ("densenet100_k12_cifar", 3, "4x4")])
def test_too_small_images(name, size, fix):
    model = create_model(name, num_classes=2)
    with pytest.raises(ConfigError, match=fix):
        model.init(jax.random.key(0), jnp.zeros((1, size, size, 3)))
    size = int(fix.split("x")[0])
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


@pytest.mark.parametrize("output_stride", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_denser_maps_hold_the_strided_ones(output_stride):
    options = {"num_classes": 0, **TINY, "block_sizes": (1, 1, 2, 1)}
    strided, dense = (create_model("densenet121", output_stride=s, **options) for s in (32, output_stride))
    images = jax.random.normal(jax.random.key(0), (1, 64, 96, 3))
    variables = jax.jit(strided.init)(jax.random.key(1), images)
    a, b = (jax.jit(lambda x, m=m: m.apply(variables, x, method="features"))(images) for m in (strided, dense))
    for name, stride in {"stem": 2, "block1": 4, "block2": 8, "block3": 16, "block4": 32}.items():
        kept = min(stride, output_stride)
        assert b[name].shape[1:3] == (64 // kept, 96 // kept)
        np.testing.assert_allclose(b[name][:, :: stride // kept, :: stride // kept], a[name], atol=1e-5)


def test_output_strides_have_their_own_smallest_image_and_others_are_refused():
    options = {**TINY, "block_sizes": (1, 1, 1, 1)}
    for output_stride, smallest in ((8, 5), (16, 13)):
        model = create_model("densenet121", num_classes=2, output_stride=output_stride, **options)
        with pytest.raises(ConfigError, match=f"{smallest}x{smallest}"):
            model.init(jax.random.key(0), jnp.zeros((1, smallest - 1, smallest - 1, 3)))
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, smallest, smallest, 3)))
    with pytest.raises(ConfigError, match="8, 16 or 32"):
        create_model("densenet121", num_classes=2, output_stride=4).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_normalized_maps_are_those_that_transitions_convolve():
    """They are the plain maps after the next BatchNorm and ReLU; the last one is before its ReLU."""
    plain, encoder = (create_model("densenet121", num_classes=0, normalized_maps=on, **TINY) for on in (False, True))
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(plain.init, jax.random.key(1), images)

    def draw(leaf):  # kernels of both signs, statistics above zero
        value = rng.normal(size=leaf.shape) / 8 if leaf.ndim == 4 else rng.uniform(0.5, 1.5, leaf.shape)
        return value.astype(np.float32)

    variables = jax.tree.map(draw, shapes)
    # Not compiled as a whole, where sums may be ordered otherwise in each.
    before, after = (net.apply(variables, images, method="features") for net in (plain, encoder))
    params, statistics = (variables[kind]["transition1"]["norm"] for kind in ("params", "batch_stats"))
    scaled = (np.asarray(before["block1"]) - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5)
    expected = np.maximum(scaled * params["scale"] + params["bias"], 0)
    np.testing.assert_allclose(after["block1"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.maximum(after["block2"], 0), before["block2"])
    assert (after["block2"] < 0).any()
    with pytest.raises(ConfigError, match="normalized_maps is for encoders"):
        create_model("densenet121", num_classes=2, normalized_maps=True).init(jax.random.key(0), images)
