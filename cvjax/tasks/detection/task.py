"""Defines detection as a task: the data, losses, scores and pictures of a run of any detector."""

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from rich.console import Group, RenderableType

from cvjax.data.annotations import decode_boxes_example
from cvjax.data.box_rows import restore_boxes
from cvjax.data.dataset import Dataset, Target
from cvjax.data.order import Bucket
from cvjax.data.reader import Decode
from cvjax.datasets.proposals.boxes import ProposalConfig
from cvjax.datasets.proposals.files import ProposalSet, ProposedDataset, attach, prepare_proposals
from cvjax.engine.task import Batch, Report
from cvjax.models.detection.detector import Detections, Proposals, Truth, beside_images
from cvjax.storage import data_folder
from cvjax.tasks.detection import pictures
from cvjax.tasks.detection.box_finder import BoxPredictor
from cvjax.tasks.detection.checks import check_scored, training_warnings
from cvjax.tasks.detection.config import DetectionConfig
from cvjax.tasks.detection.doubt import box_doubts
from cvjax.tasks.detection.metrics import DetectionScores
from cvjax.tasks.detection.predict import Inputs, call_detector, with_postprocessing
from cvjax.tasks.detection.transforms import (
    BoxEvalTransform,
    BoxTrainTransform,
    DetectionData,
    MultiScale,
    box_buckets,
)
from cvjax.tasks.doubts import Doubt
from cvjax.tasks.images import ImageTask
from cvjax.tasks.prediction.pieces import Views
from cvjax.visual.detection_tables import detection_tables

_DETECTED = ("boxes", "scores", "classes")


@dataclasses.dataclass(frozen=True)
class Detection(ImageTask):
    """Predicts boxes and classes of objects, trained with the detector's own losses.

    A batch has, beside `image` and `size`: `boxes`, `labels`, `difficult`, `crowd`, `box_valid`, `dropped_boxes`, and
    in evaluation `areas`, `scale` and `original_size`, see docs/architecture.md. For detectors that need proposals it
    has `proposals`, float32 [B, P, 4], and `proposal_valid`, bool [B, P].

    Attributes: those of `ImageTask`; no class is the background.
    """

    name: ClassVar[str] = "detection"
    target: ClassVar[Target] = "boxes"
    config_class = DetectionConfig

    config: DetectionConfig

    @classmethod
    def open(cls, config: DetectionConfig, split: str) -> Dataset:
        """Opens a split, with proposals in its records if configured; proposals missing on disk are made first.

        Raises:
          ConfigError: The package that makes the proposals of this mode is missing.
          DataError: An image cannot be read.
        """
        dataset, data = super().open(config, split), config.input
        if not data.proposals:
            return dataset
        if data.proposals_from:
            below = f"{dataset.name}/{dataset.split}"
            return attach(dataset, ProposalSet(data_folder(data.proposals_from, below) / below))
        return ProposedDataset(dataset, prepare_proposals(dataset, proposal_config(data), config.data_dir))

    @classmethod
    def create(cls, config: DetectionConfig, dataset: Dataset, model: nn.Module) -> Self:
        """Makes the task of a run; warns of boxes that it cannot learn from, see `training_warnings`."""
        for warning in training_warnings(config, dataset) if jax.process_index() == 0 else ():
            print(f"warning: {warning}", file=sys.stderr)
        return super().create(config, dataset, model)

    def matched(self, dataset: Dataset) -> tuple[Self, Dataset]:
        """Matches the classes, see `ImageTask`, and checks that the evaluation has room for all boxes.

        Raises:
          DataError: The dataset has a class that the model lacks, or an image has too many boxes.
        """
        check_scored(self.config.eval.boxes, dataset)
        return super().matched(dataset)

    @classmethod
    def open_options(cls, config: DetectionConfig) -> dict[str, Any]:
        """Returns the configured handling of bad boxes."""
        return {"on_bad_boxes": config.input.on_bad_boxes}

    @property
    def metric(self) -> str:
        """Returns the name of the average precision that chooses the best checkpoint."""
        return self.config.eval.metric

    def decoder(self) -> Decode:
        """Returns the function from a record to its image and objects."""
        return functools.partial(decode_boxes_example, num_classes=self.num_classes)

    def train_transform(self) -> BoxTrainTransform | MultiScale:
        """Returns the configured crop, scale, shift and mirroring."""
        transform = BoxTrainTransform(self.config.input, self.fill)
        return MultiScale(transform) if self.config.input.sizes else transform

    def eval_transform(self) -> BoxEvalTransform:
        """Returns the transform that resizes and pads whole images to the configured size.

        Raises:
          ConfigError: A value is outside its range.
        """
        data, scoring = self.config.input, self.config.eval
        return BoxEvalTransform(
            size=scoring.crop or data.crop,
            short_side=scoring.short_side or data.short_side,
            long_side=scoring.long_side or data.long_side,
            keep_aspect=data.keep_aspect,
            fill=self.fill,
            max_boxes=scoring.boxes,
            max_proposals=data.proposals,
        )

    def eval_buckets(self, dataset: Dataset) -> tuple[BoxEvalTransform, Sequence[Bucket]]:
        """Returns the resizing and padding, and buckets of images of similar size."""
        transform, scoring = self.eval_transform(), self.config.eval
        return transform, box_buckets(dataset, transform, scoring.batch_size, scoring.pad_multiple)

    def init(self, model: nn.Module, key: jax.Array) -> dict[str, Any]:
        """Returns fresh variables of the model, for images of the training size without padding."""
        images = jnp.zeros((2, *self.config.input.crop, 3), jnp.float32)
        variables = model.init(key, images, **beside_images(model, images.shape), train=False)
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    def apply(self, model: nn.Module, variables: Any, inputs: Inputs, *, train: bool, **options: Any) -> Any:
        """Returns detections, or in training the losses by name, see `call_detector`."""
        return call_detector(model, variables, inputs, train=train, **options)

    def prepare(self, batch: Batch, key: jax.Array | None) -> tuple[Inputs, Batch]:
        """Returns the inputs of the detector, in training with the ground truth, and the unchanged batch."""
        proposals = None
        if "proposals" in batch:
            proposals = Proposals(batch["proposals"], batch["proposal_valid"] & batch["valid"][:, None])
        truth = None if key is None else truth_of(batch)
        return Inputs(self.images(batch, key), batch["size"], proposals, truth), batch

    def loss(self, outputs: Mapping[str, jax.Array], targets: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the loss as a sum over images.

        Args:
          outputs: Losses of each image by name, float32 [B].
          targets: Batch with `valid` [B].

        Returns:
          The summed loss, and the sum of each named loss.
        """
        chex.assert_shape(list(outputs.values()), targets["valid"].shape)
        sums = {name: jnp.where(targets["valid"], values, 0).sum() for name, values in outputs.items()}
        return jnp.stack(list(sums.values())).sum(), sums

    def predict(self, model: nn.Module, variables: Any, inputs: Inputs) -> Detections:
        """Returns detections, with the thresholds of the evaluation's configuration."""
        return call_detector(with_postprocessing(model, self.config.eval), variables, inputs, train=False)

    def update(self, predictions: Detections, batch: Batch) -> dict[str, jax.Array]:
        """Returns the counts of one batch; the scores come from the rows of `gather`."""
        del predictions
        return {
            "examples": batch["valid"].sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
            "dropped_boxes": jnp.where(batch["valid"], batch["dropped_boxes"], 0).sum(dtype=jnp.int32),
        }

    def gather(self, predictions: Detections, batch: Batch) -> dict[str, jax.Array]:
        """Returns the detections and the ground truth of every image, in the frame of the batch's images."""
        chex.assert_shape(predictions.boxes, (*batch["valid"].shape, None, 4))
        truth = ("boxes", "labels", "difficult", "crowd", "areas")
        return {
            **{name: getattr(predictions, name) for name in _DETECTED},
            "box_valid": predictions.valid,
            **{f"truth_{name}": batch[name] for name in truth},
            "truth_valid": batch["box_valid"],
            **{name: batch[name] for name in ("index", "valid", "scale", "original_size")},
        }

    def summarize(self, rows: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns the rows of one batch that `compute` scores, in the frame of the original images."""
        restored = {
            name: restore_boxes(rows[name], rows["scale"], rows["original_size"]) for name in ("boxes", "truth_boxes")
        }
        return {}, self._scores().rows({**rows, **restored})

    def compute(self, totals: Mapping[str, np.ndarray]) -> Report:
        """Returns the counts and the scores of a whole split, see `DetectionScores.report`."""
        counts = ("examples", "skipped", "dropped_boxes")
        return {**self._scores().report(totals), **{name: int(totals[name]) for name in counts}}

    def _scores(self) -> DetectionScores:
        return DetectionScores(self.class_names, coco=self.config.eval.coco)

    def batch_predictor(
        self, model: nn.Module, variables: dict[str, Any], views: Views | None = None, *, multiple: int | None = None
    ) -> BoxPredictor:
        """Returns what finds boxes in photographs, best first; it makes proposals if needed."""
        return BoxPredictor(self, model, variables, views, multiple=multiple)

    def doubts(self, model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[Doubt]:
        """Returns the labels that the net finds unlikely, see `cvjax.tasks.detection.doubt`."""
        return box_doubts(self, model, variables, dataset)

    def table(self, report: Report) -> RenderableType:
        """Returns the tables of average precision and of the kinds of errors."""
        return Group(*detection_tables(report))

    def headline(self, report: Report) -> str:
        """Returns the scores as one line."""
        return pictures.headline(report)

    def draw_report(self, folder: Path, report: Report) -> list[str]:
        """Writes report.md and precision_recall.png; returns their names."""
        return pictures.draw_report(folder, report)

    def draw_examples(self, folder: Path, model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[str]:
        """Writes predictions.png: true boxes beside detections with a high enough score; returns its name."""
        return pictures.draw_examples(self, folder, model, variables, dataset)


def truth_of(batch: Mapping[str, Any]) -> Truth:
    """Returns the objects of a batch as detectors take them for training; padded rows have none."""
    valid = batch["box_valid"] & batch["valid"][:, None]
    ignore = (batch["difficult"] | batch["crowd"]) & valid
    return Truth(batch["boxes"], jnp.maximum(batch["labels"], 0), ignore, valid)


def proposal_config(data: DetectionData) -> ProposalConfig:
    """Returns the configuration of the proposals."""
    return ProposalConfig(mode=data.proposal_mode, limit=data.proposals)
