"""The losses of anchors and of regions share a distance of boxes, and a mean over the boxes that were drawn."""

import jax
import jax.numpy as jnp


def smooth_l1(difference: jax.Array, beta: float) -> jax.Array:
    """Computes a loss that is a parabola around zero and a straight line from +-`beta` on.

    This is equation 3 of Fast R-CNN (1504.08083).

    Args:
      difference: Differences [...].
      beta: Distance at which parabola and line meet, above 0. Caffe's nets give sigma, with beta = 1 / sigma**2.

    Returns:
      Losses [...]: difference**2 / (2 * beta) within `beta`, and |difference| - beta / 2 beyond.
    """
    size = jnp.abs(difference)
    return jnp.where(size < beta, jnp.square(size) / (2 * beta), size - beta / 2)


def mean_over(values: jax.Array, counted: jax.Array, drawn: jax.Array) -> jax.Array:
    """Returns the sum of the counted values, divided by the number of boxes that were drawn.

    Args:
      values: Values [S].
      counted: Whether a value is summed, bool [S].
      drawn: Whether a box was drawn, bool [S]; False in the padding.

    Returns:
      A scalar; 0 if nothing was drawn.
    """
    return jnp.sum(jnp.where(counted, values, 0)) / jnp.maximum(drawn.sum(), 1).astype(values.dtype)
