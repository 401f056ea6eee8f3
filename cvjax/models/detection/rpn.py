"""The region proposal network (Ren et al., Faster R-CNN, 1506.01497): its layers, its proposals and its losses."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cvjax.models.detection.detector import Proposals, Truth
from cvjax.models.detection.inclusive import clip_decoded
from cvjax.models.detection.sampled_losses import mean_over, smooth_l1
from cvjax.nn import TorchConv, gaussian
from cvjax.ops.detection import anchors as anchor_boxes
from cvjax.ops.detection import boxes as box_ops
from cvjax.ops.detection.matching import match
from cvjax.ops.detection.nms import nms
from cvjax.ops.detection.subsample import balanced_subsample


class Level(NamedTuple):
    """Holds the outputs of the network for the anchors of one map.

    Attributes:
      scores: Logits that an anchor holds an object, float32 [B, N].
      deltas: Deltas of the anchors, float32 [B, N, 4], see `cvjax.ops.detection.boxes.encode`.
      anchors: Anchors, float32 [N, 4].
    """

    scores: jax.Array
    deltas: jax.Array
    anchors: jax.Array | np.ndarray


class RPNHead(nn.Module):
    """Predicts whether each anchor holds an object, and where exactly the object is.

    The layers are a 3x3 convolution and two 1x1 convolutions on it.

    The paper's scores are two numbers through a softmax. One number through a sigmoid says the same (its footnote 1).

    Attributes:
      features: Channels of the 3x3 convolution.
      anchors: Number of anchors of one place.
      dtype: Type of the computation; results are float32.
    """

    features: int
    anchors: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        init = gaussian(0.01)  # as in the paper
        self.conv = TorchConv(self.features, 3, dtype=self.dtype, kernel_init=init)
        self.objectness = TorchConv(self.anchors, 1, dtype=self.dtype, kernel_init=init)
        self.deltas = TorchConv(4 * self.anchors, 1, dtype=self.dtype, kernel_init=init)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Turns x [B, H, W, C] into scores [B, H * W * anchors] and deltas [B, H * W * anchors, 4], float32."""
        x = nn.relu(self.conv(x))
        scores, deltas = self.objectness(x), self.deltas(x)
        batch = x.shape[0]
        return scores.reshape(batch, -1).astype(jnp.float32), deltas.reshape(batch, -1, 4).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Selection:
    """Says how anchors become proposals.

    Attributes:
      pre_nms_top_n: Number of best anchors of each map that suppression looks at.
      post_nms_top_n: Number of proposals of an image.
      nms_threshold: IoU above which the worse of two proposals of one map is dropped.
      min_size: Least side of a proposal, in pixels.
      inclusive: Whether the boxes' corners are pixels that belong to them, see `cvjax.models.detection.inclusive`.
    """

    pre_nms_top_n: int
    post_nms_top_n: int
    nms_threshold: float
    min_size: float
    inclusive: bool = False


def propose(levels: Sequence[Level], sizes: jax.Array, selection: Selection) -> Proposals:
    """Turns anchors into the best proposals of each image: clipped to it, without near duplicates, without gradients.

    Args:
      levels: Outputs of the network for each map.
      sizes: Height and width of the images without padding, [B, 2].
      selection: Rules of the selection.

    Returns:
      `Proposals`, best first, where P is `selection.post_nms_top_n`.
    """

    def of_image(scores: list[jax.Array], deltas: list[jax.Array], size: jax.Array) -> Proposals:
        rows = []
        for number, (score, delta, level) in enumerate(zip(scores, deltas, levels)):
            best, places = lax.top_k(score, min(selection.pre_nms_top_n, score.size))
            boxes = box_ops.decode(delta[places], jnp.asarray(level.anchors)[places])
            rows.append((boxes, best, jnp.full(best.shape, number)))
        boxes, best, number = (jnp.concatenate(parts) for parts in zip(*rows))
        boxes = clip_decoded(boxes, (size[0], size[1]), selection.inclusive)
        long_enough = jnp.min(boxes[:, 2:] - boxes[:, :2], axis=-1) >= selection.min_size
        kept = nms(
            boxes,
            jnp.where(long_enough, best, -jnp.inf),
            iou_threshold=selection.nms_threshold,
            max_output=selection.post_nms_top_n,
            classes=number,
        )
        return Proposals(jnp.where(kept.valid[:, None], boxes[kept.indices], 0), kept.valid)

    scores = [lax.stop_gradient(level.scores) for level in levels]
    deltas = [lax.stop_gradient(level.deltas) for level in levels]
    return jax.vmap(of_image)(scores, deltas, sizes)


def rpn_losses(
    levels: Sequence[Level],
    sizes: jax.Array,
    truth: Truth,
    keys: jax.Array,
    *,
    samples: int,
    beta: float,
    border: float | None,
    fg_iou: float = 0.7,
    bg_iou: float = 0.3,
) -> dict[str, jax.Array]:
    """Computes the losses of anchors that are drawn at random, at most half of them positive.

    An anchor is positive for an object if their IoU is at least `fg_iou`, or if no anchor overlaps that object more. It
    is negative if its IoU with all objects is below `bg_iou`. Both losses are divided by the number of anchors drawn.
    (The paper divides the second by the number of places, about 2400, and weighs it 10 times, which is about the same.)

    Args:
      levels: Outputs of the network for each map.
      sizes: Height and width of the images without padding, [B, 2].
      truth: Objects of the images.
      keys: Keys, one an image.
      samples: Number of anchors that are drawn in each image.
      beta: Distance from which the loss of boxes is a straight line, see `smooth_l1`.
      border: Distance in pixels by which anchors that train may reach beyond their image; None trains all.
      fg_iou: IoU with an object from which an anchor is positive.
      bg_iou: IoU with all objects below which an anchor is negative.

    Returns:
      Losses, float32 [B]: `rpn_object` (whether there is an object) and `rpn_box` (where it is).
    """
    anchors = jnp.concatenate([jnp.asarray(level.anchors) for level in levels])

    def of_image(
        scores: jax.Array, deltas: jax.Array, size: jax.Array, truth: Truth, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        matches = match(
            anchors,
            truth.boxes,
            truth.valid,
            fg_iou=fg_iou,
            bg_iou=bg_iou,
            allow_low_quality_matches=True,
            ignored=truth.ignore,
            box_valid=None if border is None else anchor_boxes.inside(anchors, (size[0], size[1]), border),
        )
        drawn = balanced_subsample(key, matches.positive, matches.negative, size=samples, positive_fraction=0.5)
        score, delta, anchor = scores[drawn.indices], deltas[drawn.indices], anchors[drawn.indices]
        objects = jax.nn.softplus(score) - score * drawn.positive.astype(score.dtype)
        if not truth.boxes.shape[0]:
            return mean_over(objects, drawn.valid, drawn.valid), jnp.zeros(())
        wanted = box_ops.encode(truth.boxes[matches.index[drawn.indices]], anchor)
        boxes = smooth_l1(delta - wanted, beta).sum(axis=-1)
        return mean_over(objects, drawn.valid, drawn.valid), mean_over(boxes, drawn.positive, drawn.valid)

    scores, deltas = (jnp.concatenate([level[part] for level in levels], axis=1) for part in (0, 1))
    objects, boxes = jax.vmap(of_image)(scores, deltas, sizes, truth, keys)
    return {"rpn_object": objects, "rpn_box": boxes}
