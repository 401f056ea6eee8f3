"""Object masks inside boxes: what they ought to be, and their loss."""

import chex
import jax
import jax.numpy as jnp
import optax


def mask_targets(
    objects: jax.Array, numbers: jax.Array, boxes: jax.Array, size: int, ignore: int = 255
) -> tuple[jax.Array, jax.Array]:
    """The pixels of the objects inside their boxes, in the frame of the boxes.

    Args:
      objects: integers [B, H, W], the number of the object that each pixel belongs to; `ignore` where nobody knows.
      numbers: integers [B, N], the object that each box is of; a number that no pixel has makes an empty mask.
      boxes: [B, N, 4], see `cvjax.ops.detection.boxes`, in pixels.
      size: S, of the masks.
      ignore: the number of pixels that do not count.

    Returns:
      float32 targets [B, N, S, S], 1 on the object, and weights of the same shape, 0 where the number is `ignore` or
      the box reaches beyond the image, else 1.
    """
    chex.assert_rank(objects, 3)
    chex.assert_shape(boxes, (*numbers.shape, 4))
    steps = (jnp.arange(size) + 0.5) / size
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
    targets = (found == numbers[..., None, None]) & weights
    return targets.astype(jnp.float32), weights.astype(jnp.float32)


def mask_loss(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Binary cross entropy of masks, the mean over the pixels of each that count.

    Args:
      logits: [..., S, S].
      targets, weights: of the same shape, see `mask_targets`.

    Returns:
      float32 [...]; 0 for a mask of which no pixel counts.
    """
    chex.assert_equal_shape((logits, targets, weights))
    each = optax.losses.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets)
    return (each * weights).sum((-2, -1)) / jnp.maximum(weights.sum((-2, -1)), 1.0)
