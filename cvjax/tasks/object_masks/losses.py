"""Computes the targets and the loss of object masks inside boxes."""

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Float32, Integer, Real

from cvjax.shapes import Array


def mask_targets(
    objects: Integer[Array, "batch height width"],
    numbers: Integer[Array, "batch boxes"],
    boxes: Real[Array, "batch boxes 4"],
    size: int,
    ignore: int = 255,
) -> tuple[Float32[jax.Array, "batch boxes side side"], Float32[jax.Array, "batch boxes side side"]]:
    """Samples the pixels of the objects inside their boxes, on a grid of S x S points in each box.

    Args:
      objects: Number of the object that each pixel belongs to, integers [B, H, W]; `ignore` where it is unknown.
      numbers: Number of the object of each box, integers [B, N]; a number that no pixel has gives an empty mask.
      boxes: Boxes [B, N, 4] in pixels, see `cvjax.ops.detection.boxes`.
      size: Side of the masks, S.
      ignore: Number of the pixels that do not count.

    Returns:
      Targets, float32 [B, N, S, S], 1 on the object; and weights of the same shape, 0 where the number is `ignore` or
      the box reaches beyond the image, else 1.
    """
    chex.assert_rank(objects, 3)
    chex.assert_shape(boxes, (*numbers.shape, 4))
    steps = (jnp.arange(size).astype(jnp.float32)[None, None] + 0.5) / size
    columns, rows = (
        jnp.floor(low[..., None] + (high - low)[..., None] * steps).astype(jnp.int32)
        for low, high in ((boxes[..., 0], boxes[..., 2]), (boxes[..., 1], boxes[..., 3]))
    )
    inside_rows, inside_columns = (
        (places >= 0) & (places < length) for places, length in zip((rows, columns), objects.shape[1:])
    )
    image = jnp.arange(len(objects))[:, None, None, None]
    # Indices below 0 would count from the end.
    rows, columns = jnp.maximum(rows, 0)[..., :, None], jnp.maximum(columns, 0)[..., None, :]
    found = jnp.asarray(objects).at[image, rows, columns].get(mode="clip")
    weights = (found != ignore) & inside_rows[..., :, None] & inside_columns[..., None, :]
    targets = (found.astype(jnp.int32) == numbers[..., None, None].astype(jnp.int32)) & weights
    return targets.astype(jnp.float32), weights.astype(jnp.float32)


def mask_loss(
    logits: Real[Array, "*masks side side"],
    targets: Real[Array, "*masks side side"],
    weights: Real[Array, "*masks side side"],
) -> Float[jax.Array, "*masks"]:
    """Computes the binary cross entropy of each mask, the mean over its pixels that count.

    Args:
      logits: Logits [..., S, S].
      targets, weights: Targets and weights of the same shape, see `mask_targets`.

    Returns:
      float32 [...]; 0 for a mask without pixels that count.
    """
    chex.assert_equal_shape((logits, targets, weights))
    each = optax.losses.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets)
    return (each * weights).sum((-2, -1)) / jnp.maximum(weights.sum((-2, -1)), 1.0)
