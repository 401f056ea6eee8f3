"""Balanced random subsets of fixed size: the boxes of an image that a detector's loss looks at."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Int32

from cvjax.shapes import Array


class Subsample(NamedTuple):
    """A choice of K of N boxes: the positives, then the negatives, then padding.

    Attributes:
      indices: int32 [K], places in the input; zero in the padding.
      positive: bool [K].
      negative: bool [K]; in the padding neither is True.
    """

    indices: Int32[jax.Array, " size"]
    positive: Bool[jax.Array, " size"]
    negative: Bool[jax.Array, " size"]

    @property
    def valid(self) -> jax.Array:
        """bool [K], what is not padding."""
        return self.positive | self.negative

    def masks(self, count: int) -> tuple[jax.Array, jax.Array]:
        """The same choice as two bool [count] over the input: the positives and the negatives chosen."""
        places = jnp.where(self.valid, self.indices, count)  # out of range, so dropped
        blank = jnp.zeros(count, bool)
        return blank.at[places].max(self.positive, mode="drop"), blank.at[places].max(self.negative, mode="drop")


def balanced_subsample(
    key: jax.Array, positive: Bool[Array, " n"], negative: Bool[Array, " n"], *, size: int, positive_fraction: float
) -> Subsample:
    """Draws positives and negatives without replacement, each set of a kind as likely as any other.

    As many positives as there are, up to `positive_fraction` of the size, rounded down; the rest is filled with
    negatives. Where these run short the rest is padding, not further positives. Faster R-CNN's RPN draws 256 an image
    with a share of 0.5; Fast R-CNN 64 (two images) or 128 with 0.25. Use `jax.vmap` with a key for each image.

    Args:
      key: decides the draw.
      positive, negative: bool [N], without a common True.
      size: K.
      positive_fraction: see above, in [0, 1].

    Returns:
      `Subsample`.

    Raises:
      AssertionError: shapes that do not fit together.
      ValueError: a size below 1, or a share outside [0, 1].
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
    """int32 [count]: places that are True, in random order; after them anything."""
    lots = jnp.where(among, jax.random.uniform(key, among.shape), -1)
    places = lax.top_k(lots, min(count, among.size))[1]
    return jnp.pad(places, (0, count - places.size)).astype(jnp.int32)
