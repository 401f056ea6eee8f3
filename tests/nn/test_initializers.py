"""Initializers have the moments that their papers give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax import nn

SHAPE = (3, 3, 64, 128)
FAN_IN, FAN_OUT = 9 * 64, 9 * 128


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (nn.he_normal(), 2 / FAN_OUT),
        (nn.he_normal("fan_in"), 2 / FAN_IN),
        (nn.he_uniform(), 2 / FAN_IN),
        (nn.xavier_uniform(), 2 / (FAN_IN + FAN_OUT)),
        (nn.xavier_normal(), 2 / (FAN_IN + FAN_OUT)),
        (nn.lecun_normal(), 1 / FAN_IN),
        (nn.gaussian(0.02), 0.02**2),
    ],
)
def test_variance(initializer, variance):
    sample = np.asarray(initializer(jax.random.key(0), SHAPE, jnp.float32))
    assert abs(sample.mean()) < 0.02 * np.sqrt(variance)
    np.testing.assert_allclose(sample.var(), variance, rtol=0.03)


def test_zero_gamma_makes_a_branch_silent():
    norm = nn.BatchNorm(False, scale_init=nn.zero_gamma())
    y, _ = norm.init_with_output(jax.random.key(0), jax.random.normal(jax.random.key(1), (4, 3)))
    np.testing.assert_array_equal(y, 0)
