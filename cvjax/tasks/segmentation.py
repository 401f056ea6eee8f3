"""Semantic segmentation as a task: what goes into the net, the loss, and the sums a score is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.tasks.images import Batch, ImageTask
from cvjax.tasks.losses import cross_entropy, soft_jaccard
from cvjax.tasks.metrics import confusion_matrix, segmentation_report


@dataclasses.dataclass(frozen=True)
class Segmentation(ImageTask):
    """Pixel-wise classification with cross entropy over the labelled pixels, and soft Jaccard beside it if asked.

    Attributes: those of `ImageTask` (where there is a background, it is the first class), and
      ignore: the label of pixels that neither train nor count.
      aux_weight: weight of the auxiliary head's loss, where the model has one.
      jaccard_weight: weight of the soft Jaccard loss (see `cvjax.tasks.losses`) beside the cross entropy.
      loss_stride: the loss looks at every n-th pixel of every n-th row. Neighbours say much the same, and on CPU the
        loss at full size costs as much as a small net's decoder.
      normalize_loss: divide by the labelled pixels; False makes the loss of a batch the mean over its images of the sum
        over their pixels, which is what FCN trains on, an image at a time (1605.06211).
      class_weights: factor of each class's pixels in the loss; None weighs all alike.
    """

    metric: ClassVar[str] = "miou"
    ignore: int = 255
    aux_weight: float = 0.4
    jaccard_weight: float = 0.0
    loss_stride: int = 1
    normalize_loss: bool = True
    class_weights: tuple[float, ...] | None = None

    def weight(self, batch: Batch) -> jax.Array:
        """What the summed loss is divided by: the labelled pixels, each as its class weighs, float32 scalar.

        Without `normalize_loss`, the images.
        """
        if not self.normalize_loss:
            return batch["valid"].sum(dtype=jnp.float32)
        return self._weights(self._thin(batch["mask"]), batch["valid"]).sum()

    def _thin(self, maps: jax.Array) -> jax.Array:
        return maps[:, :: self.loss_stride, :: self.loss_stride]

    def _weights(self, mask: jax.Array, valid: jax.Array) -> jax.Array:
        counted = ((mask != self.ignore) & valid[:, None, None]).astype(jnp.float32)
        if self.class_weights is None:
            return counted
        return counted * jnp.take(jnp.asarray(self.class_weights), mask.astype(jnp.int32), mode="clip")

    def loss(self, outputs: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss as a sum, so that a mean over devices, hosts and micro-batches is one division.

        Soft Jaccard, a figure of a whole image, is counted once for each of its labelled pixels.

        Args:
          outputs: logits [B, H, W, C], or (logits, {"aux": logits}) of a model with an auxiliary head.
          batch: `mask` [B, H, W] and `valid` [B].

        Returns:
          The loss summed over the labelled pixels that it looks at, and further sums over them (`accuracy`: those
          predicted right), each pixel as its class weighs.
        """
        logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, {})
        chex.assert_shape(logits, (*batch["mask"].shape, self.num_classes))
        logits, mask = self._thin(logits), self._thin(batch["mask"])
        weights = self._weights(mask, batch["valid"])
        total = (cross_entropy(logits, mask) * weights).sum()
        if self.jaccard_weight:
            each = soft_jaccard(logits, mask, weights > 0)
            total += self.jaccard_weight * (each * weights.sum((1, 2))).sum()
        for branch in auxiliary.values():
            total += self.aux_weight * (cross_entropy(self._thin(branch), mask) * weights).sum()
        correct = (jnp.argmax(logits, axis=-1) == mask) * weights
        if not self.normalize_loss:  # an image's fraction, since images are what it is divided by
            correct = correct.sum((1, 2)) / jnp.maximum(weights.sum((1, 2)), 1.0)
        return total, {"accuracy": correct.sum()}

    def evaluate(self, probabilities: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """The sums of one batch that `report` scores: a confusion matrix, int32 [C, C], and counts."""
        predictions = jnp.argmax(probabilities, axis=-1)
        confusion = confusion_matrix(
            batch["mask"], predictions, self.num_classes, ignore=self.ignore, valid=batch["valid"]
        )
        return {
            "confusion": confusion,
            "examples": batch["valid"].sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
        }

    def report(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores of a whole split from the sums of all its batches: see `segmentation_report`."""
        report = segmentation_report(np.asarray(sums["confusion"], np.int64), self.class_names)
        return report | {"examples": int(sums["examples"]), "skipped": int(sums["skipped"])}
