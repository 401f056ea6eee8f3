"""Losses per pixel or per image, as pure functions of logits and labels.

What is summed over pixels is summed over one image at a time, never over the batch, so that the loss of a batch is a
sum over its images however these are spread over devices.
"""

import chex
import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy per pixel: float32 [..., ] of logits [..., C] and integer labels [...].

    The label's logit is read with a mask rather than a gather: its gradient is then a product, not a scatter.
    A label outside [0, C), such as 255, contributes its normalizer alone and must be weighted out.
    """
    shifted, _, total = _exponentials(logits)
    return jnp.log(total) - jnp.where(_is_label(logits, labels), shifted, 0.0).sum(axis=-1)


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross entropy, float32 [...], of logits [..., C] with distributions [..., C] that each add up to 1."""
    chex.assert_equal_shape((logits, targets))
    logits = logits.astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1) - (logits * targets).sum(axis=-1)


def focal_loss(logits: jax.Array, labels: jax.Array, *, gamma: float = 2.0, alpha: float | None = None) -> jax.Array:
    """Focal loss per pixel (Lin et al., 1708.02002): cross entropy times (1 - p)^gamma, p the label's probability.

    Args:
      logits: [..., C].
      labels: integers [...]; outside [0, C) as for `cross_entropy`.
      gamma: how much less easy pixels weigh; 0 is cross entropy.
      alpha: factor of all classes but the first, the background, whose factor is 1 - alpha; None leaves both at 1.

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
    losses: jax.Array,
    counted: jax.Array,
    *,
    fraction: float = 0.25,
    threshold: float | None = None,
    minimum: int = 0,
) -> jax.Array:
    """Which pixels of each image are its hardest: those of largest loss (online hard example mining, 1604.03540).

    Args:
      losses: [B, H, W]; no gradient flows through the choice.
      counted: [B, H, W], above 0 for pixels to choose from.
      fraction: of an image's counted pixels that are kept; of no use beside a threshold.
      threshold: keep those whose loss is above it instead.
      minimum: keep so many in any case, or all where there are fewer.

    Returns:
      bool [B, H, W]. Pixels that tie with the last one kept are kept too.
    """
    chex.assert_equal_shape((losses, counted))
    counted = counted > 0
    keys = jnp.where(counted, jax.lax.stop_gradient(losses.astype(jnp.float32)), -jnp.inf)
    flat = keys.reshape(len(keys), -1)
    number = counted.sum((1, 2))
    share = jnp.ceil(fraction * number).astype(jnp.int32) if threshold is None else 0
    kept = jnp.clip(jnp.maximum(share, minimum), 0, number)
    last = jnp.take_along_axis(jnp.sort(flat, axis=1), flat.shape[1] - jnp.maximum(kept, 1)[:, None], axis=1)[:, 0]
    cut = jnp.where(kept > 0, last, jnp.inf)[:, None, None]
    hard = keys >= cut
    return counted & (hard if threshold is None else hard | (keys > threshold))


def soft_jaccard(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> jax.Array:
    """One minus the soft intersection over union of an image, the mean over the classes that are in it.

    For a class with probabilities p and ground truth g in {0, 1}: 1 - (sum pg + 1) / (sum p + sum g - sum pg + 1)
    (after Rahman and Wang, 2016; the 1 keeps tiny objects from ruling the loss).

    Args:
      logits: [B, H, W, C].
      labels: integers [B, H, W].
      counted: [B, H, W], 1 for pixels that count and 0 for those that do not, whatever their label.

    Returns:
      float32 [B] in [0, 1]; 0 for an image without counted pixels.
    """
    both, ours, theirs = _areas(logits, labels, counted)
    return _mean_of_present(1.0 - (both + 1.0) / (ours + theirs - both + 1.0), theirs)


def soft_dice(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> jax.Array:
    """One minus the soft Dice coefficient of an image, the mean over the classes that are in it.

    For a class with probabilities p and ground truth g in {0, 1}: 1 - (2 sum pg + 1) / (sum p + sum g + 1), after
    Milletari et al. (1606.04797), with their squares left out and 1 added as in `soft_jaccard`. Arguments and result
    are those of `soft_jaccard`.
    """
    both, ours, theirs = _areas(logits, labels, counted)
    return _mean_of_present(1.0 - (2.0 * both + 1.0) / (ours + theirs + 1.0), theirs)


def lovasz_softmax(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> jax.Array:
    """Lovász-Softmax of an image (Berman et al., 1705.08790), the mean over the classes that are in it.

    The extension of one minus the intersection over union to errors between 0 and 1: with a class's errors in falling
    order, each is weighed by what the Jaccard loss grows by when its pixel joins the wrong ones. Pixels that do not
    count come last, with an error of 0, so that shapes are static. Arguments and result are those of `soft_jaccard`.
    """
    chex.assert_rank(logits, 4)
    chex.assert_equal_shape((labels, counted))
    batch, classes = logits.shape[0], logits.shape[-1]
    counted = (counted > 0).reshape(batch, -1)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32)).reshape(batch, -1, classes)
    truth = _is_label(logits, labels).reshape(batch, -1, classes) & counted[..., None]
    errors = jnp.where(counted[..., None], jnp.abs(truth - probabilities), 0.0)
    # One class after another: a sort of all at once would hold several copies of the largest array there is.
    weights = jax.lax.map(
        lambda x: jax.vmap(_lovasz_weights)(x[0], x[1], counted),
        (jnp.moveaxis(jax.lax.stop_gradient(errors), -1, 0), jnp.moveaxis(truth, -1, 0)),
    )
    # Linear in the errors as long as their order stays, so the weights are its gradient.
    each = (errors * jnp.moveaxis(weights, 0, -1)).sum(1)
    return _mean_of_present(each, truth.sum(1))


def _lovasz_weights(errors: jax.Array, truth: jax.Array, counted: jax.Array) -> jax.Array:
    """What each of P errors of one class weighs: float32 [P]."""
    order = jnp.argsort(jnp.where(counted, -errors, 1.0))
    hits = truth[order].astype(jnp.float32)
    area = hits.sum()
    left = area - jnp.cumsum(hits)
    union = area + jnp.cumsum(1.0 - hits)
    loss = 1.0 - left / union
    grown = jnp.diff(loss, prepend=0.0)
    return jnp.zeros_like(grown).at[order].set(grown, unique_indices=True)


def _areas(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The soft areas of each image's classes, [B, C]: of prediction and truth together, prediction, truth."""
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
    """Logits [..., C] less their maximum, the exponentials of these, and their sums over the classes [...]; float32.

    The sum is a product: XLA keeps a product's operands, where it would take the exponentials anew for each sum that
    reads them. That halves the time of soft Jaccard and its gradient on CPU.
    """
    logits = logits.astype(jnp.float32)
    shifted = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    exponentials = jnp.exp(shifted)
    ones = jnp.ones(logits.shape[-1])
    return shifted, exponentials, jnp.matmul(exponentials, ones, precision=jax.lax.Precision.HIGHEST)


def _mean_of_present(losses: jax.Array, area: jax.Array) -> jax.Array:
    """[B, C] to [B]: the mean over classes that have an area; 0 where none has."""
    present = area > 0
    return jnp.where(present, losses, 0.0).sum(-1) / jnp.maximum(present.sum(-1), 1)


def _is_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.arange(logits.shape[-1], dtype=jnp.int32) == labels[..., None].astype(jnp.int32)
