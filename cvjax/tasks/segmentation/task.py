"""Defines semantic segmentation as a task: the data, loss, scores and pictures of a run that classifies pixels."""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from rich.console import RenderableType

from cvjax.data.dataset import Dataset, Target, image_sizes
from cvjax.data.decode import decode_example
from cvjax.data.order import Bucket, batches_by_size
from cvjax.data.reader import Decode
from cvjax.datasets.image_folder import NAME as IMAGE_FOLDER
from cvjax.datasets.masks.checks import absent_classes
from cvjax.datasets.masks.counts import MaskCounts, count_masks
from cvjax.datasets.registry import OWN, own_place
from cvjax.datasets.statistics import balancing_weights, class_frequencies
from cvjax.engine.task import Batch, Report
from cvjax.errors import ConfigError
from cvjax.storage import data_folder
from cvjax.tasks.confusion import confusion_matrix
from cvjax.tasks.doubts import Doubt
from cvjax.tasks.images import ImageTask
from cvjax.tasks.losses import soft_divergence
from cvjax.tasks.prediction.choices import KeptProbabilities
from cvjax.tasks.prediction.pieces import Views
from cvjax.tasks.scale_crop import EvalTransform, TrainTransform
from cvjax.tasks.segmentation import pictures, predict
from cvjax.tasks.segmentation.config import SegmentationConfig
from cvjax.tasks.segmentation.crf import apply_crf, inside
from cvjax.tasks.segmentation.doubt import mask_doubts
from cvjax.tasks.segmentation.loss import pixel_loss, region_loss
from cvjax.tasks.segmentation.predict import MapPredictor
from cvjax.tasks.segmentation.scores.borders import boundary_confusion, trimap_confusions
from cvjax.tasks.segmentation.scores.membranes import membrane_report, membrane_sums
from cvjax.tasks.segmentation.scores.regions import border_report, image_iou_sums, image_miou, segmentation_report
from cvjax.tasks.segmentation.transforms import SegmentationData
from cvjax.tasks.segmentation.warp import WarpTransform
from cvjax.visual.tables import report_table

_FOLDERS = (IMAGE_FOLDER, OWN)  # whose masks people make themselves, and all are read before the first step


@dataclasses.dataclass(frozen=True)
class Segmentation(ImageTask):
    """Classifies pixels, by default trained with the cross entropy of the labeled pixels.

    Attributes: those of `ImageTask` (a background is the first class), and
      ignore: Label of pixels that neither train nor count.
      class_weights: Weight of each class's pixels in the loss; None gives all the weight 1. A batch that has a
        `weight`, float32 [B, H, W], uses that instead (see `cvjax.tasks.segmentation.weight_maps`).
      margin: Number of pixels that the net's logits lack on every side of the image. The loader gives crops that are
        larger than the mask by this margin on every side.
    """

    name: ClassVar[str] = "segmentation"
    target: ClassVar[Target] = "mask"
    config_class = SegmentationConfig

    config: SegmentationConfig
    ignore: int = 255
    class_weights: tuple[float, ...] | None = None
    margin: int = 0

    @classmethod
    def open_options(cls, config: SegmentationConfig) -> dict[str, Any]:
        """Returns the pixel values of the classes in a folder's masks, and those that are ignored.

        Raises:
          ConfigError: Values are configured, and the dataset is not a folder of one's own.
        """
        values, is_folder = config.input.mask_values, _is_folder(config)
        if values and not is_folder:
            raise ConfigError(
                f"input.mask_values are of {' and '.join(_FOLDERS)}, and the data set is {config.data}; leave them out"
            )
        return {"values": values, "void": config.input.void} if is_folder else {}

    @classmethod
    def create(cls, config: SegmentationConfig, dataset: Dataset, model: nn.Module) -> Self:
        """Makes the task with the classes of a dataset, and with class weights of the loss if configured.

        All masks of a user's own folder are read, so that what is wrong with them is said before the first step.

        Raises:
          ConfigError: The net cannot take the crop, or `input.cells` is not a class.
          DataError: A mask of a user's folder is damaged, or they have fewer than two classes.
        """
        classes, data = len(dataset.class_names), config.input
        margin = getattr(model, "margin", 0)
        if margin:
            model.output_size(data.crop)  # says which sizes fit
        if not 0 <= data.cells < classes and (data.border_weight or config.eval.em_thresholds):
            raise ConfigError(f"input.cells is {data.cells}, and the classes are 0 to {classes - 1}; give one of them")
        class_weights, is_folder = None, _is_folder(config)
        if is_folder or config.class_balance:
            counts = cls._count(config, dataset)
            if is_folder:
                cls._check_folder(config, dataset, counts)
            if config.class_balance:
                frequencies = class_frequencies(counts, f"{dataset.name}/{dataset.split}")
                class_weights = balancing_weights(frequencies, config.class_balance)
        return cls(config, tuple(dataset.class_names), class_weights=class_weights, margin=margin)

    @classmethod
    def _count(cls, config: SegmentationConfig, dataset: Dataset) -> MaskCounts:
        data_dir = data_folder(config.data_dir)
        skip = config.input.on_bad_record == "skip"
        return count_masks(dataset, len(dataset.class_names), _void(config.input), data_dir=data_dir, skip=skip)

    @classmethod
    def _check_folder(cls, config: SegmentationConfig, dataset: Dataset, counts: MaskCounts) -> None:
        """Warns of classes that no mask of a user's folder has, and reads the masks of the split that is scored."""
        data = config.input
        way = "give --input.mask-values" if data.manual_dir else "prepare it again with --values"
        where = f"{data.manual_dir or dataset.name}, split {dataset.split}"
        way = "" if data.mask_values else way
        warning = absent_classes(counts, dataset.class_names, where, void=data.void, way=way)
        if warning is not None and jax.process_index() == 0:
            print(f"warning: {warning}", file=sys.stderr)
        if data.eval_split != data.train_split:
            cls._count(config, cls.open(config, data.eval_split))

    @property
    def metric(self) -> str:
        """Returns the name of the score that chooses the best checkpoint, the mean IoU."""
        return "miou"

    def decoder(self) -> Decode:
        """Returns the function from a record to its image and mask."""
        return functools.partial(decode_example, num_classes=self.num_classes, void=_void(self.config.input))

    def train_transform(self) -> TrainTransform | WarpTransform:
        """Returns the configured scale, crop, flips and deformation."""
        data = self.config.input
        if not (self.margin or data.flip_vertical or data.rotate or data.elastic or data.border_weight):
            return TrainTransform(data, self.fill, self.ignore)
        return WarpTransform(data, self.fill, self.ignore, margin=self.margin, class_weights=self.class_weights)

    def eval_buckets(self, dataset: Dataset) -> tuple[EvalTransform, Sequence[Bucket]]:
        """Returns the padding, and buckets of images of similar size."""
        resize, scoring = self.config.input.resize, self.config.eval
        sizes = [resize] * len(dataset) if resize else image_sizes(dataset)
        # A net without padding mirrors its images at their border, not at that of padding.
        buckets = batches_by_size(sizes, scoring.batch_size, 1 if self.margin else scoring.pad_multiple)
        return EvalTransform(size=buckets[0][0], fill=self.fill, ignore=self.ignore, resize=resize), buckets

    def predict(self, model: nn.Module, variables: Any, inputs: jax.Array) -> jax.Array:
        """Returns class probabilities [B, H, W, C] of normalized images, as the evaluation is configured."""
        return predict.probabilities(model, variables, inputs, self.config.eval)

    def weight(self, batch: Batch) -> jax.Array:
        """Returns the divisor of the summed loss, float32 scalar: the sum of the weights of the labeled pixels.

        Without `normalize_loss` it is the number of images.
        """
        if not self.config.normalize_loss:
            return super().weight(batch)
        return self._weights(batch).sum()

    def _thin(self, maps: jax.Array) -> jax.Array:
        stride = self.config.loss_stride
        return maps[:, ::stride, ::stride]

    def _weights(self, batch: Batch) -> jax.Array:
        """Returns the weight of every pixel that the loss uses; 0 if it is ignored or its row is not valid."""
        mask = self._thin(batch["mask"])
        counted = ((mask != self.ignore) & batch["valid"][:, None, None]).astype(jnp.float32)
        if "weight" in batch:
            return counted * self._thin(batch["weight"])
        if self.class_weights is None:
            return counted
        return counted * jnp.take(jnp.asarray(self.class_weights), mask.astype(jnp.int32), mode="clip")

    def loss(self, outputs: Any, targets: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the loss as a sum, so that a mean over devices, hosts and micro-batches is one division.

        The loss of a whole image, such as soft Jaccard, is multiplied by the weight of its labeled pixels.

        Args:
          outputs: Logits [B, H, W, C], or (logits, {"aux": logits}) of a model with an auxiliary head.
          targets: Batch with `mask` [B, H, W], `valid` [B], and optionally `weight` [B, H, W].

        Returns:
          The loss summed over the labeled pixels that it uses, and further sums over them. `accuracy` sums the weights
          of the pixels that are predicted right.
        """
        logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, {})
        chex.assert_shape(logits, (*targets["mask"].shape, self.num_classes))
        logits, mask = self._thin(logits), self._thin(targets["mask"])
        weights = self._weights(targets)
        total = pixel_loss(logits, mask, weights, self.config) + region_loss(logits, mask, weights, self.config)
        for branch in auxiliary.values():
            total += self.config.aux_weight * pixel_loss(self._thin(branch), mask, weights, self.config)
        correct = (jnp.argmax(logits, axis=-1) == mask.astype(jnp.int32)).astype(jnp.float32) * weights
        if not self.config.normalize_loss:  # an image's fraction, since images are what it is divided by
            correct = correct.sum((1, 2)) / jnp.maximum(weights.sum((1, 2)), 1.0)
        return total, {"accuracy": correct.sum()}

    def soft_loss(self, logits: jax.Array, taught: jax.Array, targets: Batch) -> jax.Array:
        """Returns the divergence from a teacher's logits [B, H, W, C], summed over pixels by their weights."""
        divergence = soft_divergence(self._thin(logits), self._thin(taught))
        return (divergence * self._weights(targets)).sum()

    def image_weights(self, targets: Batch) -> jax.Array:
        """Returns the sum of the weights of each image's pixels, [B]; without `normalize_loss` 1 for a valid image."""
        if not self.config.normalize_loss:
            return super().image_weights(targets)
        return self._weights(targets).sum((1, 2))

    def update(self, predictions: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Returns the sums of one batch that `compute` scores: confusion matrices, int32 [C, C] and larger, and counts.

        Args:
          predictions: Probabilities [B, H, W, C].
          batch: Batch with `mask`, `image`, `valid`, `skipped`, and `size` if images are padded.
        """
        mask, valid, scoring = batch["mask"], batch["valid"], self.config.eval
        within = inside(batch.get("size"), mask.shape)
        if scoring.crf is not None:
            predictions = apply_crf(predictions, batch["image"], scoring.crf, within)
        labels = jnp.argmax(predictions, axis=-1)
        counting = {"ignore": self.ignore, "valid": valid}
        confusions = confusion_matrix(mask, labels, self.num_classes, per_image=True, **counting)
        sums = {
            "confusion": confusions.sum(0),
            "examples": valid.sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
            **image_iou_sums(confusions, self._absent_labels),
        }
        if scoring.boundary:
            sums["boundary"] = boundary_confusion(mask, labels, self.num_classes, within=within, **counting)
        if scoring.trimap:
            sums["trimap"] = trimap_confusions(
                mask, labels, self.num_classes, scoring.trimap, within=within, **counting
            )
        return sums

    def gather(self, predictions: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Returns each image's probability of cells and its mask, if errors of cells are counted."""
        if not self.config.eval.em_thresholds:
            return {}
        cells = predictions[..., self.config.input.cells]
        return {"cells": cells, "mask": batch["mask"], "valid": batch["valid"]}

    def summarize(self, rows: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns sums of the errors of cells over a batch, see `cvjax.tasks.segmentation.scores.membranes`."""
        if not rows:
            return {}, {}
        mask, valid = rows["mask"], rows["valid"]
        truth = np.where(mask == self.ignore, -1, mask == self.config.input.cells)
        return membrane_sums(truth[valid], rows["cells"][valid], self.config.eval.em_thresholds), {}

    def compute(self, totals: Mapping[str, np.ndarray]) -> Report:
        """Returns the scores of a whole split from its sums, see `segmentation_report` and `border_report`."""
        scoring = self.config.eval
        report = segmentation_report(np.asarray(totals["confusion"], np.int64), self.class_names, self.absent)
        report |= {"image_miou": image_miou(totals)} | border_report(totals, scoring.trimap, self._absent_labels)
        if scoring.em_thresholds:
            report |= membrane_report(totals, scoring.em_thresholds)
        return report | {"examples": int(totals["examples"]), "skipped": int(totals["skipped"])}

    @property
    def _absent_labels(self) -> tuple[int, ...]:
        return tuple(self.class_names.index(name) for name in self.absent)

    def batch_predictor(
        self,
        model: nn.Module,
        variables: dict[str, Any],
        views: Views | None = None,
        *,
        multiple: int | None = None,
        kept: KeptProbabilities | None = None,
    ) -> MapPredictor:
        """Returns what predicts label maps of photographs, with probabilities if `kept` says how.

        Scales and mirror images are those of the views, or without any those of the evaluation.
        """
        task = self
        if views is not None:
            scoring = dataclasses.replace(self.config.eval, scales=views.scales, flip=views.flip)
            task = self.reconfigured(eval=scoring)
        return MapPredictor(task, model, variables, views, multiple=multiple, kept=kept)

    def predictor(self, model: nn.Module, variables: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the function from a photograph to labels, uint8 [H, W]."""
        return predict.make_map_predictor(self, model, variables)

    def doubts(self, model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[Doubt]:
        """Returns the labels that the net finds unlikely, see `cvjax.tasks.segmentation.doubt`."""
        return mask_doubts(self, model, variables, dataset)

    def table(self, report: Report) -> RenderableType:
        """Returns the table of each class's IoU."""
        return report_table(report)

    def headline(self, report: Report) -> str:
        """Returns the scores as one line."""
        return pictures.headline(report)

    def draw_report(self, folder: pathlib.Path, report: Report) -> list[str]:
        """Writes report.md; returns its name."""
        return pictures.draw_report(folder, report)

    def draw_examples(
        self, folder: pathlib.Path, model: nn.Module, variables: dict[str, Any], dataset: Dataset
    ) -> list[str]:
        """Writes predictions.png: images, ground truth and predictions; returns its name."""
        return pictures.draw_examples(self, folder, model, variables, dataset)


def _void(data: SegmentationData) -> tuple[int, ...]:
    """Returns the labels that decoding ignores; masks with values of their own come without any."""
    return () if data.mask_values else data.void


def _is_folder(config: SegmentationConfig) -> bool:
    return own_place(config.data, config.input.manual_dir)[0] in _FOLDERS
