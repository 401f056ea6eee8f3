"""Spatial pyramid pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax import nn


def test_vectors_have_one_length_whatever_the_map():
    layer = nn.SpatialPyramidPool()
    for size in ((13, 13), (10, 24), (1, 3)):
        assert layer.apply({}, jnp.ones((2, *size, 4))).shape == (2, 50 * 4)


def test_bins_are_the_papers_windows_at_13x13():
    x = jax.random.normal(jax.random.key(0), (1, 13, 13, 2))
    expected = [
        # Window ceil(13 / n), stride floor(13 / n): section 2.3 of the paper.
        nn.max_pool(x, -(-13 // n), 13 // n).reshape(1, -1)
        for n in (3, 2, 1)
    ]
    got = nn.SpatialPyramidPool((3, 2, 1)).apply({}, x)
    np.testing.assert_array_equal(got, np.concatenate(expected, axis=-1))


def test_mean_and_unknown_method():
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 2))
    np.testing.assert_allclose(nn.SpatialPyramidPool((1,), "avg").apply({}, x), x.mean((1, 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="median"):
        nn.SpatialPyramidPool((1,), "median").apply({}, x)


def test_windows_of_the_released_definition():
    x = np.random.default_rng(0).standard_normal((2, 13, 13, 3)).astype(np.float32)
    windows = ((3, 2), (5, 4), (7, 7), (13, 13))
    pooled = nn.SpatialPyramidPool(windows=windows).apply({}, jnp.asarray(x))
    wanted = []
    for level, (side, stride) in zip((6, 3, 2, 1), windows):
        starts = [stride * i for i in range(level)]
        bins = [[x[:, a : a + side, b : b + side].max((1, 2)) for b in starts] for a in starts]
        wanted.append(np.stack([np.stack(row, 1) for row in bins], 1).reshape(2, -1))
    np.testing.assert_array_equal(pooled, np.concatenate(wanted, axis=1))
    plain = nn.SpatialPyramidPool().apply({}, jnp.asarray(x))
    differs = np.flatnonzero((pooled != plain).any(axis=0))
    # Of the grids of 2 x 2 alone, whose bins overlap in ours.
    assert differs.size > 0
    assert differs.min() >= 45 * 3
    assert differs.max() < 49 * 3
    with pytest.raises(ValueError, match="do not make grids"):
        nn.SpatialPyramidPool(windows=windows).apply({}, jnp.zeros((1, 20, 20, 3)))


def test_windows_average():
    x = np.arange(9.0, dtype=np.float32).reshape(1, 3, 3, 1)
    pooled = nn.SpatialPyramidPool((2,), "avg", windows=((2, 2),)).apply({}, jnp.asarray(x))
    assert pooled.tolist() == [[2, 3.5, 6.5, 8]]
