"""Defines image classification as a task: the data, loss, scores and pictures of a run."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from rich.console import RenderableType

from cvjax.data.dataset import Dataset, Target
from cvjax.data.decode import decode_labeled
from cvjax.data.reader import Decode
from cvjax.engine.task import Batch, Report
from cvjax.errors import ConfigError
from cvjax.imagenet import middle
from cvjax.models.info import Preprocessing
from cvjax.ops.geometry import pair
from cvjax.tasks.classification import pictures, predict
from cvjax.tasks.classification.calibration import calibration_sums
from cvjax.tasks.classification.config import ClassificationConfig
from cvjax.tasks.classification.doubt import label_doubts
from cvjax.tasks.classification.metrics import classification_report, ranks
from cvjax.tasks.classification.mixing import draw_mix, mix_images, mix_targets
from cvjax.tasks.classification.predict import ClassPredictor
from cvjax.tasks.classification.transforms import CenterCrop, RandomCrop
from cvjax.tasks.confusion import confusion_matrix
from cvjax.tasks.doubts import Doubt
from cvjax.tasks.images import ImageTask
from cvjax.tasks.losses import soft_cross_entropy, soft_divergence
from cvjax.tasks.prediction.class_results import ClassResults
from cvjax.tasks.prediction.pieces import Views
from cvjax.visual.tables import report_table

_NONE = -1  # the label of rows that are not valid


@dataclasses.dataclass(frozen=True)
class Classification(ImageTask):
    """Predicts one class per image, trained with softmax cross entropy.

    Attributes: those of `ImageTask`, and
      mean_image: Mean of each pixel, float32 [H, W, 3] in 0..255, which `normalize` subtracts instead of `mean`: its
        middle, as large as the images. No run has one; nets from Caffe may.
    """

    name: ClassVar[str] = "classification"
    target: ClassVar[Target] = "label"
    config_class = ClassificationConfig

    config: ClassificationConfig
    mean_image: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)

    def record(self) -> dict[str, Any]:
        """Returns the fields that a checkpoint stores beside the configuration, without `mean_image`."""
        return {name: value for name, value in super().record().items() if name != "mean_image"}

    def normalize(self, images: jax.Array) -> jax.Array:
        """Normalizes images [..., H, W, 3] in 0..255 by the mean of each channel, or of each pixel.

        Raises:
          ConfigError: They are larger than the image of means.
        """
        if self.mean_image is None:
            return super().normalize(images)
        size, room = pair(images.shape[-3:-1]), pair(self.mean_image.shape[:2])
        if size[0] > room[0] or size[1] > room[1]:
            raise ConfigError(
                f"images of {size[0]}x{size[1]} pixels are larger than their mean image of {room[0]}x{room[1]}; lower "
                "--crop, or leave --mean out"
            )
        top, left = middle(room, size)
        mean = jnp.asarray(self.mean_image[top : top + size[0], left : left + size[1]], jnp.float32)
        mean = jnp.expand_dims(mean, range(images.ndim - 3))
        return (images.astype(jnp.float32) - mean) / jnp.expand_dims(jnp.asarray(self.std), range(images.ndim - 1))

    @property
    def metric(self) -> str:
        """Returns the name of the score that chooses the best checkpoint, the top-1 accuracy."""
        return "top1"

    def decoder(self) -> Decode:
        """Returns the function from a record to its image and label."""
        return functools.partial(decode_labeled, num_classes=self.num_classes)

    def train_transform(self) -> RandomCrop:
        """Returns the configured crop, flip, augmentation policy and random erasing."""
        return RandomCrop(self.config.input, self.fill)

    def eval_buckets(self, dataset: Dataset) -> tuple[CenterCrop, None]:
        """Returns the crop of an evaluation, and None: images of one size share batches in the dataset's order."""
        del dataset
        return self.eval_crop(), None

    def seen(self, known: Preprocessing) -> Preprocessing:
        """Returns how images are prepared: cut and scaled as in the evaluation."""
        data, scoring = self.config.input, self.config.eval
        height, width = scoring.crop or data.crop
        square = {"size": height, "resize": scoring.resize or height} if height == width else {}
        return dataclasses.replace(super().seen(known), interpolation=data.interpolation, **square)

    def eval_crop(self) -> CenterCrop:
        """Returns the crop that the host cuts; for ten crops, the square that the device cuts them from.

        Raises:
          ConfigError: The evaluation takes ten crops, and no square at least as large as a crop is configured.
        """
        data, scoring = self.config.input, self.config.eval
        crop = scoring.crop or data.crop
        if scoring.crops == "center":
            return CenterCrop(crop, scoring.resize, self.fill, data.interpolation)
        if scoring.resize is None or scoring.resize < max(crop):
            raise ConfigError(
                f"ten crops of {crop[0]}x{crop[1]} pixels are cut from a larger square; give its side as --eval.resize"
            )
        return CenterCrop((scoring.resize, scoring.resize), None, self.fill, data.interpolation)

    def prepare(self, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, Batch]:
        """Returns the normalized images, and the batch with its smoothed targets; in training mixed, if configured.

        `target`, float32 [B, C], is the distribution over classes that each image is trained toward.
        """
        images, target, config = self.images(batch, key), self.smoothed(batch["label"]), self.config
        if key is not None and (config.mixup or config.cutmix):
            key = jax.random.fold_in(key, 1)  # apart from the colors'
            mix = draw_mix(batch["index"], key, config.mixup, config.cutmix, pair(batch["image"].shape[1:3]))
            images, target = mix_images(images, mix), mix_targets(target, mix)
        return images, {**batch, "target": target}

    def smoothed(self, labels: jax.Array) -> jax.Array:
        """Returns smoothed distributions over classes, float32 [B, C], of labels [B]."""
        hot, smoothing = jax.nn.one_hot(labels, self.num_classes), self.config.label_smoothing
        return (1.0 - smoothing) * hot + smoothing / self.num_classes

    def predict(self, model: nn.Module, variables: Any, inputs: jax.Array) -> jax.Array:
        """Returns class probabilities [B, C] of normalized images of `eval_crop`, as the evaluation is configured."""
        scoring = self.config.eval
        ten = (scoring.crop or self.config.input.crop) if scoring.crops == "ten" else None
        return predict.probabilities(model, variables, inputs, ten)

    def loss(self, outputs: Any, targets: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the loss as a sum, so that a mean over devices, hosts and micro-batches is one division.

        Args:
          outputs: Logits [B, C], or (logits, {name: logits}) of a model with auxiliary classifiers.
          targets: Batch with `target` [B, C] and `valid` [B], see `prepare`.

        Returns:
          The loss summed over valid images, and further sums over them. `accuracy` counts the images whose most
          probable class is that of their target.
        """
        logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, {})
        target = targets["target"]
        chex.assert_equal_shape((logits, target))
        valid = targets["valid"].astype(jnp.float32)
        total = (soft_cross_entropy(logits, target) * valid).sum()
        for branch in auxiliary.values():
            total += self.config.aux_weight * (soft_cross_entropy(branch, target) * valid).sum()
        correct = jnp.argmax(logits, axis=-1) == jnp.argmax(target, axis=-1)
        return total, {"accuracy": (correct.astype(jnp.float32) * valid).sum()}

    def soft_loss(self, logits: jax.Array, taught: jax.Array, targets: Batch) -> jax.Array:
        """Returns the divergence from a teacher's logits [B, C], summed over valid images."""
        return (soft_divergence(logits, taught) * self.image_weights(targets)).sum()

    def update(self, predictions: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Returns the sums of one batch that `compute` scores.

        Args:
          predictions: Probabilities [B, C].
          batch: Batch with `label`, `valid` and `skipped`, each [B].
        """
        chex.assert_shape(predictions, (*batch["label"].shape, self.num_classes))
        valid, labels = batch["valid"], jnp.where(batch["valid"], batch["label"], _NONE)
        guesses = jnp.argmax(predictions, axis=-1)
        mine = jnp.take_along_axis(predictions, jnp.maximum(labels, 0)[:, None], axis=-1)[:, 0]
        # One picture whose pixels are the examples.
        confusion = confusion_matrix(labels[None, :, None], guesses[None, :, None], self.num_classes, ignore=_NONE)
        return {
            "confusion": confusion,
            "top5": ((ranks(predictions, labels) < 5) & valid).sum(dtype=jnp.int32),
            "surprise": -jnp.where(valid, jnp.log(jnp.maximum(mine, 1e-12)), 0.0).sum(),
            "examples": valid.sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
            **calibration_sums(predictions.max(-1), guesses == labels, valid),
        }

    def compute(self, totals: Mapping[str, np.ndarray]) -> Report:
        """Returns the scores of a whole split from its sums, see `classification_report`."""
        return classification_report(totals, self.class_names)

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Returns the normalized crop of an evaluation, float32 [height, width, 3]."""
        return super().preprocess(self.eval_crop()(image, np.asarray(0, np.int32))[0])

    def batch_predictor(
        self, model: nn.Module, variables: dict[str, Any], views: Views | None = None, *, multiple: int | None = None
    ) -> ClassPredictor:
        """Returns what predicts the probabilities, float32 [C], of photographs; they have one size for the net."""
        del multiple
        return ClassPredictor(self, model, variables, views)

    def results(self) -> ClassResults:
        """Returns what writes the likeliest classes of photographs."""
        return ClassResults(self.class_names)

    def doubts(self, model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[Doubt]:
        """Returns the labels that the net finds unlikely, see `cvjax.tasks.classification.doubt`."""
        return label_doubts(self, model, variables, dataset)

    def table(self, report: Report) -> RenderableType:
        """Returns the table of each class's accuracy."""
        return report_table(report)

    def headline(self, report: Report) -> str:
        """Returns the scores as one line."""
        return pictures.headline(report)

    def draw_report(self, folder: Path, report: Report) -> list[str]:
        """Writes report.md, confusion.png and reliability.png; returns their names."""
        return pictures.draw_report(self, folder, report)

    def draw_examples(self, folder: Path, model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[str]:
        """Writes predictions.png, which shows images with their true and predicted labels; returns its name."""
        return pictures.draw_examples(self, folder, model, variables, dataset)
