"""Draws balanced random subsets of fixed size: the boxes of an image that a detector's loss looks at."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Int32

from cvjax.shapes import Array


class Subsample(NamedTuple):
    """Holds a choice of K of N boxes: the positives, then the negatives, then padding.

    Attributes:
      indices: int32 [K], places in the input; zero in the padding.
      positive: bool [K], whether a box was drawn as a positive.
      negative: bool [K], whether a box was drawn as a negative; in the padding neither is True.
    """

    indices: Int32[jax.Array, " size"]
    positive: Bool[jax.Array, " size"]
    negative: Bool[jax.Array, " size"]

    @property
    def valid(self) -> jax.Array:
        """Returns bool [K], False in the padding."""
        return self.positive | self.negative

    def masks(self, count: int) -> tuple[jax.Array, jax.Array]:
        """Returns the same choice as two bool [count] over the input: the positives and the negatives drawn."""
        places = jnp.where(self.valid, self.indices, count)  # out of range, so dropped
        blank = jnp.zeros(count, bool)
        return blank.at[places].max(self.positive, mode="drop"), blank.at[places].max(self.negative, mode="drop")


def balanced_subsample(
    key: jax.Array, positive: Bool[Array, " n"], negative: Bool[Array, " n"], *, size: int, positive_fraction: float
) -> Subsample:
    """Draws positives and negatives without replacement, each set of a kind as likely as any other.

    Positives are drawn up to `positive_fraction` of the size, rounded down, and negatives fill the rest. Where
    negatives run short the rest is padding, not further positives. Faster R-CNN's RPN draws 256 for each image with a
    share of 0.5. Fast R-CNN draws 64 (two images) or 128 with 0.25. Use `jax.vmap` with a key for each image.

    Args:
      key: Key that decides the draw.
      positive, negative: bool [N], without a common True.
      size: Number K of boxes to draw.
      positive_fraction: Largest share of positives, in [0, 1].

    Returns:
      The choice.

    Raises:
      AssertionError: Shapes do not fit together.
      ValueError: The size is below 1, or the share is outside [0, 1].
    """
    chex.assert_rank(positive, 1)
    chex.assert_equal_shape((positive, negative))
    if size < 1 or not 0 <= positive_fraction <= 1:
        raise ValueError(
            f"balanced_subsample needs a size of 1 or more and a share in [0, 1], not {size}, {positive_fraction}"
        )
    # A millionth, so that 0.7 of 10 is 7.
    most = int(size * positive_fraction + 1e-6)
    first, last = (_draw(k, kind, n) for k, kind, n in zip(jax.random.split(key), (positive, negative), (most, size)))
    positives = jnp.minimum(positive.sum(), most)
    negatives = jnp.minimum(negative.sum(), size - positives)
    place = jnp.arange(size)
    is_positive = place < positives
    is_negative = ~is_positive & (place < positives + negatives)
    first = jnp.pad(first, (0, size - most))
    indices = jnp.where(is_positive, first, last[jnp.maximum(place - positives, 0)])
    return Subsample(jnp.where(is_positive | is_negative, indices, 0), is_positive, is_negative)


def _draw(key: jax.Array, among: jax.Array, count: int) -> jax.Array:
    """Returns places that are True, in random order, and after them arbitrary ones, int32 [count]."""
    lots = jnp.where(among, jax.random.uniform(key, among.shape), -1)
    places = lax.top_k(lots, min(count, among.size))[1]
    return jnp.pad(places, (0, count - places.size)).astype(jnp.int32)
