"""Transposed convolution against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cvjax.ops.conv_transpose import conv_transpose


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize(
    ("kernel", "strides", "dilation", "padding"),
    [
        ((4, 4), (2, 2), None, "SAME"),
        ((3, 2), (2, 3), None, "SAME"),
        ((2, 2), (3, 3), None, "VALID"),
        ((3, 3), (2, 1), (2, 2), "VALID"),
        ((16, 16), (8, 8), None, "SAME"),
        ((4, 4), (2, 2), None, ((2, 2), (1, 3))),
    ],
)
def test_equals_jax_lax(kernel, strides, dilation, padding, transpose_kernel):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 3, 4, 5)), jnp.float32)
    channels = (6, 5) if transpose_kernel else (5, 6)
    k = jnp.asarray(rng.standard_normal((*kernel, *channels)), jnp.float32)

    def run(conv):
        def f(x, k):
            return conv(x, k, strides, padding, rhs_dilation=dilation, transpose_kernel=transpose_kernel)

        y, pull = jax.vjp(f, x, k)
        return y, *pull(jnp.sin(y))

    for a, b in zip(jax.jit(lambda: run(conv_transpose))(), jax.jit(lambda: run(lax.conv_transpose))()):
        np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max()))


def test_other_ranks_go_to_jax_lax_and_names_are_checked():
    x, k = jnp.ones((1, 5, 2)), jnp.ones((3, 2, 4))
    np.testing.assert_array_equal(conv_transpose(x, k, (2,), "SAME"), lax.conv_transpose(x, k, (2,), "SAME"))
    with pytest.raises(ValueError, match="'REFLECT'"):
        conv_transpose(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 4)), (2, 2), "REFLECT")
