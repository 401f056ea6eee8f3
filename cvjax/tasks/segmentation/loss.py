"""Computes the training loss of a segmentation, a weighted sum of losses."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer, Real

from cvjax.errors import ConfigError
from cvjax.shapes import Array
from cvjax.tasks.losses import (
    cross_entropy,
    focal_loss,
    lovasz_softmax,
    ohem_pixels,
    soft_dice,
    soft_jaccard,
)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Configures a loss of single pixels, and losses of whole images that are added to it.

    Attributes:
      loss_stride: Stride of the pixels that the loss uses, in rows and columns. Neighbors carry much the same
        information, and on CPU the loss at full size costs as much as a small net's decoder.
      normalize_loss: Whether to divide the loss by the number of pixels that it sums over. False takes the mean over
        the batch's images of the sum over their pixels, with which FCN trains, one image at a time (1605.06211).
      pixel_loss: Loss of single pixels: `cross_entropy`, `focal`, or `ohem`, the cross entropy of each image's hardest
        pixels alone (1604.03540).
      pixel_weight: Weight of the loss of single pixels; 0 trains with the others alone.
      focal_gamma: Exponent of the focal loss (1708.02002).
      focal_alpha: Weight of all classes but the first in the focal loss; the first has 1 minus it. None is off.
      ohem_fraction: Fraction of an image's labeled pixels that count as its hardest.
      ohem_threshold: Cross entropy above which a pixel is hard, instead of a fraction of all.
      ohem_minimum: Least number of hard pixels per image, whatever the threshold.
      jaccard_weight: Weight of the soft Jaccard loss, see `cvjax.tasks.losses`.
      dice_weight: Weight of the soft Dice loss.
      lovasz_weight: Weight of the Lovász-Softmax loss (1705.08790).

    Raises:
      ConfigError: A value is outside its range, or all weights are 0.
    """

    loss_stride: int = 1
    normalize_loss: bool = True
    pixel_loss: Literal["cross_entropy", "focal", "ohem"] = "cross_entropy"
    pixel_weight: float = 1.0
    focal_gamma: float = 2.0
    focal_alpha: float | None = None
    ohem_fraction: float = 0.25
    ohem_threshold: float | None = None
    ohem_minimum: int = 0
    jaccard_weight: float = 0.0
    dice_weight: float = 0.0
    lovasz_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.pixel_loss not in ("cross_entropy", "focal", "ohem"):
            raise ConfigError(f"pixel_loss is {self.pixel_loss!r}; choose cross_entropy, focal or ohem")
        if self.focal_gamma < 0:
            raise ConfigError(f"focal_gamma is {self.focal_gamma}; give 0 or more, 2 is the paper's")
        if self.focal_alpha is not None and not 0 < self.focal_alpha < 1:
            raise ConfigError(f"focal_alpha is {self.focal_alpha}; give a number between 0 and 1, or None")
        if not 0 < self.ohem_fraction <= 1 or self.ohem_minimum < 0:
            raise ConfigError(
                f"ohem_fraction is {self.ohem_fraction} and ohem_minimum {self.ohem_minimum}; give a fraction above 0"
                " and up to 1, and a number of pixels from 0 on"
            )
        weights = (self.pixel_weight, self.jaccard_weight, self.dice_weight, self.lovasz_weight)
        if min(weights) < 0 or not any(weights):
            raise ConfigError(f"weights of the losses are {weights}; give numbers from 0 on, at least one above 0")


def pixel_loss(
    logits: Real[Array, "batch height width classes"],
    labels: Integer[Array, "batch height width"],
    weights: Float[Array, "batch height width"],
    options: LossConfig,
) -> Float[jax.Array, ""]:
    """Computes the summed loss of single pixels, with which auxiliary heads are trained too.

    With `ohem` it is the mean over an image's hardest pixels, times the weight of the image's labeled pixels.

    Args:
      logits: Logits [B, H, W, C].
      labels: Integer labels [B, H, W].
      weights: Weights of the pixels, float32 [B, H, W], 0 for pixels that do not count.
      options: Kind of loss and its parameters.

    Returns:
      float32 scalar.
    """
    if options.pixel_loss == "focal":
        losses = focal_loss(logits, labels, gamma=options.focal_gamma, alpha=options.focal_alpha)
    else:
        losses = cross_entropy(logits, labels)
    if options.pixel_loss != "ohem":
        return options.pixel_weight * (losses * weights).sum()
    hard = ohem_pixels(
        losses,
        weights,
        fraction=options.ohem_fraction,
        threshold=options.ohem_threshold,
        minimum=options.ohem_minimum,
    )
    chosen = weights * hard.astype(jnp.float32)
    kept = chosen.sum((1, 2))
    mean = (losses * chosen).sum((1, 2)) / jnp.where(kept > 0, kept, 1.0)
    return options.pixel_weight * (mean * weights.sum((1, 2))).sum()


def region_loss(
    logits: Real[Array, "batch height width classes"],
    labels: Integer[Array, "batch height width"],
    weights: Float[Array, "batch height width"],
    options: LossConfig,
) -> Float[jax.Array, ""]:
    """Computes the summed losses of whole images, each times the weight of the image's labeled pixels.

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
