"""Semantic segmentation as a task: what goes into the net, the loss, and the sums a score is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.errors import ConfigError
from cvjax.tasks.images import Batch, ImageTask
from cvjax.tasks.metrics import border_report, confusion_matrix, image_iou_sums, image_miou, segmentation_report
from cvjax.tasks.segmentation.borders import boundary_confusion, trimap_confusions
from cvjax.tasks.segmentation.crf import CRFConfig, inside, refine
from cvjax.tasks.segmentation.loss import LossOptions, pixel_loss, region_loss
from cvjax.tasks.segmentation.membranes import membrane_report, membrane_sums


@dataclasses.dataclass(frozen=True)
class MapScoring:
    """What label maps are scored by, beside the IoU of whole images.

    Attributes:
      boundary: also boundary IoU (2103.16562), of bands as wide as 2% of an image's diagonal.
      trimap: also the mean IoU of the pixels within so many pixels of a border between labels (1210.5644).
      crf: run the probabilities through a dense CRF first.
      em_thresholds: also the errors of `cvjax.tasks.segmentation.membranes`, counted at each of these probabilities of
        the cells, which are the net's own, before any CRF.

    Raises:
      ConfigError: a distance below 1 pixel.
    """

    boundary: bool = False
    trimap: tuple[int, ...] = ()
    crf: CRFConfig | None = None
    em_thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(distance < 1 for distance in self.trimap):
            raise ConfigError(f"trimap distances are {self.trimap}; give whole numbers of pixels from 1 on")


@dataclasses.dataclass(frozen=True)
class Segmentation(LossOptions, MapScoring, ImageTask):
    """Pixel-wise classification: by default trained with the cross entropy of the labelled pixels.

    Attributes: those of `ImageTask` (where there is a background, it is the first class), of `LossOptions` and of
      `MapScoring`, and
      ignore: the label of pixels that neither train nor count.
      aux_weight: weight of the auxiliary head's loss, where the model has one.
      loss_stride: the loss looks at every n-th pixel of every n-th row. Neighbours say much the same, and on CPU the
        loss at full size costs as much as a small net's decoder.
      normalize_loss: divide by the labelled pixels; False makes the loss of a batch the mean over its images of the sum
        over their pixels, which is what FCN trains on, an image at a time (1605.06211).
      class_weights: factor of each class's pixels in the loss; None weighs all alike. A batch that has a `weight` of
        its own, float32 [B, H, W], is weighed by that instead (see `cvjax.tasks.segmentation.weight_maps`).
      margin: pixels that the net's logits lack on every side of the image. The loader gives crops with so much more of
        their surroundings than the mask has.
      cells: the class whose connected components are the instances of `em_thresholds`.
    """

    metric: ClassVar[str] = "miou"
    ignore: int = 255
    aux_weight: float = 0.4
    loss_stride: int = 1
    normalize_loss: bool = True
    class_weights: tuple[float, ...] | None = None
    margin: int = 0
    cells: int = 1

    def __post_init__(self) -> None:
        LossOptions.__post_init__(self)
        MapScoring.__post_init__(self)

    def weight(self, batch: Batch) -> jax.Array:
        """What the summed loss is divided by: the labelled pixels, each as its class weighs, float32 scalar.

        Without `normalize_loss`, the images.
        """
        if not self.normalize_loss:
            return batch["valid"].sum(dtype=jnp.float32)
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

        The loss of a whole image, such as soft Jaccard, is counted once for each of its labelled pixels.

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
        total = pixel_loss(logits, mask, weights, self) + region_loss(logits, mask, weights, self)
        for branch in auxiliary.values():
            total += self.aux_weight * pixel_loss(self._thin(branch), mask, weights, self)
        correct = (jnp.argmax(logits, axis=-1) == mask) * weights
        if not self.normalize_loss:  # an image's fraction, since images are what it is divided by
            correct = correct.sum((1, 2)) / jnp.maximum(weights.sum((1, 2)), 1.0)
        return total, {"accuracy": correct.sum()}

    def evaluate(self, probabilities: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """The sums of one batch that `report` scores: confusion matrices, int32 [C, C] and larger, and counts."""
        mask, valid = batch["mask"], batch["valid"]
        within = inside(batch.get("size"), mask.shape)
        if self.crf is not None:
            probabilities = refine(probabilities, batch["image"], self.crf, within)
        predictions = jnp.argmax(probabilities, axis=-1)
        counting = {"ignore": self.ignore, "valid": valid}
        confusions = confusion_matrix(mask, predictions, self.num_classes, per_image=True, **counting)
        sums = {
            "confusion": confusions.sum(0),
            "examples": valid.sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
            **image_iou_sums(confusions),
        }
        if self.boundary:
            sums["boundary"] = boundary_confusion(mask, predictions, self.num_classes, within=within, **counting)
        if self.trimap:
            sums["trimap"] = trimap_confusions(
                mask, predictions, self.num_classes, self.trimap, within=within, **counting
            )
        return sums

    def keep(self, probabilities: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """What `examine` needs of a batch, a row for each image; nothing unless errors of cells are counted."""
        if not self.em_thresholds:
            return {}
        return {"cells": probabilities[..., self.cells], "mask": batch["mask"], "valid": batch["valid"]}

    def examine(self, kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """On the host: sums of the errors of cells over the valid images of a batch, see
        `cvjax.tasks.segmentation.membranes`."""
        if not kept:
            return {}
        mask, valid = kept["mask"], kept["valid"]
        truth = np.where(mask == self.ignore, -1, mask == self.cells)
        return membrane_sums(truth[valid], kept["cells"][valid], self.em_thresholds)

    def report(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores of a whole split from the sums of all its batches: see `segmentation_report`, `border_report`."""
        report = segmentation_report(np.asarray(sums["confusion"], np.int64), self.class_names)
        report |= {"image_miou": image_miou(sums)} | border_report(sums, self.trimap)
        if self.em_thresholds:
            report |= membrane_report(sums, self.em_thresholds)
        return report | {"examples": int(sums["examples"]), "skipped": int(sums["skipped"])}
