"""Adaptive pooling: bins that cover every map."""

import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool


@pytest.mark.parametrize("side", [(13, 13), (5, 8), (1, 2)])
@pytest.mark.parametrize("bins", [(6, 3), (1, 1), (4, 7)])
def test_bins_are_torchs(side, bins):
    x = np.random.default_rng(0).standard_normal((2, *side, 3)).astype(np.float32)
    maxima, means = (np.asarray(pool(jnp.asarray(x), bins)) for pool in (adaptive_max_pool, adaptive_avg_pool))
    assert maxima.shape == means.shape == (2, *bins, 3)
    for i in range(bins[0]):
        for j in range(bins[1]):
            rows, columns = (
                slice(int(np.floor(k * m / n)), int(np.ceil((k + 1) * m / n))) for k, m, n in zip((i, j), side, bins)
            )
            np.testing.assert_allclose(maxima[:, i, j], x[:, rows, columns].max((1, 2)))
            np.testing.assert_allclose(means[:, i, j], x[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_keeps_the_dtype_and_refuses_nothing_to_pool():
    assert adaptive_avg_pool(jnp.ones((1, 3, 3, 1), jnp.bfloat16), (2, 2)).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="pixels"):
        adaptive_max_pool(jnp.ones((1, 0, 3, 1)), (2, 2))
    with pytest.raises(ValueError, match="1x1"):
        adaptive_max_pool(jnp.ones((1, 3, 3, 1)), (0, 2))
