"""Sums and affine maps by channel: values, derivatives of every order, and the ways they are computed."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from cvjax.ops.channels import channel_affine, channel_means, channel_sums
from cvjax.runtime.compiler import compiler_options, unstored

pytestmark = pytest.mark.usefixtures("stored_and_local")

# Widths that divide by 14, 11 and 16, rows alone, primes, one channel, nothing.
SHAPES = [(2, 3, 28, 5), (1, 2, 33, 4), (3, 4, 16, 1), (48, 7), (2, 37, 41, 3), (1, 1, 1, 6), (7,), (0, 4, 4, 3)]


def _draw(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("shape", SHAPES)
def test_sums(shape):
    arrays = _draw(shape, shape, shape)
    for count in (1, 3):
        got = jax.jit(channel_sums)(*arrays[:count])
        expected = [a.astype(np.float64).reshape(-1, shape[-1]).sum(0) for a in arrays[:count]]
        np.testing.assert_allclose(got, np.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_means_and_their_gradient(shape):
    arrays = _draw(shape, shape)
    got, pull = jax.vjp(jax.jit(channel_means), *arrays)
    pixels = np.prod(shape[:-1])
    expected = np.stack([a.astype(np.float64).reshape(-1, shape[-1]).sum(0) for a in arrays])
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(got, expected / pixels, rtol=1e-5, atol=1e-6)  # nan where nothing is averaged
    rows = _draw(got.shape)[0]
    for of_array, row in zip(jax.jit(pull)(rows), rows):
        np.testing.assert_allclose(of_array, np.broadcast_to(row / max(pixels, 1), shape), rtol=1e-6)


def test_vectors_of_maps_of_any_size_share_their_kernels():
    """What is computed of means knows no number of pixels: a ResNet-50 of 407 loops had 467 otherwise."""

    def inverse_deviations(*maps):
        means = (channel_means(x, x**2) for x in maps)
        return [jax.lax.rsqrt(square - mean**2) for mean, square in means]

    def bodies(text):
        """What fusions that end in `rsqrt` compute, without names."""
        found = re.findall(r"^(?:%fused|%wrapped)\S* \(.*\{\n((?:  .*\n)+)\}", text, re.MULTILINE)
        plain = [re.sub(r"%[\w.-]+|, metadata=\{[^}]*\}", "", body) for body in found]
        return [body for body in plain if "rsqrt(" in body]

    x, y = _draw((8, 28, 28, 64), (8, 56, 56, 64))
    with unstored():
        program = jax.jit(inverse_deviations, compiler_options=compiler_options("cpu"))
        text = program.lower(x, y).compile().as_text()
    one, other = bodies(text)
    assert one == other


@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_affine_and_its_gradients(shape):
    x, ct, factor, offset = _draw(shape, shape, shape[-1:], shape[-1:])
    y, pull = jax.vjp(channel_affine, x, factor, offset)
    places = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(y, x * factor + offset, rtol=1e-5, atol=1e-6)
    of_x, of_factor, of_offset = jax.jit(pull)(ct)
    np.testing.assert_allclose(of_x, ct * factor, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_factor, (ct.astype(np.float64) * x).sum(places), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_offset, ct.astype(np.float64).sum(places), rtol=1e-4, atol=1e-4)


def test_derivatives_of_every_order():
    with jax.enable_x64(True):
        x, factor, offset = _draw((2, 4, 3), (3,), (3,), dtype=np.float64)
        check_grads(channel_affine, (x, factor, offset), order=3)
        check_grads(lambda a, b: channel_sums(a * b, jnp.sin(a)), (x, x[::-1]), order=3)
        check_grads(lambda a, b: channel_means(a * b, jnp.sin(a)), (x, x[::-1]), order=3)
        # One argument alone, so that the others' tangents are symbolic zeros.
        check_grads(lambda offset: channel_affine(x, factor, offset) ** 2, (offset,), order=2)


def test_mapped_over_a_batch():
    x, factor, offset = _draw((5, 2, 8, 3), (5, 3), (3,))
    got = jax.vmap(channel_affine, (0, 0, None))(x, factor, offset)
    np.testing.assert_allclose(got, x * factor[:, None, None] + offset, rtol=1e-5, atol=1e-6)
    got = jax.vmap(lambda a: channel_sums(a, x[0]))(x)
    np.testing.assert_allclose(got[:, 0], x.sum((1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[:, 1], np.broadcast_to(x[0].sum((0, 1)), (5, 3)), rtol=1e-4, atol=1e-5)


def test_for_other_platforms_and_any_batch():
    (batch,) = export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, 4, 8, 3), jnp.float32)
    exported = export.export(jax.jit(lambda x: channel_sums(x, x * x)), platforms=["cpu", "tpu"])(shape)
    (x,) = _draw((6, 4, 8, 3))
    np.testing.assert_allclose(exported.call(x), [x.sum((0, 1, 2)), (x * x).sum((0, 1, 2))], rtol=1e-4, atol=1e-4)


def test_on_devices_that_each_hold_a_part():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    x, factor, offset = _draw((4, 2, 8, 3), (3,), (3,))

    def loss(factor, offset, x):
        return jax.lax.psum(jnp.sin(channel_affine(x, factor, offset)).sum(), "data")

    spread = jax.shard_map(loss, mesh=mesh, in_specs=(P(), P(), P("data")), out_specs=P())
    got = jax.jit(jax.grad(spread, (0, 1, 2)))(factor, offset, x)
    expected = jax.grad(lambda f, o, x: jnp.sin(channel_affine(x, f, o)).sum(), (0, 1, 2))(factor, offset, x)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), got, expected)
