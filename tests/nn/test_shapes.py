"""That the annotations of shapes are checked in the tests at all: see `shape_checks`."""

import jax.numpy as jnp
import jaxtyping
import pytest

from cvjax import nn
from cvjax.ops.conv import conv2d
from cvjax.ops.sampling import bilinear_weights


def test_wrong_arguments_and_results_are_noticed():
    with pytest.raises(jaxtyping.TypeCheckError):
        bilinear_weights(jnp.zeros(3, jnp.int32), jnp.zeros(3, jnp.int32))
    with pytest.raises(jaxtyping.TypeCheckError):
        nn.SpatialPyramidPool()(jnp.zeros((1, 6, 6, 2), jnp.int32))


def test_a_functions_own_errors_come_first():
    with pytest.raises(AssertionError, match="rank"):
        conv2d(jnp.zeros((6, 6, 2)), jnp.zeros((3, 3, 2, 4)))
