"""Computes losses per pixel or per image, as pure functions of logits and labels.

Sums over pixels are always sums over one image, never over the batch. So the loss of a batch is a sum over its images,
however these are spread over devices.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer, Real, Shaped

from cvjax.shapes import Array


def cross_entropy(
    logits: Real[Array, "*pixels classes"], labels: Integer[Array, "*pixels"]
) -> Float[jax.Array, "*pixels"]:
    """Computes the cross entropy per pixel, float32 [...], of logits [..., C] and integer labels [...].

    The label's logit is read with a mask instead of a gather: its gradient is then a product, not a scatter. For a
    label outside [0, C), such as 255, the result is the logarithm of the softmax's denominator alone. Such pixels must
    get the weight 0.
    """
    shifted, _, total = _exponentials(logits)
    return jnp.log(total) - jnp.where(_is_label(logits, labels), shifted, 0.0).sum(axis=-1)


def soft_cross_entropy(
    logits: Real[Array, "*rows classes"], targets: Real[Array, "*rows classes"]
) -> Float[jax.Array, "*rows"]:
    """Computes the cross entropy, float32 [...], of logits [..., C] with distributions [..., C] that sum to 1."""
    chex.assert_equal_shape((logits, targets))
    logits = logits.astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1) - (logits * targets).sum(axis=-1)


def soft_divergence(
    logits: Real[Array, "*rows classes"], taught: Real[Array, "*rows classes"]
) -> Float[jax.Array, "*rows"]:
    """Computes the Kullback-Leibler divergence, float32 [...], of a softmax from a teacher's, of logits [..., C]."""
    ours = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    theirs = jax.nn.log_softmax(taught.astype(jnp.float32), axis=-1)
    return (jnp.exp(theirs) * (theirs - ours)).sum(axis=-1)


def focal_loss(
    logits: Real[Array, "*pixels classes"],
    labels: Integer[Array, "*pixels"],
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Float[jax.Array, "*pixels"]:
    """Computes the focal loss per pixel (Lin et al., 1708.02002): cross entropy times (1 - p)^gamma.

    p is the probability of the label.

    Args:
      logits: Logits [..., C].
      labels: Integer labels [...]; those outside [0, C) as for `cross_entropy`.
      gamma: Exponent; the larger it is, the less easy pixels weigh. 0 is cross entropy.
      alpha: Factor of all classes but the first, the background, which has the factor 1 - alpha; None leaves both at 1.

    Returns:
      float32 [...].
    """
    surprise = cross_entropy(logits, labels)
    factor = 1.0
    if gamma:
        # From the logarithm, so that 1 - p keeps its digits; and off zero, where a power below 1 has no slope.
        # (Labels that are none have a surprise below 0; its exponential could overflow.)
        factor = jnp.maximum(-jnp.expm1(-jnp.maximum(surprise, 0.0)), 1e-7) ** gamma
    if alpha is not None:
        factor = factor * jnp.where(labels == 0, 1.0 - alpha, alpha)
    return factor * surprise


def ohem_pixels(
    losses: Real[Array, "batch height width"],
    counted: Shaped[Array, "batch height width"],
    *,
    fraction: float = 0.25,
    threshold: float | None = None,
    minimum: int = 0,
) -> Bool[jax.Array, "batch height width"]:
    """Chooses the hardest pixels of each image, those with the largest loss (online hard example mining, 1604.03540).

    Args:
      losses: Losses [B, H, W]; no gradient flows through the choice.
      counted: Array [B, H, W], above 0 for the pixels to choose from.
      fraction: Fraction of an image's counted pixels that are kept; not used if there is a threshold.
      threshold: Loss above which a pixel is kept, instead of a fraction.
      minimum: Least number of pixels kept in each image; all where there are fewer.

    Returns:
      bool [B, H, W]. Pixels with the same loss as the last one kept are kept too.
    """
    chex.assert_equal_shape((losses, counted))
    counted = counted.astype(jnp.float32) > 0
    keys = jnp.where(counted, jax.lax.stop_gradient(losses.astype(jnp.float32)), -jnp.inf)
    flat = keys.reshape(len(keys), -1)
    number = counted.sum((1, 2))
    share = jnp.ceil(fraction * number.astype(jnp.float32)).astype(jnp.int32) if threshold is None else 0
    kept = jnp.clip(jnp.maximum(share, minimum), 0, number)
    last = jnp.take_along_axis(jnp.sort(flat, axis=1), flat.shape[1] - jnp.maximum(kept, 1)[:, None], axis=1)[:, 0]
    cut = jnp.where(kept > 0, last, jnp.inf)[:, None, None]
    hard = keys >= cut
    return counted & (hard if threshold is None else hard | (keys > threshold))


def soft_jaccard(
    logits: Real[Array, "batch height width classes"],
    labels: Integer[Array, "batch height width"],
    counted: Shaped[Array, "batch height width"],
) -> Float[jax.Array, " batch"]:
    """Computes one minus the soft intersection over union of each image, the mean over the classes in it.

    For a class with probabilities p and ground truth g in {0, 1} it is 1 - (sum pg + 1) / (sum p + sum g - sum pg + 1)
    (after Rahman and Wang, 2016). The added 1 keeps tiny objects from dominating the loss.

    Args:
      logits: Logits [B, H, W, C].
      labels: Integer labels [B, H, W].
      counted: Array [B, H, W], 1 for pixels that count and 0 for those that do not, whatever their label.

    Returns:
      float32 [B] in [0, 1]; 0 for an image without counted pixels.
    """
    both, ours, theirs = _areas(logits, labels, counted)
    return _mean_of_present(1.0 - (both + 1.0) / (ours + theirs - both + 1.0), theirs)


def soft_dice(
    logits: Real[Array, "batch height width classes"],
    labels: Integer[Array, "batch height width"],
    counted: Shaped[Array, "batch height width"],
) -> Float[jax.Array, " batch"]:
    """Computes one minus the soft Dice coefficient of each image, the mean over the classes in it.

    For a class with probabilities p and ground truth g in {0, 1} it is 1 - (2 sum pg + 1) / (sum p + sum g + 1), after
    Milletari et al. (1606.04797), without their squares and with 1 added as in `soft_jaccard`. Arguments and result are
    those of `soft_jaccard`.
    """
    both, ours, theirs = _areas(logits, labels, counted)
    return _mean_of_present(1.0 - (2.0 * both + 1.0) / (ours + theirs + 1.0), theirs)


def lovasz_softmax(
    logits: Real[Array, "batch height width classes"],
    labels: Integer[Array, "batch height width"],
    counted: Shaped[Array, "batch height width"],
) -> Float[jax.Array, " batch"]:
    """Computes the Lovász-Softmax loss of each image (Berman et al., 1705.08790), the mean over the classes in it.

    It extends the Jaccard loss, one minus the intersection over union, to errors between 0 and 1. The errors of a class
    are sorted in descending order. Each is weighted by the growth of the Jaccard loss when its pixel becomes wrong.
    Pixels that do not count come last, with an error of 0, so that shapes are static. Arguments and result are those of
    `soft_jaccard`.
    """
    chex.assert_rank(logits, 4)
    chex.assert_equal_shape((labels, counted))
    batch, classes = logits.shape[0], logits.shape[-1]
    counted = (counted.astype(jnp.float32) > 0).reshape(batch, -1)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32)).reshape(batch, -1, classes)
    truth = _is_label(logits, labels).reshape(batch, -1, classes) & counted[..., None]
    errors = jnp.where(counted[..., None], jnp.abs(truth.astype(jnp.float32) - probabilities), 0.0)
    # One class after another: a sort of all at once would hold several copies of the largest array there is.
    weights = jax.lax.map(
        lambda x: jax.vmap(_lovasz_weights)(x[0], x[1], counted),
        (jnp.moveaxis(jax.lax.stop_gradient(errors), -1, 0), jnp.moveaxis(truth, -1, 0)),
    )
    # Linear in the errors as long as their order stays, so the weights are its gradient.
    each = (errors * jnp.moveaxis(weights, 0, -1)).sum(1)
    return _mean_of_present(each, truth.sum(1))


def _lovasz_weights(errors: jax.Array, truth: jax.Array, counted: jax.Array) -> jax.Array:
    """Returns the weight of each of P errors of one class, float32 [P]."""
    order = jnp.argsort(jnp.where(counted, -errors, 1.0))
    hits = truth[order].astype(jnp.float32)
    area = hits.sum()
    left = area - jnp.cumsum(hits)
    union = area + jnp.cumsum(1.0 - hits)
    loss = 1.0 - left / union
    grown = jnp.diff(loss, prepend=0.0)
    return jnp.zeros_like(grown).at[order].set(grown, unique_indices=True)


def _areas(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Computes soft areas of each image's classes, [B, C]: intersection, prediction and ground truth."""
    chex.assert_rank(logits, 4)
    chex.assert_equal_shape((labels, counted))
    counted = counted.astype(jnp.float32)
    shifted, exponentials, total = _exponentials(logits)
    truth = _is_label(logits, labels)
    of_label = jnp.exp(jnp.where(truth, shifted, 0.0).sum(-1)) / total * counted
    both, theirs = (jnp.where(truth, weight[..., None], 0.0).sum((1, 2)) for weight in (of_label, counted))
    batch, classes = logits.shape[0], logits.shape[-1]
    rows, weights = exponentials.reshape(batch, -1, classes), (counted / total).reshape(batch, -1)
    ours = jnp.einsum("bpc,bp->bc", rows, weights, precision=jax.lax.Precision.HIGHEST)
    return both, ours, theirs


def _exponentials(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Computes logits [..., C] less their maximum, their exponentials, and the sums of these over classes; float32.

    The sum is a matrix product: XLA keeps a product's operands, but would recompute the exponentials for each sum that
    reads them. That halves the time of soft Jaccard and its gradient on CPU.
    """
    logits = logits.astype(jnp.float32)
    shifted = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    exponentials = jnp.exp(shifted)
    ones = jnp.ones(logits.shape[-1], jnp.float32)
    return shifted, exponentials, jnp.matmul(exponentials, ones, precision=jax.lax.Precision.HIGHEST)


def _mean_of_present(losses: jax.Array, area: jax.Array) -> jax.Array:
    """Returns the mean [B] of losses [B, C] over the classes that have an area; 0 where there are none."""
    present = area > 0
    return jnp.where(present, losses, 0.0).sum(-1) / jnp.maximum(present.sum(-1), 1).astype(jnp.float32)


def _is_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    labels = labels[..., None].astype(jnp.int32)
    return jnp.expand_dims(jnp.arange(logits.shape[-1], dtype=jnp.int32), range(labels.ndim - 1)) == labels
