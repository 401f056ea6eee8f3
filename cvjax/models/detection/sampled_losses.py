"""What the losses of anchors and of regions share: distances of boxes, and means over those that were drawn."""

import jax
import jax.numpy as jnp


def smooth_l1(difference: jax.Array, beta: float) -> jax.Array:
    """A parabola around zero that is a straight line from +-`beta` on (Fast R-CNN, 1504.08083, equation 3).

    Args:
      difference: [...].
      beta: where the two meet, above 0. Caffe's nets give sigma, with beta = 1 / sigma**2.

    Returns:
      [...]: difference**2 / (2 * beta) within, |difference| - beta / 2 without.
    """
    size = jnp.abs(difference)
    return jnp.where(size < beta, jnp.square(size) / (2 * beta), size - beta / 2)


def mean_over(values: jax.Array, counted: jax.Array, drawn: jax.Array) -> jax.Array:
    """The sum of the values that are counted, divided by the number of boxes that were drawn.

    Args:
      values: [S].
      counted: bool [S], whose values are summed.
      drawn: bool [S], False in the padding.

    Returns:
      A scalar; 0 if nothing was drawn.
    """
    return jnp.sum(jnp.where(counted, values, 0)) / jnp.maximum(drawn.sum(), 1)
