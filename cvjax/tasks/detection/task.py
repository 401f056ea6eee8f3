"""Detection as a task: what a detector of any kind is given, what it is trained by, and how its boxes are scored."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.data.box_rows import restore_boxes
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.tasks.detection.metrics import DetectionScores
from cvjax.tasks.images import Batch, ImageTask

_DETECTED = ("boxes", "scores", "classes")


class Seen(NamedTuple):
    """What a detector is given of a batch.

    Attributes:
      images: float32 [B, H, W, 3], normalised.
      sizes: int32 [B, 2], height and width of what is not padding.
      proposals: of each image, where the batch has some.
      truth: in training.
    """

    images: jax.Array
    sizes: jax.Array
    proposals: Proposals | None
    truth: Truth | None


@dataclasses.dataclass(frozen=True)
class Detection(ImageTask):
    """Boxes and classes of objects, by the losses that the detector itself names.

    A batch has, beside `image` and `size`: `boxes`, `labels`, `difficult`, `crowd`, `box_valid`, `dropped_boxes`, and
    in evaluation `scale` and `original_size`, see docs/architecture.md; `proposals` float32 [B, P, 4] and
    `proposal_valid` bool [B, P] for detectors that find none of their own.

    Attributes: those of `ImageTask`, no class being the background, and
      metric: which average precision chooses the best checkpoint: `map`, the area under the curve (VOC 2010 and later),
        or `map_11`, that of 11 points (VOC 2007).
      coco: reports have COCO's scores too, by pycocotools.
    """

    metric: Literal["map", "map_11"] = "map"
    coco: bool = False

    def preprocess(self, batch: Batch, key: jax.Array, train: bool) -> Seen:
        """Images as of any task, and what goes with them; in training the truth."""
        proposals = None
        if "proposals" in batch:
            proposals = Proposals(batch["proposals"], batch["proposal_valid"] & batch["valid"][:, None])
        return Seen(super().preprocess(batch, key, train), batch["size"], proposals, truth_of(batch) if train else None)

    def weight(self, batch: Batch) -> jax.Array:
        """What the summed loss is divided by: the images, float32 scalar."""
        return batch["valid"].sum(dtype=jnp.float32)

    def loss(self, outputs: Mapping[str, jax.Array], batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss as a sum over images.

        Args:
          outputs: float32 [B] by name, the detector's losses of each image.
          batch: see the class.

        Returns:
          The summed loss, and each named loss likewise.
        """
        chex.assert_shape(list(outputs.values()), batch["valid"].shape)
        sums = {name: jnp.where(batch["valid"], values, 0).sum() for name, values in outputs.items()}
        return jnp.stack(list(sums.values())).sum(), sums

    def evaluate(self, outputs: Detections, batch: Batch) -> dict[str, jax.Array]:
        """Counts of one batch; what is scored are the rows of `keep`."""
        return {
            "examples": batch["valid"].sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
            "dropped_boxes": jnp.where(batch["valid"], batch["dropped_boxes"], 0).sum(dtype=jnp.int32),
        }

    def keep(self, outputs: Detections, batch: Batch) -> dict[str, jax.Array]:
        """Detections and truth of every row, in the frame of the batch's images."""
        chex.assert_shape(outputs.boxes, (*batch["valid"].shape, None, 4))
        truth = ("boxes", "labels", "difficult", "crowd")
        return {
            **{name: getattr(outputs, name) for name in _DETECTED},
            "box_valid": outputs.valid,
            **{f"truth_{name}": batch[name] for name in truth},
            "truth_valid": batch["box_valid"],
            **{name: batch[name] for name in ("index", "valid", "scale", "original_size")},
        }

    def collect(self, kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The rows of one batch that `report` ranks, in the frame of the original images."""
        restored = {
            name: restore_boxes(kept[name], kept["scale"], kept["original_size"]) for name in ("boxes", "truth_boxes")
        }
        return self._scores().rows({**kept, **restored})

    def report(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores of a whole split.

        Returns:
          Those of `DetectionScores.report`, and the counts `examples`, `skipped` and `dropped_boxes`.
        """
        counts = ("examples", "skipped", "dropped_boxes")
        return {**self._scores().report(sums), **{name: int(sums[name]) for name in counts}}

    def _scores(self) -> DetectionScores:
        return DetectionScores(self.class_names, coco=self.coco)


def truth_of(batch: Batch) -> Truth:
    """The objects of a batch as detectors learn them; rows that fill it up have none."""
    valid = batch["box_valid"] & batch["valid"][:, None]
    ignore = (batch["difficult"] | batch["crowd"]) & valid
    return Truth(batch["boxes"], jnp.maximum(batch["labels"], 0), ignore, valid)
