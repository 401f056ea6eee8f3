"""DenseNet: concatenation, compression, and gradients with maps computed anew."""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.nn import DATA_AXIS

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


def test_checkpointing_gives_the_same_gradients_and_keeps_no_bottleneck():
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
    bottlenecks = 3 * (4 * 8 * 8) * 32  # of three layers, four times the growth in channels
    assert kept(plain) - kept(spare) == bottlenecks


class Concatenating(nn.Module):
    """A dense block in stock Flax, by the paper's figure 1: every map is copied, normalized and averaged anew."""

    layers: int
    growth: int

    @nn.compact
    def __call__(self, x):
        for i in range(1, self.layers + 1):
            y = x
            for number, (features, size) in enumerate(((4 * self.growth, 1), (self.growth, 3)), start=1):
                norm = nn.BatchNorm(use_running_average=False, momentum=0.9, name=f"layer{i}_norm{number}")
                conv = nn.Conv(features, (size, size), use_bias=False, name=f"layer{i}_conv{number}")
                y = conv(nn.relu(norm(y)))
            x = jnp.concatenate([x, y], axis=-1)
        return x


@pytest.mark.usefixtures("stored_and_local")
@pytest.mark.parametrize("checkpoint", [False, True])
def test_one_buffer_a_block_gives_what_concatenation_gives(checkpoint):
    """Maps, running statistics, and gradients for the image and for every parameter."""
    net = create_model(
        "densenet121", num_classes=0, block_sizes=(4, 1), growth=4, stem_features=6, small_images=True,
        checkpoint=checkpoint,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(3, 6, 5, 3)), jnp.float32)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 3 + (leaf.ndim == 1), jnp.float32),
        jax.eval_shape(net.init, jax.random.key(0), images),
    )
    weight = jnp.asarray(rng.normal(size=(3, 6, 5, 6 + 4 * 4)), jnp.float32)

    def ours(params, images):
        (maps, new) = net.apply(
            {**variables, "params": params}, images, train=True, method="features", mutable=["batch_stats"]
        )
        return (maps["block1"] * weight).sum(), (maps["block1"], new["batch_stats"])

    def regrouped(tree):
        return {
            f"{name.removeprefix('block1_')}_{part}": leaves
            for name, parts in tree.items() if name.startswith("block1_")
            for part, leaves in parts.items()
        }  # fmt: skip

    def flax(params, images):
        stem = jax.lax.conv_general_dilated(
            images, params["stem_conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        maps, new = Concatenating(4, 4).apply(
            {"params": regrouped(params), "batch_stats": regrouped(variables["batch_stats"])},
            stem, mutable=["batch_stats"],
        )  # fmt: skip
        return (maps * weight).sum(), (maps, new["batch_stats"])

    (_, (maps, averages)), gradients = jax.jit(jax.value_and_grad(ours, (0, 1), has_aux=True))(
        variables["params"], images
    )
    (_, (expected, expected_averages)), expected_gradients = jax.jit(jax.value_and_grad(flax, (0, 1), has_aux=True))(
        variables["params"], images
    )
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(regrouped(averages), expected_averages, rtol=1e-4, atol=1e-4)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected_gradients))
    chex.assert_trees_all_close(gradients, expected_gradients, rtol=1e-3, atol=1e-5 * largest)


def test_a_block_on_devices_that_each_hold_a_part_of_the_batch():
    net = create_model("densenet121", num_classes=2, block_sizes=(2, 2), growth=4, stem_features=6, small_images=True)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = jax.jit(net.init)(jax.random.key(1), images)

    def step(params, images):
        def loss(params):
            logits, new = net.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.square(logits).sum(), new["batch_stats"]

        (value, averages), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        return value, averages, gradients

    def on_one(params, images):
        value, averages, gradients = step(params, images)
        return jax.lax.psum(value, DATA_AXIS), averages, gradients

    mesh = jax.make_mesh((2,), (DATA_AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    spread = jax.jit(jax.shard_map(on_one, mesh=mesh, in_specs=(P(), P(DATA_AXIS)), out_specs=P()))
    chex.assert_trees_all_close(
        spread(variables["params"], images), jax.jit(step)(variables["params"], images), rtol=2e-3, atol=2e-4
    )


def test_gradients_of_each_example_by_itself():
    """As `jax.vmap` makes them, of a net that each example is a batch for."""
    net = create_model("densenet121", num_classes=2, block_sizes=(2, 1), growth=4, stem_features=6, small_images=True)
    images = jax.random.normal(jax.random.key(0), (3, 1, 8, 8, 3))
    variables = jax.jit(net.init)(jax.random.key(1), images[0])

    def gradient(images):
        def loss(params):
            logits, _ = net.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.square(logits).sum()

        return jax.grad(loss)(variables["params"])

    together, apart = jax.jit(jax.vmap(gradient))(images), [jax.jit(gradient)(image) for image in images]
    for i, each in enumerate(apart):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        chex.assert_trees_all_close(one, each, rtol=2e-3, atol=2e-4)


def test_a_block_in_bfloat16_and_with_dropout():
    options = {"num_classes": 0, "block_sizes": (3, 1), "growth": 8, "stem_features": 6, "small_images": True}
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    wide = create_model("densenet121", **options)
    variables = jax.jit(wide.init)(jax.random.key(1), images)

    def maps(net):
        run = partial(net.apply, train=True, method="features", mutable=["batch_stats"])
        return jax.jit(run)(variables, images, rngs={"dropout": jax.random.key(2)})[0]["block1"]

    expected = maps(wide)
    narrow = maps(create_model("densenet121", dtype=jnp.bfloat16, **options))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), expected, atol=0.1)

    dropped = maps(create_model("densenet121", layer_dropout=0.25, **options))
    first = slice(6, 6 + 8)  # of the first layer, which sees nothing that was dropped
    kept = dropped[..., first] != 0
    np.testing.assert_allclose(dropped[..., first], jnp.where(kept, expected[..., first] / 0.75, 0), atol=1e-4)
    assert 0.65 < kept.mean() < 0.85
    np.testing.assert_array_equal(dropped[..., :6], expected[..., :6])


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
