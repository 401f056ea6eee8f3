"""The losses that a segmentation is trained with, chosen and weighed by name."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.tasks.losses import (
    cross_entropy,
    focal_loss,
    hard_pixels,
    lovasz_softmax,
    soft_dice,
    soft_jaccard,
)


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """A loss of single pixels, and losses of whole images beside it.

    Attributes:
      pixel_loss: `cross_entropy`, `focal`, or `hard_pixels`, the cross entropy of each image's hardest pixels alone.
      pixel_weight: of that loss; 0 trains with the others alone.
      focal_gamma, focal_alpha: of the focal loss (1708.02002); alpha weighs all classes but the first, 1 - alpha the
        first, None none.
      hard_fraction: of an image's labelled pixels that are its hardest.
      hard_threshold: the hardest are instead those whose cross entropy is above this.
      hard_minimum: at least so many pixels of each image, whatever the threshold.
      jaccard_weight, dice_weight, lovasz_weight: of soft Jaccard, soft Dice and Lovász-Softmax (1705.08790); see
        `cvjax.tasks.losses`.

    Raises:
      ConfigError: a number outside what it can mean, or no loss at all.
    """

    pixel_loss: Literal["cross_entropy", "focal", "hard_pixels"] = "cross_entropy"
    pixel_weight: float = 1.0
    focal_gamma: float = 2.0
    focal_alpha: float | None = None
    hard_fraction: float = 0.25
    hard_threshold: float | None = None
    hard_minimum: int = 0
    jaccard_weight: float = 0.0
    dice_weight: float = 0.0
    lovasz_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.pixel_loss not in ("cross_entropy", "focal", "hard_pixels"):
            raise ConfigError(f"pixel_loss is {self.pixel_loss!r}; choose cross_entropy, focal or hard_pixels")
        if self.focal_gamma < 0:
            raise ConfigError(f"focal_gamma is {self.focal_gamma}; give 0 or more, 2 is the paper's")
        if self.focal_alpha is not None and not 0 < self.focal_alpha < 1:
            raise ConfigError(f"focal_alpha is {self.focal_alpha}; give a number between 0 and 1, or None")
        if not 0 < self.hard_fraction <= 1 or self.hard_minimum < 0:
            raise ConfigError(
                f"hard_fraction is {self.hard_fraction} and hard_minimum {self.hard_minimum}; give a fraction above 0"
                " and up to 1, and a number of pixels from 0 on"
            )
        weights = (self.pixel_weight, self.jaccard_weight, self.dice_weight, self.lovasz_weight)
        if min(weights) < 0 or not any(weights):
            raise ConfigError(f"weights of the losses are {weights}; give numbers from 0 on, at least one above 0")


def pixel_loss(logits: jax.Array, labels: jax.Array, weights: jax.Array, options: LossOptions) -> jax.Array:
    """The loss of single pixels, summed; what an auxiliary head is trained with too.

    Of an image's hardest pixels it is the mean, counted once for each of its labelled pixels.

    Args:
      logits: [B, H, W, C].
      labels: integers [B, H, W].
      weights: float32 [B, H, W], 0 for pixels that do not count.
      options: see there.

    Returns:
      float32 scalar.
    """
    if options.pixel_loss == "focal":
        losses = focal_loss(logits, labels, gamma=options.focal_gamma, alpha=options.focal_alpha)
    else:
        losses = cross_entropy(logits, labels)
    if options.pixel_loss != "hard_pixels":
        return options.pixel_weight * (losses * weights).sum()
    chosen = weights * hard_pixels(
        losses,
        weights,
        fraction=options.hard_fraction,
        threshold=options.hard_threshold,
        minimum=options.hard_minimum,
    )
    kept = chosen.sum((1, 2))
    mean = (losses * chosen).sum((1, 2)) / jnp.where(kept > 0, kept, 1.0)
    return options.pixel_weight * (mean * weights.sum((1, 2))).sum()


def region_loss(logits: jax.Array, labels: jax.Array, weights: jax.Array, options: LossOptions) -> jax.Array:
    """The losses of whole images, summed, each counted once for each of the image's labelled pixels.

    Arguments and result are those of `pixel_loss`.
    """
    total = jnp.zeros(())
    area = weights.sum((1, 2))
    for weight, loss in (
        (options.jaccard_weight, soft_jaccard),
        (options.dice_weight, soft_dice),
        (options.lovasz_weight, lovasz_softmax),
    ):
        if weight:
            total += weight * (loss(logits, labels, weights > 0) * area).sum()
    return total
