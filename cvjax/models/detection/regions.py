"""What the detectors share that classify regions: which of them are learnt, from what loss, and what is reported.

Regions are proposals and, in training, the objects themselves. Class 0 of a region's logits is the background, class
c + 1 the label c; boxes are regressed for each label by itself.
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.sampled_losses import mean_over, smooth_l1
from cvjax.ops.detection.boxes import area, clip, encode
from cvjax.ops.detection.matching import match
from cvjax.ops.detection.nms import nms
from cvjax.ops.detection.subsample import balanced_subsample

RegressionWeights = tuple[float, float, float, float]


class Sample(NamedTuple):
    """The R regions of each image that its loss looks at.

    Attributes:
      boxes: float32 [B, R, 4]; those of the padding are of no meaning.
      classes: int32 [B, R], 0 for background, 1 + label for an object.
      objects: float32 [B, R, 4], the box of the object that a region is taken for.
      valid: bool [B, R], False in the padding.
    """

    boxes: jax.Array
    classes: jax.Array
    objects: jax.Array
    valid: jax.Array


def on_image(proposals: Proposals | None, sizes: jax.Array, model: str) -> Proposals:
    """Proposals cut off at the real part of their image; what is empty then becomes padding.

    Args:
      proposals: see `Proposals`.
      sizes: [B, 2], height and width of the real part of each image.
      model: who asks, for the error.

    Raises:
      ConfigError: there are none.
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
      keys: [B], one an image.
      proposals: on their images, see `on_image`.
      truth: ignored objects are neither learnt nor background.
      size: R.
      positive_fraction: most of R that are objects; less where there are fewer, and the rest is background.
      fg_iou: a region is taken for the object that it overlaps most if their IoU reaches this, for background below.
      bg_iou_low: least IoU of background. Fast R-CNN and SPPnet have 0.1, for the hard ones.

    Returns:
      `Sample`; an image without objects gives background alone, and with a bg_iou_low nothing.
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
    """Cross entropy, the mean over the regions of each image: [B, R, C + 1] -> float32 [B]; 0 without regions."""
    logits = logits.astype(jnp.float32)
    is_class = jnp.arange(logits.shape[-1]) == sample.classes[..., None]
    losses = jax.nn.logsumexp(logits, -1) - jnp.where(is_class, logits, 0).sum(-1)
    return jax.vmap(mean_over)(losses, sample.valid, sample.valid)


def box_loss(deltas: jax.Array, sample: Sample, weights: RegressionWeights, beta: float = 1.0) -> jax.Array:
    """Smooth L1 of the deltas of the class that each region is taken for, summed over the four.

    Background regions have none, but count in the mean, so that an image weighs what its share of objects is.

    Args:
      deltas: [B, R, C, 4].
      sample: the regions.
      weights: of the targets, see `cvjax.ops.detection.boxes.encode`.
      beta: see `smooth_l1`.

    Returns:
      float32 [B], the mean over the regions of each image.
    """
    is_class = jnp.arange(1, deltas.shape[-2] + 1) == sample.classes[..., None]
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
) -> Detections:
    """The best boxes of each image after suppression within each class.

    Args:
      boxes: [B, P, C, 4], where each class would have each region.
      scores: [B, P, C].
      valid: bool [B, P].
      sizes: [B, 2], height and width of the real part of each image.
      nms_threshold: see `cvjax.ops.detection.nms.nms`.
      score_threshold: boxes need a score above this.
      max_detections: K, of an image.
      min_size: boxes with a shorter one are dropped, in pixels; empty ones always are.
    """
    boxes = clip(boxes, (sizes[:, None, None, 0], sizes[:, None, None, 1]))
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
