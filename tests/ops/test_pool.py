"""Pooling against Flax, and against PyTorch's rules written out window by window."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cvjax.ops.pool import avg_pool, global_avg_pool, global_max_pool, max_pool

_FLAXS_AVG_POOL = jax.numpy_dtype_promotion("standard")(linen.avg_pool)  # it divides floats by integers


def _maps(*shape, ties=False):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(-3, 3, shape) if ties else rng.standard_normal(shape) - 5, jnp.float32)


def _value_and_gradient(pool):
    def run(x):
        y, pull = jax.vjp(pool, x)
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return jax.jit(run)


@given(
    batch=st.integers(0, 2),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    strides=st.one_of(st.none(), st.tuples(st.integers(1, 4), st.integers(1, 3))),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(*[st.integers(0, 2)] * 4)),
    include=st.booleans(),
    ties=st.booleans(),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_values_and_gradients_equal_flaxs(batch, size, window, strides, padding, include, ties):
    if not isinstance(padding, str):
        padding = tuple(tuple(min(p, k // 2) for p in pads) for pads, k in zip((padding[:2], padding[2:]), window))
    assume(padding == "SAME" or all(n >= k for n, k in zip(size, window)))
    x = _maps(batch, *size, 3, ties=ties)
    for ours, flaxs in (
        (max_pool, linen.max_pool),
        (partial(avg_pool, count_include_pad=include), partial(_FLAXS_AVG_POOL, count_include_pad=include)),
    ):
        arguments = {"window_shape": window, "strides": strides, "padding": padding}
        got = _value_and_gradient(partial(ours, **arguments))(x)
        for a, b in zip(got, _value_and_gradient(partial(flaxs, **arguments))(x)):
            np.testing.assert_allclose(a, b, atol=1e-5)


def _windows(x, window, stride, pad, ceil_mode):
    """For each output: its window on the map, and its pixels inside map and padding (torch.nn.MaxPool2d's rules)."""
    height, width = x.shape[1:3]

    def starts(size):
        count = (size + 2 * pad - window) / stride + 1
        count = int(np.ceil(count) if ceil_mode else np.floor(count))
        if ceil_mode and (count - 1) * stride >= size + pad:
            count -= 1
        return [i * stride - pad for i in range(count)]

    for i, top in enumerate(starts(height)):
        for j, left in enumerate(starts(width)):
            view = x[:, max(0, top) : top + window, max(0, left) : left + window]
            inside = (min(top + window, height + pad) - top) * (min(left + window, width + pad) - left)
            yield (i, j), view, inside


@pytest.mark.usefixtures("stored_and_local")
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("side", [(7, 10), (8, 9), (5, 5)])
@pytest.mark.parametrize(("window", "stride", "pad"), [(3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 3, 1), (2, 3, 0)])
def test_pools_are_torchs(side, window, stride, pad, ceil_mode):
    x = np.asarray(_maps(1, *side, 2))
    maxima, means, means_on_map = (
        np.asarray(pool(x, window, stride, pad, ceil_mode=ceil_mode))
        for pool in (max_pool, avg_pool, partial(avg_pool, count_include_pad=False))
    )
    last = None
    for (i, j), view, inside in _windows(x, window, stride, pad, ceil_mode):
        np.testing.assert_allclose(maxima[:, i, j], view.max((1, 2)))
        np.testing.assert_allclose(means[:, i, j], view.sum((1, 2)) / inside, rtol=1e-5)
        np.testing.assert_allclose(means_on_map[:, i, j], view.mean((1, 2)), rtol=1e-5)
        last = (i + 1, j + 1)
    assert maxima.shape[1:3] == means.shape[1:3] == last


@pytest.mark.usefixtures("stored_and_local")
@pytest.mark.parametrize(("pool", "flaxs"), [(max_pool, linen.max_pool), (avg_pool, _FLAXS_AVG_POOL)])
def test_forward_mode_and_second_derivatives(pool, flaxs):
    x, t = _maps(2, 7, 6, 3), jax.random.normal(jax.random.key(1), (2, 7, 6, 3))
    ours, theirs = (partial(p, window_shape=(3, 2), strides=(2, 2), padding="SAME") for p in (pool, flaxs))
    for a, b in zip(*(jax.jit(partial(jax.jvp, f))((x,), (t,)) for f in (ours, theirs))):
        np.testing.assert_allclose(a, b, atol=1e-5)

    gradient = jax.jit(jax.grad(lambda x: jnp.sin(ours(x)).sum()))
    _, along = jax.jvp(gradient, (x,), (t,))
    difference = (gradient(x + 1e-3 * t) - gradient(x - 1e-3 * t)) / 2e-3
    assert float(jnp.mean(jnp.abs(along - difference) < 2e-2)) > 0.97  # a maximum may move in between
    reverse = jax.jit(jax.grad(lambda x: (gradient(x) * t).sum()))(x)
    np.testing.assert_allclose(reverse, along, atol=1e-5)  # a Hessian is symmetric


@pytest.mark.parametrize(("pool", "flaxs"), [(max_pool, linen.max_pool), (avg_pool, linen.avg_pool)])
@jax.numpy_dtype_promotion("standard")  # Flax, which other windows are left to, divides floats by integers
def test_any_batch_axes_and_other_ranks(pool, flaxs):
    x = _maps(2, 3, 6, 5, 4)
    expected = flaxs(x, (2, 2), (2, 1))
    np.testing.assert_allclose(pool(x, (2, 2), (2, 1)), expected, atol=1e-6)
    np.testing.assert_allclose(pool(x[0, 0], (2, 2), (2, 1)), expected[0, 0], atol=1e-6)
    mapped = jax.vmap(lambda a: pool(a, (2, 2), (2, 1)), in_axes=1, out_axes=1)(x)
    np.testing.assert_allclose(mapped, expected, atol=1e-6)
    row = x[0, 0]  # a batch of rows
    np.testing.assert_allclose(pool(row, (3,), (2,)), flaxs(row, (3,), (2,)), atol=1e-6)


@pytest.mark.usefixtures("stored_and_local")
def test_vmapped_gradient():
    x = _maps(2, 3, 6, 5, 4)
    per_example = jax.vmap(jax.grad(lambda a: max_pool(a, 2, 2).sum()))(x[:, 0])
    np.testing.assert_array_equal(per_example, jax.grad(lambda a: max_pool(a, 2, 2).sum())(x[:, 0]))


def test_sharded_maps():
    x = _maps(4, 6, 6, 2)
    gradient = jax.grad(lambda x: jnp.sin(max_pool(x, 3, 2, 1) + avg_pool(x, 3, 2, 1)).sum())
    expected = gradient(x)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
            np.testing.assert_allclose(jax.jit(gradient)(spread), expected, atol=1e-5)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    data = PartitionSpec("data")
    mapped = jax.shard_map(gradient, mesh=mesh, in_specs=data, out_specs=data)
    np.testing.assert_allclose(jax.jit(mapped)(x), expected, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_exported_programs_hold_the_lowering_of_their_platform(platform):
    shape = jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32)

    def text(function):
        return export.export(jax.jit(function), platforms=[platform])(shape).mlir_module()

    xla = platform != "cpu"
    assert ("stablehlo.reduce_window" in text(lambda x: max_pool(x, 3, 2, 1))) == xla
    assert ("stablehlo.reduce_window" in text(lambda x: avg_pool(x, 3, 2, 1))) == xla
    assert ("stablehlo.select_and_scatter" in text(jax.grad(lambda x: max_pool(x, 3, 2, 1).sum()))) == xla
    assert ("stablehlo.reduce_window" in text(jax.grad(lambda x: avg_pool(x, 3, 2, 1).sum()))) == xla


@pytest.mark.usefixtures("stored_and_local")
def test_bfloat16_and_global_pools():
    x = _maps(2, 5, 4, 3)
    half = x.astype(jnp.bfloat16)
    windows = (partial(max_pool, window_shape=2), partial(avg_pool, window_shape=2))
    for pool in (*windows, global_avg_pool, global_max_pool):
        assert pool(half).dtype == jnp.bfloat16
        np.testing.assert_allclose(pool(half).astype(jnp.float32), pool(x), rtol=1e-2)
    np.testing.assert_allclose(global_avg_pool(x), np.asarray(x).mean((1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(global_max_pool(x, keepdims=True), np.asarray(x).max((1, 2), keepdims=True))
    # 4,096 ones in bfloat16 would sum to 256.
    np.testing.assert_allclose(global_avg_pool(jnp.ones((1, 64, 64, 1), jnp.bfloat16)), 1)


def test_errors_name_the_fix():
    x = jnp.zeros((1, 4, 4, 1))
    with pytest.raises(ValueError, match="more than half"):
        max_pool(x, 2, 2, padding=2)
    with pytest.raises(ValueError, match="in pixels"):
        avg_pool(x, 2, 2, "SAME", ceil_mode=True)
    with pytest.raises(ValueError, match="2 axes"):
        max_pool(x[0, 0], (2, 2))
