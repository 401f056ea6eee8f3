"""Losses per pixel or per image, as pure functions of logits and labels."""

import chex
import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy per pixel: float32 [..., ] of logits [..., C] and integer labels [...].

    The label's logit is read with a mask rather than a gather: its gradient is then a product, not a scatter.
    A label outside [0, C), such as 255, contributes its normaliser alone and must be weighted out.
    """
    logits = logits.astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1) - jnp.where(_is_label(logits, labels), logits, 0.0).sum(axis=-1)


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross entropy, float32 [...], of logits [..., C] with distributions [..., C] that each add up to 1."""
    chex.assert_equal_shape((logits, targets))
    logits = logits.astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1) - (logits * targets).sum(axis=-1)


def soft_jaccard(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> jax.Array:
    """One minus the soft intersection over union of an image, the mean over the classes that are in it.

    For a class with probabilities p and ground truth g in {0, 1}: 1 - (sum pg + 1) / (sum p + sum g - sum pg + 1).
    The sums run over one image, not over the batch, so that the loss of a batch is a sum over its images however
    these are spread over devices (after Rahman and Wang, 2016; the 1 keeps tiny objects from ruling the loss).

    Args:
      logits: [B, H, W, C].
      labels: integers [B, H, W].
      counted: [B, H, W], 1 for pixels that count and 0 for those that do not, whatever their label.

    Returns:
      float32 [B] in [0, 1]; 0 for an image without counted pixels.
    """
    chex.assert_rank(logits, 4)
    chex.assert_equal_shape((labels, counted))
    counted = counted.astype(jnp.float32)[..., None]
    probabilities = jax.nn.softmax(logits.astype(jnp.float32)) * counted
    truth = _is_label(logits, labels) * counted
    area = truth.sum((1, 2))
    intersection = (probabilities * truth).sum((1, 2))
    union = probabilities.sum((1, 2)) + area - intersection
    present = area > 0
    missed = jnp.where(present, 1.0 - (intersection + 1.0) / (union + 1.0), 0.0)
    return missed.sum(-1) / jnp.maximum(present.sum(-1), 1)


def _is_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.arange(logits.shape[-1], dtype=jnp.int32) == labels[..., None].astype(jnp.int32)
