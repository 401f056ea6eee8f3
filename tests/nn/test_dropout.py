"""Dropout and stochastic depth: masks that depend on the key and the row alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cvjax import nn


def _dropped(x, key):
    return nn.Dropout(0.5).apply({}, x, train=True, rngs={"dropout": key})


def test_dropout_masks_do_not_depend_on_devices():
    key, x = jax.random.key(3), jnp.ones((16, 5, 4))
    alone = jax.jit(lambda x: _dropped(x, key))(x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    sharded = jax.jit(lambda x: _dropped(x, key))(spread)
    mapped = jax.pmap(lambda x: _dropped(x, key), axis_name="data")(x.reshape(8, 2, 5, 4))
    np.testing.assert_array_equal(alone, sharded)
    np.testing.assert_array_equal(alone, mapped.reshape(x.shape))
    assert len({row.tobytes() for row in np.asarray(alone)}) == 16  # every example has its own mask
    assert set(np.unique(alone)) == {0.0, 2.0}


def test_dropout_is_the_identity_in_evaluation_and_checks_its_rate():
    x = jnp.ones((2, 3))
    assert nn.Dropout(0.5).apply({}, x) is x
    with pytest.raises(ValueError, match="below 1"):
        nn.Dropout(1.0).apply({}, x)


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    x = jax.random.normal(jax.random.key(0), (4096, 3, 2)) + 4
    y = nn.DropPath(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(1)})
    ratio = np.asarray(y / x)
    kept = ratio[:, 0, 0] > 0
    np.testing.assert_allclose(ratio, np.broadcast_to(kept[:, None, None] / 0.75, x.shape), rtol=1e-5)
    assert abs(kept.mean() - 0.75) < 0.03
    assert nn.DropPath(0.25).apply({}, x) is x
    with pytest.raises(ValueError, match="DropPath"):
        nn.DropPath(-0.1).apply({}, x)
