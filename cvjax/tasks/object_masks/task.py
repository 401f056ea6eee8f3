"""Defines masks of objects inside given boxes as a task: inputs, loss, and the sums of overlaps (1411.5752)."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from rich.console import RenderableType

from cvjax.data.dataset import Dataset, Target, image_sizes
from cvjax.data.objects import decode_objects
from cvjax.data.order import Bucket, batches_by_size
from cvjax.data.reader import Decode
from cvjax.engine.task import Batch, Report
from cvjax.errors import ConfigError
from cvjax.ops.geometry import pair
from cvjax.tasks.images import ImageTask
from cvjax.tasks.object_masks import pictures
from cvjax.tasks.object_masks.config import ObjectMasksConfig
from cvjax.tasks.object_masks.losses import mask_loss, mask_targets
from cvjax.tasks.object_masks.paste import paste_masks
from cvjax.tasks.object_masks.transforms import ObjectCrop, ObjectEvalTransform
from cvjax.visual.tables import report_table

THRESHOLDS = (50, 70)
"""Overlaps in percent above which an object counts as found, as in the paper's tables."""


@dataclasses.dataclass(frozen=True)
class ObjectMasks(ImageTask):
    """Separates the object of each box from its background, trained with the cross entropy of the box's pixels.

    A batch has, beside `image`:
      `objects`, uint8 [B, H, W]: number of the object that each pixel belongs to.
      `boxes`, float32 [B, N, 4]: boxes, see `cvjax.ops.detection.boxes`.
      `numbers`, int32 [B, N]: number of the object of each box.
      `labels`, int32 [B, N]: class of each box, -1 for padding.

    Attributes: those of `ImageTask`, whose first class is the background, and
      ignore: Number of the pixels that neither train nor count.
    """

    name: ClassVar[str] = "masks"
    target: ClassVar[Target] = "objects"
    config_class = ObjectMasksConfig

    config: ObjectMasksConfig
    ignore: int = 255

    @classmethod
    def create(cls, config: ObjectMasksConfig, dataset: Dataset, model: nn.Module) -> Self:
        """Makes the task with the classes of a dataset.

        Raises:
          ConfigError: The model does not predict masks.
        """
        if not hasattr(model, "masks"):
            raise ConfigError(
                f"{type(model).__name__} does not draw masks inside boxes; take --model.name hypercolumn_vgg16"
            )
        return cls(config, tuple(dataset.class_names))

    @property
    def metric(self) -> str:
        """Returns the name of the score that chooses the best checkpoint, the mean IoU of the masks."""
        return "mask_iou"

    def decoder(self) -> Decode:
        """Returns the function from a record to its image and objects."""
        return functools.partial(decode_objects, num_classes=self.num_classes)

    def train_transform(self) -> ObjectCrop:
        """Returns the configured scale, crop, mirroring and jitter of boxes."""
        return ObjectCrop(self.config.input, self.fill, self.ignore)

    def eval_buckets(self, dataset: Dataset) -> tuple[ObjectEvalTransform, Sequence[Bucket]]:
        """Returns the padding, and buckets of images of similar size."""
        resize, scoring = self.config.input.resize, self.config.eval
        sizes = [resize] * len(dataset) if resize else image_sizes(dataset)
        buckets = batches_by_size(sizes, scoring.batch_size, scoring.pad_multiple)
        fit = ObjectEvalTransform(
            size=buckets[0][0], fill=self.fill, ignore=self.ignore, resize=resize, most=scoring.boxes
        )
        return fit, buckets

    def prepare(self, batch: Batch, key: jax.Array | None) -> tuple[tuple[jax.Array, jax.Array], Batch]:
        """Returns the normalized images with their boxes, and the unchanged batch."""
        return (self.images(batch, key), batch["boxes"]), batch

    def apply(
        self, model: nn.Module, variables: Any, inputs: tuple[jax.Array, jax.Array], *, train: bool, **options: Any
    ) -> Any:
        """Returns the logits of the masks in boxes, with any option of Flax's `apply`."""
        return model.apply(variables, *inputs, train=train, method="masks", **options)

    def predict(self, model: nn.Module, variables: Any, inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Returns the probabilities [B, N, S, S] of the masks in boxes."""
        return jax.nn.sigmoid(self.apply(model, variables, inputs, train=False))

    def weight(self, batch: Batch) -> jax.Array:
        """Returns the divisor of the summed loss, float32 scalar: the number of boxes."""
        return _present(batch).sum(dtype=jnp.float32)

    def loss(self, outputs: jax.Array, targets: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the loss as a sum over boxes, of each the mean over its pixels that count.

        Args:
          outputs: Logits [B, N, S, S], masks in the frame of the boxes.
          targets: Batch, as the class describes.

        Returns:
          The summed loss, and further sums over boxes. `accuracy` is the share of a box's pixels that are right.
        """
        chex.assert_shape(outputs, (*targets["numbers"].shape, None, None))
        truth, weights = mask_targets(
            targets["objects"], targets["numbers"], targets["boxes"], outputs.shape[-1], self.ignore
        )
        present = _present(targets).astype(jnp.float32)
        right = ((outputs > 0) == (truth > 0)).astype(jnp.float32)
        right = (right * weights).sum((2, 3)) / jnp.maximum(weights.sum((2, 3)), 1.0)
        return (mask_loss(outputs, truth, weights) * present).sum(), {"accuracy": (right * present).sum()}

    def update(self, predictions: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Returns the sums of one batch that `compute` scores.

        The overlap of an object is the IoU of its ground truth pixels and the pixels with a probability above a half.
        Only pixels of the image inside the box, whose object is known, count.

        Args:
          predictions: Probabilities [B, N, S, S], in the frame of the boxes.
          batch: Batch, as the class describes.
        """
        objects, boxes = batch["objects"], batch["boxes"]
        pasted, within = paste_masks(predictions, boxes, pair(objects.shape[1:]))
        counted = within & (objects != self.ignore)[:, None]
        truth = (objects[:, None].astype(jnp.int32) == batch["numbers"][..., None, None]) & counted
        guess = (pasted > 0.5) & counted
        union = (truth | guess).sum((2, 3))
        overlap = (truth & guess).sum((2, 3)) / jnp.maximum(union, 1)
        # An object that nothing is known of (its pixels all ignored) has no overlap.
        present = _present(batch) & truth.any((2, 3))
        classes = jax.nn.one_hot(batch["labels"], self.num_classes) * present[..., None].astype(jnp.float32)
        return {
            "overlap": (classes * overlap[..., None]).sum((0, 1)),
            "objects": classes.sum((0, 1)).astype(jnp.int32),
            "found": jnp.stack([((overlap * 100 > bar) & present).sum(dtype=jnp.int32) for bar in THRESHOLDS]),
            "examples": batch["valid"].sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
        }

    def compute(self, totals: Mapping[str, np.ndarray]) -> Report:
        """Returns the scores of a whole split.

        Returns:
          `mask_iou`: the mean overlap over all objects; `found_50`, `found_70`: the share of objects whose overlap is
          above 0.5 and 0.7; `iou`: the mean overlap of each class's objects, by name, without the background; nan
          without an object; `objects`, `examples` and `skipped`: counts.
        """
        count = np.asarray(totals["objects"], np.float64)
        total = count.sum()
        with np.errstate(invalid="ignore"):
            each = np.divide(totals["overlap"], count)
            found = np.divide(totals["found"], total)
            mean = np.divide(np.sum(totals["overlap"]), total)
        return {
            "mask_iou": float(mean),
            **{f"found_{bar}": float(share) for bar, share in zip(THRESHOLDS, found)},
            "iou": dict(zip(self.class_names[1:], map(float, each[1:]))),
            "objects": int(total),
            "examples": int(totals["examples"]),
            "skipped": int(totals["skipped"]),
        }

    def table(self, report: Report) -> RenderableType:
        """Returns the table of each class's overlap."""
        return report_table(report)

    def headline(self, report: Report) -> str:
        """Returns the scores as one line."""
        return pictures.headline(report)

    def draw_report(self, folder: Path, report: Report) -> list[str]:
        """Writes report.md; returns its name."""
        return pictures.draw_report(folder, report)

    def draw_examples(self, folder: Path, model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[str]:
        """Writes predictions.png: images with their boxes, true and predicted masks; returns its name."""
        return pictures.draw_examples(self, folder, model, variables, dataset)


def _present(batch: Batch) -> jax.Array:
    """Returns which boxes hold an object, bool [B, N]."""
    return (batch["labels"] >= 0) & batch["valid"][:, None]
