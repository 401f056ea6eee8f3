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
from cvjax.tasks.membranes import membrane_report, membrane_sums
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
      class_weights: factor of each class's pixels in the loss; None weighs all alike. A batch that has a `weight` of
        its own, float32 [B, H, W], is weighed by that instead (see `cvjax.data.weight_maps`).
      margin: pixels that the net's logits lack on every side of the image. The loader gives crops with so much more of
        their surroundings than the mask has.
      cells: the class whose connected components are the instances of `em_thresholds`.
      em_thresholds: of the cells' probability, at which the errors of `cvjax.tasks.membranes` are counted; none if
        empty.
    """

    metric: ClassVar[str] = "miou"
    ignore: int = 255
    aux_weight: float = 0.4
    jaccard_weight: float = 0.0
    loss_stride: int = 1
    class_weights: tuple[float, ...] | None = None
    margin: int = 0
    cells: int = 1
    em_thresholds: tuple[float, ...] = ()

    def weight(self, batch: Batch) -> jax.Array:
        """What the summed loss is divided by: the labelled pixels, each as its class weighs, float32 scalar."""
        return self._weights(batch).sum()

    def _thin(self, maps: jax.Array) -> jax.Array:
        return maps[:, :: self.loss_stride, :: self.loss_stride]

    def _weights(self, batch: Batch) -> jax.Array:
        """Weight of every pixel that the loss looks at; 0 where it is ignored, or its row not valid."""
        mask = self._thin(batch["mask"])
        counted = ((mask != self.ignore) & batch["valid"][:, None, None]).astype(jnp.float32)
        if "weight" in batch:
            return counted * self._thin(batch["weight"])
        if self.class_weights is None:
            return counted
        return counted * jnp.take(jnp.asarray(self.class_weights), mask.astype(jnp.int32), mode="clip")

    def loss(self, outputs: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss as a sum, so that a mean over devices, hosts and micro-batches is one division.

        Soft Jaccard, a figure of a whole image, is counted once for each of its labelled pixels.

        Args:
          outputs: logits [B, H, W, C], or (logits, {"aux": logits}) of a model with an auxiliary head.
          batch: `mask` [B, H, W], `valid` [B], and maybe `weight` [B, H, W].

        Returns:
          The loss summed over the labelled pixels that it looks at, and further sums over them (`accuracy`: those
          predicted right), each pixel as its class weighs.
        """
        logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, {})
        chex.assert_shape(logits, (*batch["mask"].shape, self.num_classes))
        logits, mask = self._thin(logits), self._thin(batch["mask"])
        weights = self._weights(batch)
        total = (cross_entropy(logits, mask) * weights).sum()
        if self.jaccard_weight:
            each = soft_jaccard(logits, mask, weights > 0)
            total += self.jaccard_weight * (each * weights.sum((1, 2))).sum()
        for branch in auxiliary.values():
            total += self.aux_weight * (cross_entropy(self._thin(branch), mask) * weights).sum()
        correct = (jnp.argmax(logits, axis=-1) == mask) * weights
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

    def keep(self, probabilities: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """What `examine` needs of a batch, each with a leading batch axis; nothing unless errors of cells are counted."""
        if not self.em_thresholds:
            return {}
        return {"cells": probabilities[..., self.cells], "mask": batch["mask"], "valid": batch["valid"]}

    def examine(self, kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """On the host: sums of the errors of cells over the valid images of a batch, see `cvjax.tasks.membranes`."""
        if not kept:
            return {}
        mask, valid = kept["mask"], kept["valid"]
        truth = np.where(mask == self.ignore, -1, mask == self.cells)
        return membrane_sums(truth[valid], kept["cells"][valid], self.em_thresholds)

    def report(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores of a whole split from the sums of all its batches: see `segmentation_report`."""
        report = segmentation_report(np.asarray(sums["confusion"], np.int64), self.class_names)
        if self.em_thresholds:
            report |= membrane_report(sums, self.em_thresholds)
        return report | {"examples": int(sums["examples"]), "skipped": int(sums["skipped"])}
