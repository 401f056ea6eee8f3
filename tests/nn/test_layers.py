"""Layers against their Flax and PyTorch counterparts."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cvjax import nn


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2, ((0, 1), (2, 0))])
@pytest.mark.parametrize(("size", "groups"), [(1, 1), (3, 1), (3, 4)])
def test_conv_has_flaxs_arguments_parameters_and_values(padding, size, groups):
    options = {"strides": 2, "kernel_dilation": 2, "feature_group_count": groups, "padding": padding}
    if isinstance(padding, str) and padding == "SAME":
        options["kernel_dilation"] = 1
    ours, theirs = nn.Conv(8, (size, size), **options), linen.Conv(8, (size, size), **options)
    x = jax.random.normal(jax.random.key(0), (2, 9, 12, 4))
    variables = theirs.init(jax.random.key(1), x)
    mine = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, mine)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5)


def test_conv_pads_as_torch_and_computes_in_its_dtype():
    x = jnp.ones((1, 7, 8, 3))
    layer = nn.Conv(4, 3, strides=2, kernel_dilation=2, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), x)
    assert y.shape == (1, (7 + 4 - 5) // 2 + 1, (8 + 4 - 5) // 2 + 1, 4)
    assert y.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].dtype == jnp.float32


def test_conv_errors_name_the_fix():
    with pytest.raises(ValueError, match="must divide"):
        nn.Conv(4, 3, feature_group_count=2).init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))
    with pytest.raises(ValueError, match="REFLECT"):
        nn.Conv(4, 3, padding="REFLECT").init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))


def test_frozen_batch_norm_uses_and_keeps_its_statistics():
    x = jax.random.normal(jax.random.key(0), (8, 3)) * 3 + 1
    variables = nn.BatchNorm().init(jax.random.key(0), x, use_running_average=True)
    y, new = nn.BatchNorm(frozen=True).apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=1e-6)
    assert jax.tree.all(jax.tree.map(np.array_equal, new["batch_stats"], variables["batch_stats"]))


def test_batch_norm_momentum_is_the_decay():
    x = jax.random.normal(jax.random.key(0), (64, 3)) + 5.0
    norm = nn.BatchNorm(momentum=0.75)
    variables = norm.init(jax.random.key(0), x, use_running_average=True)
    _, new = norm.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.25 * x.mean(0), rtol=1e-5)


def _dropped(axis_name, x, key):
    return nn.Dropout(0.5, axis_name).apply({}, x, train=True, rngs={"dropout": key})


def test_dropout_masks_do_not_depend_on_devices():
    key, x = jax.random.key(3), jnp.ones((16, 5, 4))
    alone = jax.jit(lambda x: _dropped(None, x, key))(x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    sharded = jax.jit(lambda x: _dropped(None, x, key))(spread)
    mapped = jax.pmap(lambda x: _dropped("data", x, key), axis_name="data")(x.reshape(8, 2, 5, 4))
    np.testing.assert_array_equal(alone, sharded)
    np.testing.assert_array_equal(alone, mapped.reshape(x.shape))
    assert len({row.tobytes() for row in np.asarray(alone)}) == 16  # every example has its own mask
    assert set(np.unique(alone)) == {0.0, 2.0}


def test_dropout_is_the_identity_in_evaluation_and_checks_its_rate():
    x = jnp.ones((2, 3))
    assert nn.Dropout(0.5).apply({}, x) is x
    with pytest.raises(ValueError, match="below 1"):
        nn.Dropout(1.0).apply({}, x)


def test_separable_conv_keeps_the_size_and_has_few_parameters():
    x = jnp.ones((2, 9, 7, 6))
    y, variables = nn.SeparableConv(10, 3, dilation=4).init_with_output(jax.random.key(0), x)
    assert y.shape == (2, 9, 7, 10)
    kernels = {k: v["conv"]["kernel"].shape for k, v in variables["params"].items()}
    assert kernels == {"depthwise": (3, 3, 1, 6), "pointwise": (1, 1, 6, 10)}
