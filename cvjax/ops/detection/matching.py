"""Matches anchors and proposals to ground truth by overlap, to say which object each box should learn."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int32, Real

from cvjax.ops.detection.boxes import area, intersection, pairwise_iou
from cvjax.shapes import Array


class Matches(NamedTuple):
    """Tells what each of N boxes is matched to; a box that is neither positive nor negative does not train.

    Attributes:
      index: int32 [N], the object that the box overlaps most, the first of equals; 0 where it overlaps none.
      overlap: [N], the IoU of the box with that object.
      positive: bool [N], whether the box is to be taken for that object.
      negative: bool [N], whether the box is to be taken for background.
    """

    index: Int32[jax.Array, " n"]  # pyright: ignore[reportIncompatibleMethodOverride]  # the field, not the tuple's method
    overlap: Float[jax.Array, " n"]
    positive: Bool[jax.Array, " n"]
    negative: Bool[jax.Array, " n"]


def match(
    boxes: Real[Array, "n 4"],
    truth: Real[Array, "m 4"],
    truth_valid: Bool[Array, " m"],
    *,
    fg_iou: float,
    bg_iou: float,
    bg_iou_low: float = 0.0,
    allow_low_quality_matches: bool = False,
    ignored: Bool[Array, " m"] | None = None,
    ignored_share: float = 0.5,
    box_valid: Bool[Array, " n"] | None = None,
) -> Matches:
    """Sorts boxes into positive, negative, or neither, by their largest IoU with an object.

    A box is positive from `fg_iou` on, negative below `bg_iou`, and neither between. Objects of no area, and rows of
    the truth that are padding, match nothing. In an image without objects no box is positive. Use `jax.vmap` for a
    batch of images.

    Faster R-CNN's RPN has fg_iou 0.7, bg_iou 0.3 and `allow_low_quality_matches`. Its second stage has 0.5 and 0.5.
    Fast R-CNN has 0.5, 0.5 and a bg_iou_low of 0.1.

    Args:
      boxes: Anchors or proposals, [N, 4], see `cvjax.ops.detection.boxes`.
      truth: Objects, [M, 4].
      truth_valid: bool [M], False in rows that are padding.
      fg_iou, bg_iou: Least IoU of a positive, and the IoU that a negative stays below.
      bg_iou_low: Least IoU of a negative.
      allow_low_quality_matches: Whether the boxes that overlap an object most, all of equals, are positive too, however
        small the overlap is, as long as it is above zero. Each such box is positive for the object that it itself
        overlaps most. These are torchvision's low-quality matches with one difference: there an object that no box
        overlaps makes positives of all boxes without overlap.
      ignored: bool [M], objects that are neither to be learned nor to be background, such as crowds and difficult ones.
        None means that there are none.
      ignored_share: A box is not negative if this share of its area or more lies within one ignored object, or if its
        IoU with that object reaches `bg_iou`.
      box_valid: bool [N], False for padding or for anchors across the image's border. Such boxes are neither positive
        nor negative, and are never an object's best box. None means that all are valid.

    Returns:
      The matches; no gradients flow through them.

    Raises:
      AssertionError: Shapes do not fit together.
      ValueError: The thresholds are not 0 <= bg_iou_low <= bg_iou <= fg_iou.
    """
    if not 0 <= bg_iou_low <= bg_iou <= fg_iou:
        raise ValueError(f"match needs 0 <= bg_iou_low <= bg_iou <= fg_iou, not {bg_iou_low}, {bg_iou} and {fg_iou}")
    chex.assert_shape(boxes, (None, 4))
    chex.assert_shape(truth, (None, 4))
    chex.assert_shape([truth_valid, *([] if ignored is None else [ignored])], truth.shape[:1])
    boxes, truth = lax.stop_gradient((boxes, truth))
    box_valid = jnp.ones(boxes.shape[:1], bool) if box_valid is None else box_valid
    chex.assert_shape(box_valid, boxes.shape[:1])
    if not truth.shape[0]:
        nothing = jnp.zeros(boxes.shape[:1])
        return Matches(nothing.astype(jnp.int32), nothing, jnp.zeros_like(box_valid), box_valid & (bg_iou_low <= 0))
    avoided = jnp.zeros_like(truth_valid) if ignored is None else ignored & truth_valid
    wanted = truth_valid & ~avoided

    # One array that is stored: computed twice, two fusions might round it to unequal maxima.
    table = lax.optimization_barrier(pairwise_iou(boxes, truth))
    overlaps = jnp.where(wanted[None] & box_valid[:, None], table, 0)
    index, overlap = jnp.argmax(overlaps, axis=1).astype(jnp.int32), jnp.max(overlaps, axis=1)
    positive = (overlap >= fg_iou) & (overlap > 0)
    if allow_low_quality_matches:
        positive |= jnp.any((overlaps == jnp.max(overlaps, axis=0, keepdims=True, initial=0)) & (overlaps > 0), axis=1)
    negative = (overlap >= bg_iou_low) & (overlap < bg_iou) & ~positive & box_valid
    if ignored is not None:
        # The small number keeps a box without area from lying within every object.
        share = intersection(boxes[:, None], truth[None]) >= ignored_share * jnp.maximum(area(boxes), 1e-12)[:, None]
        negative &= ~jnp.any(avoided[None] & (share | (table >= bg_iou)), axis=1)
    return Matches(index, overlap, positive & box_valid, negative)
