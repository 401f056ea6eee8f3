"""Mirror padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.ops.padding import mirror_pad


def test_mirrors_without_repeating_the_border():
    row = jnp.arange(4.0).reshape(1, 1, 4, 1)
    padded = mirror_pad(row, ((0, 0), (2, 5)))
    np.testing.assert_array_equal(padded.ravel(), [2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2])  # back and forth
    assert mirror_pad(row, 3).shape == (1, 7, 10, 1)


def test_gradient_counts_the_copies():
    gradient = jax.grad(lambda x: mirror_pad(x, ((0, 0), (2, 1))).sum())(jnp.ones((1, 1, 4, 1)))
    np.testing.assert_array_equal(gradient.ravel(), [1, 2, 3, 1])


def test_errors():
    with pytest.raises(ValueError, match="at least 0"):
        mirror_pad(jnp.ones((1, 4, 4, 1)), -1)
    with pytest.raises(ValueError, match="pixels"):
        mirror_pad(jnp.ones((1, 0, 4, 1)), 1)
