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
