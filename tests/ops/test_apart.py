"""What keeps XLA from merging work: values stay, and the compiled programs show that it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from cvjax.ops.conv import conv2d
from cvjax.ops.cpu import depthwise
from cvjax.ops.cpu.apart import computed_apart
from cvjax.ops.pool import max_pool
from cvjax.ops.recompute import recomputed, written_once
from cvjax.runtime.compiler import unstored


@pytest.mark.parametrize("first", [0.0, -0.0, 1.5, -np.inf, np.inf, np.nan])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_computed_apart_gives_what_the_function_gives(first, dtype):
    x = jnp.asarray([[first, 2.0], [3.0, 4.0]], dtype)
    y = jnp.ones((2,), dtype)
    got = jax.jit(lambda x, y: computed_apart(lambda x, y: x * 2 + y[None], x, y))(x, y)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.astype(jnp.float32), (x * 2 + 1).astype(jnp.float32))


@pytest.mark.parametrize("block", [0, 2**21])
@pytest.mark.usefixtures("stored_and_local")
def test_devices_that_each_have_their_images(block, monkeypatch):
    """Depthwise kernels and max-pools, whose gradients are computed apart, under `shard_map` as on one device.

    Also where a device sums the kernel's gradient over several blocks.
    """
    monkeypatch.setattr(depthwise, "_BLOCK", block)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 9, 9, 8)), jnp.float32)
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 1, 8)), jnp.float32)

    def loss(kernel, x):
        y = conv2d(x, kernel, padding=((1, 1), (1, 1)), groups=8)
        return (max_pool(y, (3, 3), strides=(2, 2)) ** 2).sum()

    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    spread = jax.shard_map(
        jax.grad(lambda kernel, x: jax.lax.psum(loss(kernel, x), "data"), (0, 1)),
        mesh=mesh,
        in_specs=(P(), P("data")),
        out_specs=(P(), P("data")),
    )
    for got, right in zip(jax.jit(spread)(kernel, x), jax.jit(jax.grad(loss, (0, 1)))(kernel, x)):
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-4)


def test_computed_apart_is_no_part_of_the_loops_that_read_it():
    def two_readers(x, apart):
        once = computed_apart(jnp.sin, x) if apart else jnp.sin(x)
        return once.sum(0) + 1, once * 2

    x = jnp.ones((64, 64))
    texts = [jax.jit(two_readers, static_argnums=1).lower(x, apart).compile().as_text() for apart in (False, True)]
    assert ["conditional(" in text for text in texts] == [False, True]
    assert texts[1].count("sine(") == 1


@pytest.mark.usefixtures("stored_and_local")
@pytest.mark.parametrize("first", [0.0, -3.0, np.inf, -np.inf])
def test_recomputed_is_the_same_array(first):
    x = jnp.asarray([0.0, -0.0, np.inf, 5.0])
    got = jax.jit(recomputed)(x, jnp.asarray([[np.nan, first]]))  # the middle one counts
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(jax.jit(recomputed)(x, jnp.zeros((0, 3))), x)


@pytest.mark.usefixtures("stored_and_local")
@pytest.mark.parametrize("known", [np.zeros((2, 2)), np.full(3, np.nan), np.zeros((0, 3))])
def test_what_is_written_once_is_the_same_array(known):
    x = jnp.asarray([[0.0, -0.0, np.inf], [5.0, np.nan, -1.0]])
    np.testing.assert_array_equal(jax.jit(written_once)(x, known), x)
    np.testing.assert_array_equal(jax.jit(jax.vmap(written_once, (0, None)))(x, known), x)
    np.testing.assert_array_equal(jax.jit(jax.vmap(written_once, (None, 0)))(x, jnp.stack([known] * 2)), [x, x])


def test_what_is_written_once_is_in_one_loop():
    def two_readers(x, y, once):
        difference = written_once(x - y, x) if once else x - y
        return jnp.pad(difference, 1), jnp.pad(difference, 2) * y[0, 0]

    x = jnp.ones((64, 64))
    with unstored():
        texts = [jax.jit(two_readers, static_argnums=2).lower(x, x, once).compile().as_text() for once in (False, True)]
    assert [text.count(" subtract(") for text in texts] == [2, 1]


def test_what_is_recomputed_is_computed_twice():
    """In programs of this process; XLA for CPU merges it in others."""

    def twice(x, ct, again):
        return x @ x, (recomputed(x, ct) @ x if again else x @ x) + ct

    x = jnp.ones((32, 32))
    with unstored():
        texts = [jax.jit(twice, static_argnums=2).lower(x, x, again).compile().as_text() for again in (False, True)]
    assert [text.count(" dot(") for text in texts] == [1, 2]
