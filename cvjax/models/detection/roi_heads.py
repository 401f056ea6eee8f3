"""The second stage of Fast and Faster R-CNN: which proposals train, their two losses, and what is detected."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.sampled_losses import mean_over, smooth_l1
from cvjax.nn import gaussian
from cvjax.ops import boxes as box_ops
from cvjax.ops.matching import match
from cvjax.ops.nms import nms
from cvjax.ops.subsample import balanced_subsample

Four = tuple[float, float, float, float]

_LEAST_SIDE = 1e-2  # of a detection in pixels, torchvision's


class BoxPredictor(nn.Module):
    """Two dense layers side by side: the class of a region, background first, and deltas of its box for every class.

    Attributes:
      num_classes: without background.
      dtype: of the computation; what comes out is float32.
    """

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[R, C] -> logits [R, 1 + num_classes] and deltas [R, 1 + num_classes, 4], float32."""
        count = 1 + self.num_classes
        logits = nn.Dense(count, dtype=self.dtype, kernel_init=gaussian(0.01), name="classes")(x)
        deltas = nn.Dense(4 * count, dtype=self.dtype, kernel_init=gaussian(0.001), name="deltas")(x)
        return logits.astype(jnp.float32), deltas.astype(jnp.float32).reshape(-1, count, 4)


@dataclasses.dataclass(frozen=True)
class Coding:
    """How deltas are normalised: (delta - mean) / std is what the layer regresses (1504.08083, section 2.3).

    Attributes:
      mean, std: of (dx, dy, dw, dh). torchvision's weights (10, 10, 5, 5) are the default's reciprocals.
    """

    mean: Four = (0.0, 0.0, 0.0, 0.0)
    std: Four = (0.1, 0.1, 0.2, 0.2)

    def encode(self, boxes: jax.Array, proposals: jax.Array) -> jax.Array:
        """Targets that turn proposals into boxes, both [..., 4]."""
        return (box_ops.encode(boxes, proposals) - jnp.asarray(self.mean)) / jnp.asarray(self.std)

    def decode(self, deltas: jax.Array, proposals: jax.Array) -> jax.Array:
        """Undoes `encode`."""
        return box_ops.decode(deltas * jnp.asarray(self.std) + jnp.asarray(self.mean), proposals)


class Regions(NamedTuple):
    """Proposals that were drawn for training, S an image.

    Attributes:
      boxes: float32 [B, S, 4].
      classes: int32 [B, S], 0 for background, otherwise one more than the label.
      targets: float32 [B, S, 4], normalised deltas; they mean something for objects alone.
      drawn: bool [B, S], False in the padding.
    """

    boxes: jax.Array
    classes: jax.Array
    targets: jax.Array
    drawn: jax.Array


def sample_regions(
    proposals: Proposals,
    truth: Truth,
    keys: jax.Array,
    coding: Coding,
    *,
    samples: int,
    positive_share: float,
    high: float = 0.5,
    low: float = 0.5,
    floor: float = 0.0,
) -> Regions:
    """Proposals, and the objects themselves, matched to the objects; then a random part of them.

    Args:
      proposals, truth: of the batch.
      keys: one an image.
      coding: of the targets.
      samples: regions of each image.
      positive_share: at most this part of them holds an object.
      high, low, floor: see `cvjax.ops.matching.match`.

    Returns:
      `Regions`; no gradients flow to the proposals.
    """

    def of_image(proposals: Proposals, truth: Truth, key: jax.Array) -> Regions:
        boxes = jnp.concatenate([proposals.boxes, truth.boxes])
        learnt = truth.valid & ~truth.ignore & (box_ops.area(truth.boxes) > 0)
        matches = match(
            boxes,
            truth.boxes,
            truth.valid,
            high=high,
            low=low,
            floor=floor,
            ignored=truth.ignore,
            box_valid=jnp.concatenate([proposals.valid, learnt]),
        )
        drawn = balanced_subsample(key, matches.positive, matches.negative, size=samples, positive_share=positive_share)
        boxes, classes = boxes[drawn.indices], jnp.zeros(samples, jnp.int32)
        if not truth.boxes.shape[0]:
            return Regions(boxes, classes, jnp.zeros_like(boxes), drawn.valid)
        matched = matches.index[drawn.indices]
        classes = jnp.where(drawn.positive, truth.labels[matched] + 1, classes)
        return Regions(boxes, classes, coding.encode(truth.boxes[matched], boxes), drawn.valid)

    return lax.stop_gradient(jax.vmap(of_image)(proposals, truth, keys))


def region_losses(logits: jax.Array, deltas: jax.Array, regions: Regions, beta: float) -> dict[str, jax.Array]:
    """The multi-task loss of Fast R-CNN (1504.08083, section 2.3), each part divided by the regions of the image.

    Args:
      logits: float32 [B, S, 1 + C].
      deltas: float32 [B, S, 1 + C, 4]; those of a region's own class learn.
      regions: what the regions are.
      beta: of `smooth_l1`.

    Returns:
      `class` and `box`, float32 [B].
    """

    def of_image(logits: jax.Array, deltas: jax.Array, regions: Regions) -> tuple[jax.Array, jax.Array]:
        rows = jnp.arange(len(regions.classes))
        wrong = -jax.nn.log_softmax(logits)[rows, regions.classes]
        off = smooth_l1(deltas[rows, regions.classes] - regions.targets, beta).sum(axis=-1)
        objects = regions.drawn & (regions.classes > 0)
        return mean_over(wrong, regions.drawn, regions.drawn), mean_over(off, objects, regions.drawn)

    classes, boxes = jax.vmap(of_image)(logits, deltas, regions)
    return {"class": classes, "box": boxes}


def detect(
    logits: jax.Array,
    deltas: jax.Array,
    proposals: Proposals,
    sizes: jax.Array,
    coding: Coding,
    *,
    score_threshold: float,
    overlap: float,
    most: int,
) -> Detections:
    """The classified and moved proposals, without those that a better one of their class overlaps.

    Args:
      logits: float32 [B, P, 1 + C], background first.
      deltas: float32 [B, P, 1 + C, 4].
      proposals: that they belong to.
      sizes: [B, 2], height and width of the images without padding.
      coding: of the deltas.
      score_threshold: boxes with a probability of this or less are dropped.
      overlap: suppression's threshold on the IoU.
      most: detections of an image, of all classes together.

    Returns:
      `Detections`, K = `most`.
    """

    def of_image(logits: jax.Array, deltas: jax.Array, proposals: Proposals, size: jax.Array) -> Detections:
        scores = jax.nn.softmax(logits)[:, 1:]
        boxes = coding.decode(deltas[:, 1:], proposals.boxes[:, None])
        boxes = box_ops.clip(boxes, (size[0], size[1]))
        usable = jnp.min(boxes[..., 2:] - boxes[..., :2], axis=-1) >= _LEAST_SIDE
        scores = jnp.where(usable & proposals.valid[:, None], scores, -jnp.inf)

        def of_class(boxes: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
            kept = nms(boxes, scores, iou_threshold=overlap, max_output=most, score_threshold=score_threshold)
            return boxes[kept.indices], jnp.where(kept.valid, kept.scores, -1)

        # Class by class, so that suppression compares P boxes with one another and not P * C.
        kept_boxes, kept_scores = jax.vmap(of_class, in_axes=1)(boxes, scores)
        best, places = lax.top_k(kept_scores.reshape(-1), most)
        valid = best >= 0
        return Detections(
            boxes=jnp.where(valid[:, None], kept_boxes.reshape(-1, 4)[places], 0),
            scores=jnp.where(valid, best, 0),
            classes=jnp.where(valid, places // most, 0).astype(jnp.int32),
            valid=valid,
        )

    return jax.vmap(of_image)(logits, deltas, proposals, sizes)
