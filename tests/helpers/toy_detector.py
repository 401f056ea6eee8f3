"""A detector small enough that a whole run is a test: one anchor at each place of one map."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.models import registry
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import BatchNorm, TorchConv, row_keys
from cvjax.ops.detection import boxes as B
from cvjax.ops.detection.anchors import map_anchors
from cvjax.ops.detection.matching import match
from cvjax.ops.detection.nms import nms
from cvjax.ops.detection.subsample import balanced_subsample

STRIDE, SIDE = 8, 20


class ToyDetector(nn.Module):
    """Scores by a sigmoid for each class, and the four deltas of Faster R-CNN; options as real ones have them."""

    num_classes: int
    dtype: jnp.dtype = jnp.float32
    width: int = 8
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 10
    needs_proposals: bool = False

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        sizes: jax.Array,
        proposals: Proposals | None = None,
        train: bool = False,
        truth: Truth | None = None,
    ) -> Detections | dict[str, jax.Array]:
        x = images
        for number in range(3):
            x = TorchConv(self.width << number, (3, 3), (2, 2), padding=((1, 1), (1, 1)), use_bias=False)(x)
            x = nn.relu(BatchNorm(momentum=0.9)(x, not train))
        x = TorchConv(self.num_classes + 4, (1, 1), name="head")(x)
        half = SIDE / 2
        cell = np.asarray([[STRIDE / 2 - half] * 2 + [STRIDE / 2 + half] * 2], np.float32)
        anchors = jnp.asarray(map_anchors(cell, x.shape[1:3], STRIDE))
        x = x.reshape(len(x), -1, self.num_classes + 4)
        logits, deltas = x[..., :-4], x[..., -4:]
        if train:
            keys = row_keys(self, "sample", len(x))
            return jax.vmap(self._losses, (0, 0, 0, None, 0))(keys, logits, deltas, anchors, truth)
        return jax.vmap(self._detect, (0, 0, None, 0))(logits, deltas, anchors, sizes)

    def _losses(
        self, key: jax.Array, logits: jax.Array, deltas: jax.Array, anchors: jax.Array, truth: Truth
    ) -> dict[str, jax.Array]:
        matches = match(
            anchors,
            truth.boxes,
            truth.valid & ~truth.ignore,
            fg_iou=0.4,
            bg_iou=0.3,
            allow_low_quality_matches=True,
            ignored=truth.valid & truth.ignore,
        )
        chosen = balanced_subsample(key, matches.positive, matches.negative, size=24, positive_fraction=0.5)
        positive, negative = (mask.astype(jnp.float32) for mask in chosen.masks(len(anchors)))
        wanted = jax.nn.one_hot(truth.labels[matches.index], self.num_classes) * positive[:, None]
        errors = jnp.logaddexp(0, logits) - wanted * logits
        moves = jnp.abs(deltas - B.encode(truth.boxes[matches.index], anchors))
        count = jnp.maximum(chosen.valid.sum(), 1).astype(jnp.float32)
        return {
            "classes": (errors.sum(-1) * (positive + negative)).sum() / count,
            "boxes": (moves.sum(-1) * positive).sum() / count,
        }

    def _detect(self, logits: jax.Array, deltas: jax.Array, anchors: jax.Array, size: jax.Array) -> Detections:
        boxes = B.clip(B.decode(deltas, anchors), (size[0], size[1]))
        scores = jnp.where(B.area(boxes)[:, None] > 0, jax.nn.sigmoid(logits), -jnp.inf).reshape(-1)
        boxes = jnp.repeat(boxes, self.num_classes, axis=0)
        classes = jnp.tile(jnp.arange(self.num_classes, dtype=jnp.int32), len(anchors))
        kept = nms(
            boxes,
            scores,
            iou_threshold=self.nms_threshold,
            max_output=self.max_detections,
            classes=classes,
            score_threshold=self.score_threshold,
        )
        return Detections(boxes[kept.indices], kept.scores, classes[kept.indices], kept.valid)


VARIANTS = (
    Variant(
        ModelInfo("toy_detector", "detection", "none", 2000, image_size=64, params=0, gmacs=None, params_classes=2),
        ToyDetector,
        {},
    ),
)


def register(patch) -> None:
    """Makes `create_model("toy_detector")` known, for as long as the patch (pytest's) lasts."""
    table = {**registry._table(), "toy_detector": VARIANTS[0]}
    patch.setattr(registry, "_table", lambda: table)
