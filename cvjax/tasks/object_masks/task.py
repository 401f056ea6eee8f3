"""Masks of objects inside given boxes as a task: inputs, loss, and the sums that overlaps are made of (1411.5752)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.tasks.images import Batch, ImageTask
from cvjax.tasks.object_masks.losses import mask_loss, mask_targets

THRESHOLDS = (50, 70)
"""Overlaps in percent above which an object counts as found, as in the paper's tables."""


@dataclasses.dataclass(frozen=True)
class ObjectMasks(ImageTask):
    """Tells the object of each box from its background, by the cross entropy of a box's pixels.

    A batch has, beside `image`: `objects` uint8 [B, H, W], the number of the object that a pixel belongs to; `boxes`
    float32 [B, N, 4], see `cvjax.ops.detection.boxes`; `numbers` int32 [B, N], that of the object of each box; `labels`
    int32 [B, N], its class, -1 where a box only fills up.

    Attributes: those of `ImageTask`, its first class being the background, and
      ignore: the number of pixels that neither train nor count.
    """

    metric: ClassVar[str] = "mask_iou"
    ignore: int = 255

    def preprocess(self, batch: Batch, key: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Images as of any task, and the boxes that go with them."""
        return super().preprocess(batch, key, train), batch["boxes"]

    def weight(self, batch: Batch) -> jax.Array:
        """What the summed loss is divided by: the boxes, float32 scalar."""
        return _present(batch).sum(dtype=jnp.float32)

    def loss(self, outputs: jax.Array, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss as a sum over boxes, each the mean over its pixels that count.

        Args:
          outputs: logits [B, N, S, S], masks in the frame of the boxes.
          batch: see the class.

        Returns:
          The summed loss, and further sums over boxes (`accuracy`: the share of a box's pixels that are right).
        """
        chex.assert_shape(outputs, (*batch["numbers"].shape, None, None))
        targets, weights = mask_targets(
            batch["objects"], batch["numbers"], batch["boxes"], outputs.shape[-1], self.ignore
        )
        present = _present(batch)
        right = (((outputs > 0) == (targets > 0)) * weights).sum((2, 3)) / jnp.maximum(weights.sum((2, 3)), 1.0)
        return (mask_loss(outputs, targets, weights) * present).sum(), {"accuracy": (right * present).sum()}

    def evaluate(self, probabilities: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """The sums of one batch that `report` scores.

        An object's overlap is that of its pixels and of those whose probability is above a half, among the pixels of
        the image that lie inside the box and whose object is known.

        Args:
          probabilities: [B, N, S, S], in the frame of the boxes.
          batch: see the class.
        """
        objects, boxes = batch["objects"], batch["boxes"]
        pasted, within = paste_masks(probabilities, boxes, objects.shape[1:])
        counted = within & (objects != self.ignore)[:, None]
        truth = (objects[:, None] == batch["numbers"][..., None, None]) & counted
        guess = (pasted > 0.5) & counted
        union = (truth | guess).sum((2, 3))
        overlap = (truth & guess).sum((2, 3)) / jnp.maximum(union, 1)
        # An object that nothing is known of (its pixels all ignored) has no overlap.
        present = _present(batch) & truth.any((2, 3))
        classes = jax.nn.one_hot(batch["labels"], self.num_classes) * present[..., None]
        return {
            "overlap": (classes * overlap[..., None]).sum((0, 1)),
            "objects": classes.sum((0, 1)).astype(jnp.int32),
            "found": jnp.stack([((overlap * 100 > bar) & present).sum(dtype=jnp.int32) for bar in THRESHOLDS]),
            "examples": batch["valid"].sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
        }

    def report(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores of a whole split.

        Returns:
          `mask_iou`: the mean overlap over all objects; `found_50`, `found_70`: the share of objects whose overlap is
          above 0.5 and 0.7; `iou`: the mean overlap of each class's objects, by name, without the background; nan
          without an object; `objects`, `examples` and `skipped`: counts.
        """
        count = np.asarray(sums["objects"], np.float64)
        total = count.sum()
        with np.errstate(invalid="ignore"):
            each = np.divide(sums["overlap"], count)
            found = np.divide(sums["found"], total)
            mean = np.divide(np.sum(sums["overlap"]), total)
        return {
            "mask_iou": float(mean),
            **{f"found_{bar}": float(share) for bar, share in zip(THRESHOLDS, found)},
            "iou": dict(zip(self.class_names[1:], map(float, each[1:]))),
            "objects": int(total),
            "examples": int(sums["examples"]),
            "skipped": int(sums["skipped"]),
        }


def paste_masks(masks: jax.Array, boxes: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Masks in the frame of their boxes as maps of the image, interpolated between the middles of their pixels.

    Args:
      masks: [B, N, S, S], row i and column j of S x S pixels that divide the box.
      boxes: [B, N, 4], see `cvjax.ops.detection.boxes`, in pixels.
      size: height and width of the image.

    Returns:
      float32 [B, N, H, W], 0 outside the boxes, and bool of the same shape: pixels whose middle is inside the box.
    """
    chex.assert_equal_shape_prefix((masks, boxes), 2)
    side = masks.shape[-1]

    def along(low: jax.Array, high: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        """Weights [B, N, length, S], and what is inside, [B, N, length]."""
        middle = jnp.arange(length) + 0.5
        low, high = low[..., None], high[..., None]
        place = (middle - low) / jnp.maximum(high - low, 1e-6) * side - 0.5
        weights = jnp.maximum(1 - jnp.abs(jnp.clip(place, 0, side - 1)[..., None] - jnp.arange(side)), 0.0)
        return weights, (middle > low) & (middle < high)

    rows, in_rows = along(boxes[..., 1], boxes[..., 3], size[0])
    columns, in_columns = along(boxes[..., 0], boxes[..., 2], size[1])
    within = in_rows[..., :, None] & in_columns[..., None, :]
    pasted = jnp.einsum("bnhs,bnst,bnwt->bnhw", rows, masks.astype(jnp.float32), columns, precision="highest")
    return jnp.where(within, pasted, 0.0), within


def _present(batch: Batch) -> jax.Array:
    """bool [B, N]: boxes of objects."""
    return (batch["labels"] >= 0) & batch["valid"][:, None]
