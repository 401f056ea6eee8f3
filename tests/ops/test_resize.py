"""Resizing against PyTorch's formula, written out pixel by pixel."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from cvjax.ops.resize import bilinear_matrix, enlarge_from_corner, rescale, resize
from cvjax.runtime.compiler import unstored


def _interpolate(row: np.ndarray, target: int, align_corners: bool) -> np.ndarray:
    """torch.nn.functional.interpolate(mode="linear") of one row, as its documentation defines it."""
    out = []
    for i in range(target):
        if align_corners:
            at = i * (len(row) - 1) / (target - 1) if target > 1 else 0.0
        else:
            at = max(0.0, (i + 0.5) * len(row) / target - 0.5)
        low = min(int(at), len(row) - 1)
        high = min(low + 1, len(row) - 1)
        out.append(row[low] * (1 - (at - low)) + row[high] * (at - low))
    return np.array(out)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.booleans())
@settings(max_examples=25, deadline=None)
def test_bilinear_is_torchs(height, width, rows, columns, align_corners):
    image = np.random.default_rng(0).standard_normal((2, height, width, 3))
    expected = np.apply_along_axis(_interpolate, 1, image, rows, align_corners)
    expected = np.apply_along_axis(_interpolate, 2, expected, columns, align_corners)
    ours = resize(jnp.asarray(image, jnp.float32), (rows, columns), align_corners=align_corners)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_known_values():
    row = jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(resize(row, (1, 4)).ravel(), [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(resize(row, (1, 4), align_corners=True).ravel(), [0, 1 / 3, 2 / 3, 1], rtol=1e-6)


@pytest.mark.parametrize(("step", "source"), [(8, 3), (2.5, 5), (1, 4)])
def test_enlarging_from_the_corner(step, source):
    """Pixel j lies on pixel step * j; up to the last one it is `align_corners`, and beyond, that pixel again."""
    x = jax.random.normal(jax.random.key(0), (2, source, source, 3))
    last = round((source - 1) * step)
    wide = enlarge_from_corner(x, (last + 4, last + 1), (step, step))
    np.testing.assert_allclose(wide[:, : last + 1], resize(x, (last + 1, last + 1), align_corners=True), atol=1e-5)
    np.testing.assert_allclose(wide[:, last + 1 :], wide[:, last : last + 1].repeat(3, 1), atol=1e-6)
    with pytest.raises(ValueError, match="above 0"):
        enlarge_from_corner(x, (3, 3), (1, 0))


@pytest.mark.parametrize(("factor", "sides"), [(0.75, (8, 5)), (0.5, (5, 3)), (1.5, (16, 10)), (0.05, (1, 1))])
def test_a_factor_keeps_pixels_in_place_where_sides_are_rounded(factor, sides):
    image = np.random.default_rng(0).standard_normal((2, 11, 7, 3)).astype(np.float32)
    expected = image
    for axis, side in enumerate(sides, start=1):
        points, line = (np.arange(side) + 0.5) / factor - 0.5, np.arange(image.shape[axis])
        expected = np.apply_along_axis(lambda row, at=points, line=line: np.interp(at, line, row), axis, expected)
    np.testing.assert_allclose(rescale(image, factor), expected, atol=1e-5)


def test_a_factor_of_one_and_none():
    image = np.ones((1, 2, 3, 1), np.float32)
    np.testing.assert_array_equal(rescale(image, 1.0), image)
    with pytest.raises(ValueError, match="above 0"):
        rescale(image, 0.0)


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_photographs_and_maps_are_resampled_alike(channels):
    """Many pixels of few channels go another way; both are the product with the matrices, and so is the gradient."""
    rng = np.random.default_rng(channels)
    x, weights = rng.standard_normal((2, 50, 60, channels)), rng.standard_normal((2, 70, 33, channels))
    rows, columns = (bilinear_matrix(*axis).astype(np.float64) for axis in ((50, 70), (60, 33)))
    expected = np.einsum("ph,qw,bhwc->bpqc", rows, columns, x)
    np.testing.assert_allclose(resize(jnp.asarray(x), (70, 33)), expected, atol=1e-5)
    gradient = jax.grad(lambda x: (resize(x, (70, 33)) * weights).sum())(jnp.asarray(x))
    np.testing.assert_allclose(gradient, np.einsum("ph,qw,bpqc->bhwc", rows, columns, weights), atol=1e-4)


def test_rows_of_the_matrix_sum_to_one_and_constants_stay():
    np.testing.assert_allclose(bilinear_matrix(33, 513).sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(resize(jnp.full((1, 5, 7, 2), 3.0), (65, 49)), 3, rtol=1e-6)


@given(st.integers(1, 9), st.integers(1, 20))
@settings(max_examples=15, deadline=None)
def test_nearest_takes_the_floor(source, target):
    row = jnp.arange(source, dtype=jnp.uint8).reshape(1, 1, source, 1)
    out = resize(row, (1, target), "nearest")
    assert out.dtype == jnp.uint8
    np.testing.assert_array_equal(out.ravel(), np.arange(target) * source // target)


def test_keeps_the_dtype_and_has_a_gradient():
    x = jnp.ones((1, 3, 3, 1), jnp.bfloat16)
    assert resize(x, (7, 5)).dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: resize(x, (7, 5)).sum())(jnp.ones((1, 3, 3, 1)))
    np.testing.assert_allclose(gradient.sum(), 35, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 5, 4, 2), (1, 7, 3, 1), (0, 5, 4, 2)])
@pytest.mark.usefixtures("stored_and_local")
def test_all_lowerings_agree_with_products_in_float64(shape):
    """Forward, its gradient, under vmap, and split over devices by images."""
    rng = np.random.default_rng(0)
    x, ct = (rng.standard_normal(s).astype(np.float32) for s in (shape, (shape[0], 11, 9, shape[3])))
    rows, columns = (bilinear_matrix(*axis).astype(np.float64) for axis in ((shape[1], 11), (shape[2], 9)))
    enlarge = jax.jit(lambda x: resize(x, (11, 9)))
    y, pull = jax.vjp(enlarge, x)
    np.testing.assert_allclose(y, np.einsum("pi,qj,bijc->bpqc", rows, columns, x), atol=1e-6)
    back = np.einsum("pi,qj,bpqc->bijc", rows, columns, ct)
    np.testing.assert_allclose(pull(jnp.asarray(ct))[0], back, atol=1e-5)
    many = np.stack([x, 2 * x])
    np.testing.assert_allclose(jax.jit(jax.vmap(enlarge))(many), np.stack([y, 2 * y]), atol=1e-6)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    spread = jax.shard_map(enlarge, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    np.testing.assert_allclose(jax.jit(spread)(np.concatenate([x, x])), np.concatenate([y, y]), atol=1e-6)


def test_an_interpolation_is_computed_once_for_all_that_read_it():
    """Apart from the loops that do: an argmax would mix the same rows again for each comparison."""
    program = jax.jit(lambda x: resize(x, (32, 32)).argmax(-1))
    with unstored():
        text = program.lower(jnp.ones((2, 8, 8, 4))).compile().as_text()
    assert re.search(r"f32\[2,32,128\].* conditional\(", text)


def test_errors():
    x = jnp.ones((1, 3, 3, 1))
    with pytest.raises(ValueError, match="1x1"):
        resize(x, (0, 5))
    with pytest.raises(ValueError, match="bicubic"):
        resize(x, (5, 5), "bicubic")
    with pytest.raises(ValueError, match="align_corners"):
        resize(x, (5, 5), "nearest", align_corners=True)
