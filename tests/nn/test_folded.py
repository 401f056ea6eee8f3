"""BatchNorm folded into a 1x1 convolution, against the two layers one after another."""

from functools import partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from cvjax import nn

X = jax.nn.softplus(2 * jax.random.normal(jax.random.key(0), (8, 6, 6, 8)))  # as behind a ReLU: the mean is not zero
FEATURES = 24
SLOPES = np.arange(1, FEATURES + 1, dtype=np.float32)[None, None, None] / 8


class Layers(linen.Module):
    folded: bool
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @linen.compact
    def __call__(self, x):
        conv = partial(nn.TorchConv, FEATURES, 1, self.stride, use_bias=False, dtype=self.dtype, name="conv")
        norm = nn.BatchNorm(dtype=self.dtype, name="norm", scale_init=linen.initializers.normal(1))
        return nn.folded_conv_norm(conv, norm, x) if self.folded else norm(conv()(x), False)


def variables(layers: Layers):
    return jax.jit(layers.init)(jax.random.key(1), X)


def outcome(layers: Layers, given, x):
    """Output, new statistics, and gradients by parameters and maps."""

    def loss(params, x):
        y, new = layers.apply({**given, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y.astype(jnp.float32) * SLOPES)), (y, new)

    gradients, outputs = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(given["params"], x)
    return outputs, gradients


def assert_close(found, want, tolerance):
    def near(got, wanted):
        wanted = np.asarray(wanted, np.float64)
        np.testing.assert_allclose(np.asarray(got, np.float64), wanted, atol=tolerance * np.abs(wanted).max())

    jax.tree.map(near, found, want)


@pytest.mark.parametrize("stride", [1, 2])
def test_folded_is_one_after_another(stride):
    plain, folded = Layers(False, stride), Layers(True, stride)
    given = variables(plain)
    assert jax.tree.all(jax.tree.map(np.array_equal, variables(folded), given))
    assert_close(outcome(folded, given, X), outcome(plain, given, X), 5e-5)


def test_bfloat16_is_as_near_to_the_truth():
    given, x = variables(Layers(False)), X.astype(jnp.bfloat16)
    truth = outcome(Layers(False), given, x.astype(jnp.float32))

    def error(found):
        return [
            np.linalg.norm((a - np.asarray(b, np.float32)).ravel()) / np.linalg.norm(a)
            for a, b in zip(*map(jax.tree.leaves, (truth, found)))
        ]

    plain, folded = (error(outcome(Layers(way, dtype=jnp.bfloat16), given, x)) for way in (False, True))
    assert max(plain) > 1e-4  # they do round
    assert all(a <= 2 * b + 1e-3 for a, b in zip(folded, plain))


def test_statistics_are_those_of_all_devices():
    given = variables(Layers(True))

    def step(x):
        y, new = Layers(True).apply(given, x, mutable=["batch_stats"])
        return y, new

    mesh = Mesh(np.array(jax.devices()[:4]), (nn.DATA_AXIS,))
    spread = jax.shard_map(step, mesh=mesh, in_specs=P(nn.DATA_AXIS), out_specs=(P(nn.DATA_AXIS), P()))
    assert_close(jax.jit(spread)(X), jax.jit(step)(X), 1e-5)


@pytest.mark.parametrize("folded", [False, True])
def test_what_was_put_out_is_not_kept(folded):
    layers = Layers(folded)
    given = variables(layers)

    def apply(params, x):
        return layers.apply({**given, "params": params}, x, mutable=["batch_stats"])[0]

    _, pull = jax.vjp(apply, given["params"], X)
    kept = [x.shape for x in jax.tree.leaves(pull)]
    assert X.shape in kept
    assert ((*X.shape[:-1], FEATURES) in kept) is not folded


def test_pooled_before_normalized_is_the_other_way_round():
    pool = partial(nn.max_pool, window_shape=3, strides=2, padding=1)
    norm = nn.BatchNorm(False, scale_init=linen.initializers.normal(1))
    given = jax.jit(norm.init)(jax.random.key(1), X)
    assert given["params"]["scale"].min() < 0 < given["params"]["scale"].max()

    def after(bound, x):
        y = bound(x)
        return y, pool(y)

    def outcomes(method):
        def loss(params, x):
            (y, pooled), new = norm.apply({**given, "params": params}, x, method=method, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(pooled)), (y, pooled, new)

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(given["params"], X)

    # Pixels differ, so that no two of a window are the largest.
    assert_close(outcomes(lambda bound, x: nn.norm_and_pool(bound, x, pool)), outcomes(after), 1e-5)


def test_relu_by_output_is_relu():
    x, slopes = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0]), jnp.arange(1.0, 6.0)
    for ours, theirs in zip(*(jax.vjp(relu, x) for relu in (nn.relu_by_output, jax.nn.relu))):
        if callable(ours):
            ours, theirs = ours(slopes), theirs(slopes)
        np.testing.assert_array_equal(ours, theirs)
