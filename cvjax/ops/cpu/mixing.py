"""Mixes neighboring rows of maps for CPU, where a product with a matrix of weights would mostly multiply zeros."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from cvjax.ops.cpu.apart import computed_apart
from cvjax.shapes import Array


def mix_rows(
    x: Float[Array, "batch rows columns"], matrix: Float32[np.ndarray, "mixed rows"]
) -> Float[jax.Array, "batch mixed columns"]:
    """Multiplies a matrix with at most two weights in a row with each map: [Q, P] and [N, P, C] to [N, Q, C].

    With an argmax behind it this takes 0.55 to 0.7 of the product's time, from 33 or 129 to 513 rows of 513 pixels and
    21 channels. XLA would mix rows again in each loop that reads the result, and an argmax take 2.6 times as long.
    """
    if 0 in (*x.shape, *matrix.shape):
        return jnp.zeros((x.shape[0], len(matrix), x.shape[2]), x.dtype)
    rows, used = np.arange(len(matrix)), matrix != 0
    low, high = used.argmax(axis=1), matrix.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    weights = matrix[rows, low], np.where(high > low, matrix[rows, high], 0).astype(np.float32)
    first, second = (w[None, :, None] for w in weights)

    def mixed(x: jax.Array) -> jax.Array:
        near, far = (jnp.take(x, place, axis=1, mode="clip") for place in (low, high))
        return near * first + far * second

    return computed_apart(mixed, x)
