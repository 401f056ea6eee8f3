"""Detectors that classify regions share these functions: they draw regions, compute losses and select detections.

Regions are proposals and, in training, the objects themselves. Class 0 of a region's logits is the background, and
class c + 1 is the label c. Boxes are regressed for each label by itself.
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.inclusive import clip_decoded
from cvjax.models.detection.sampled_losses import mean_over, smooth_l1
from cvjax.ops.detection.boxes import area, clip, encode
from cvjax.ops.detection.matching import match
from cvjax.ops.detection.nms import nms
from cvjax.ops.detection.subsample import balanced_subsample

RegressionWeights = tuple[float, float, float, float]


class Sample(NamedTuple):
    """Holds the R regions of each image that its loss looks at.

    Attributes:
      boxes: Boxes of the regions, float32 [B, R, 4]; those of the padding have no meaning.
      classes: Classes, int32 [B, R]: 0 for background, 1 + label for an object.
      objects: Boxes of the objects that the regions are taken for, float32 [B, R, 4].
      valid: Whether a region exists, bool [B, R]; False in the padding.
    """

    boxes: jax.Array
    classes: jax.Array
    objects: jax.Array
    valid: jax.Array


def on_image(proposals: Proposals | None, sizes: jax.Array, model: str) -> Proposals:
    """Clips proposals to the real part of their image; proposals that are empty then become padding.

    Args:
      proposals: Proposals of the images.
      sizes: Height and width of the real part of each image, [B, 2].
      model: Name of the model, for the error.

    Raises:
      ConfigError: No proposals.
    """
    if proposals is None:
        raise ConfigError(
            f"{model} does not find regions itself; give proposals, such as those of cvjax.datasets.proposals.boxes"
        )
    chex.assert_shape(sizes, (proposals.boxes.shape[0], 2))
    boxes = clip(proposals.boxes, (sizes[:, :1], sizes[:, 1:]))
    valid = proposals.valid & (area(boxes) > 0)
    return Proposals(jnp.where(valid[..., None], boxes, 0), valid)


def sample_regions(
    keys: jax.Array,
    proposals: Proposals,
    truth: Truth,
    *,
    size: int,
    positive_fraction: float = 0.25,
    fg_iou: float = 0.5,
    bg_iou_low: float = 0.0,
) -> Sample:
    """Draws regions of each image, some of objects and the others of background.

    The objects themselves are among the regions to draw from, as in the systems' own code.

    Args:
      keys: Keys [B], one an image.
      proposals: Proposals on their images, see `on_image`.
      truth: Objects of the images. Ignored objects are neither learned nor background.
      size: Number of regions of an image, R.
      positive_fraction: Largest fraction of R that are objects. Where there are fewer objects, the rest is background.
      fg_iou: Least IoU of a region with the object that it overlaps most, to be taken for this object. Below this IoU a
        region is background.
      bg_iou_low: Least IoU of background. Fast R-CNN and SPPnet have 0.1, for hard negatives.

    Returns:
      `Sample`. An image without objects gives background alone, and with a `bg_iou_low` nothing.
    """
    chex.assert_shape(truth.boxes, (proposals.boxes.shape[0], None, 4))
    draw = partial(_sample_image, size=size, positive_fraction=positive_fraction, fg_iou=fg_iou, bg_iou_low=bg_iou_low)
    return jax.vmap(draw)(keys, proposals, truth)


def _sample_image(
    key: jax.Array,
    proposals: Proposals,
    truth: Truth,
    *,
    size: int,
    positive_fraction: float,
    fg_iou: float,
    bg_iou_low: float,
) -> Sample:
    boxes = jnp.concatenate([jnp.asarray(truth.boxes, jnp.float32), proposals.boxes])
    usable = jnp.concatenate([truth.valid & ~truth.ignore, proposals.valid]) & (area(boxes) > 0)
    matches = match(
        boxes,
        truth.boxes,
        truth.valid,
        fg_iou=fg_iou,
        bg_iou=fg_iou,
        bg_iou_low=bg_iou_low,
        ignored=truth.ignore,
        box_valid=usable,
    )
    chosen = balanced_subsample(key, matches.positive, matches.negative, size=size, positive_fraction=positive_fraction)
    taken = matches.index[chosen.indices]
    if not truth.labels.shape[0]:
        objects, labels = jnp.zeros((size, 4)), jnp.zeros(size, jnp.int32)
    else:
        objects, labels = truth.boxes[taken].astype(jnp.float32), truth.labels[taken]
    return Sample(
        jnp.where(chosen.valid[:, None], boxes[chosen.indices], 0),
        jnp.where(chosen.positive, labels + 1, 0).astype(jnp.int32),
        objects,
        chosen.valid,
    )


def class_loss(logits: jax.Array, sample: Sample) -> jax.Array:
    """Computes the mean cross entropy over the regions of each image.

    Args:
      logits: Logits [B, R, C + 1], background first.
      sample: Regions.

    Returns:
      Losses, float32 [B]; 0 without regions.
    """
    logits = logits.astype(jnp.float32)
    is_class = jnp.arange(logits.shape[-1])[None, None] == sample.classes[..., None]
    losses = jax.nn.logsumexp(logits, -1) - jnp.where(is_class, logits, 0).sum(-1)
    return jax.vmap(mean_over)(losses, sample.valid, sample.valid)


def box_loss(deltas: jax.Array, sample: Sample, weights: RegressionWeights, beta: float = 1.0) -> jax.Array:
    """Computes the smooth L1 of the deltas of the class that each region is taken for, summed over the four.

    Background regions have no such loss, but count in the mean. So an image weighs by its fraction of objects.

    Args:
      deltas: Deltas [B, R, C, 4].
      sample: Regions.
      weights: Weights of the targets, see `cvjax.ops.detection.boxes.encode`.
      beta: Distance from which the loss is a straight line, see `smooth_l1`.

    Returns:
      Losses, float32 [B], the mean over the regions of each image.
    """
    is_class = jnp.arange(1, deltas.shape[-2] + 1)[None, None] == sample.classes[..., None]
    own = jnp.where(is_class[..., None], deltas.astype(jnp.float32), 0).sum(-2)
    target = encode(sample.objects, sample.boxes, weights)
    losses = smooth_l1(own - target, beta).sum(-1)
    return jax.vmap(mean_over)(losses, sample.valid & (sample.classes > 0), sample.valid)


def select_detections(
    boxes: jax.Array,
    scores: jax.Array,
    valid: jax.Array,
    sizes: jax.Array,
    *,
    nms_threshold: float,
    score_threshold: float,
    max_detections: int,
    min_size: float = 0.0,
    inclusive: bool = False,
) -> Detections:
    """Selects the best boxes of each image after suppression within each class.

    Args:
      boxes: Boxes [B, P, C, 4] that each class gives to each region.
      scores: Scores [B, P, C].
      valid: Whether a region exists, bool [B, P].
      sizes: Height and width of the real part of each image, [B, 2].
      nms_threshold: IoU above which the worse of two boxes is dropped, see `cvjax.ops.detection.nms.nms`.
      score_threshold: Score that a box must exceed.
      max_detections: Largest number of detections of an image, K.
      min_size: Least side of a box in pixels. Empty boxes are always dropped.
      inclusive: Whether the boxes' corners are pixels that belong to them, see `cvjax.models.detection.inclusive`.
    """
    boxes = clip_decoded(boxes, (sizes[:, None, None, 0], sizes[:, None, None, 1]), inclusive)
    long_enough = jnp.min(boxes[..., 2:] - boxes[..., :2], axis=-1) >= min_size
    usable = valid[..., None] & long_enough & (area(boxes) > 0)
    scores = jnp.where(usable, scores.astype(jnp.float32), -jnp.inf)
    suppress = partial(nms, iou_threshold=nms_threshold, max_output=max_detections, score_threshold=score_threshold)

    def of_image(boxes: jax.Array, scores: jax.Array) -> Detections:
        # Classes side by side: each compares its P boxes alone, where one row of all would compare P * C.
        kept = jax.vmap(suppress, in_axes=1)(boxes, scores)
        found = jnp.take_along_axis(boxes, kept.indices.T[..., None], axis=0)  # [K, C, 4]
        ranked = jnp.where(kept.valid, kept.scores, -jnp.inf)
        best, places = jax.lax.top_k(ranked.reshape(-1), max_detections)
        label, row = jnp.divmod(places, max_detections)
        present = best > -jnp.inf
        return Detections(
            jnp.where(present[:, None], found[row, label], 0),
            jnp.where(present, best, 0),
            jnp.where(present, label, 0).astype(jnp.int32),
            present,
        )

    return jax.vmap(of_image)(boxes, scores)
