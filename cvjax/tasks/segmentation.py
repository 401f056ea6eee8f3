"""Semantic segmentation as a task: what goes into the net, the loss, and the sums a score is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.tasks.losses import cross_entropy, soft_jaccard
from cvjax.tasks.metrics import confusion_matrix, segmentation_report

Batch = Mapping[str, jax.Array]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as every photo library uses for saturation


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Pixel-wise classification with cross entropy over the labelled pixels, and soft Jaccard beside it if asked.

    Attributes:
      class_names: one name a class, background first where there is one.
      mean, std: per channel, in units of 0..255; what `normalize` subtracts and divides by.
      ignore: the label of pixels that neither train nor count.
      aux_weight: weight of the auxiliary head's loss, where the model has one.
      jaccard_weight: weight of the soft Jaccard loss (see `cvjax.tasks.losses`) beside the cross entropy.
      loss_stride: the loss looks at every n-th pixel of every n-th row. Neighbours say much the same, and on CPU the
        loss at full size costs as much as a small net's decoder.
      class_weights: factor of each class's pixels in the loss; None weighs all alike.
      brightness, contrast, saturation: half-widths of the uniform factors around 1 in training; 0 is off.
    """

    class_names: tuple[str, ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    ignore: int = 255
    aux_weight: float = 0.4
    jaccard_weight: float = 0.0
    loss_stride: int = 1
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    class_weights: tuple[float, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, ignored pixels not being one."""
        return len(self.class_names)

    def normalize(self, images: jax.Array) -> jax.Array:
        """uint8 or float images [..., 3] in 0..255 to float32 of about zero mean and unit variance."""
        images = images.astype(jnp.float32)
        return (images - jnp.asarray(self.mean)) / jnp.asarray(self.std)

    def preprocess(self, batch: Batch, key: jax.Array, train: bool) -> jax.Array:
        """Images of a batch, colour-jittered in training, normalised.

        The jitter of an example depends on the key and on the example's index alone, so it is the same
        however the batch is laid out over devices.

        Args:
          batch: `image` [B, H, W, 3] in 0..255 and `index` [B].
          key: a key of this step.
          train: whether to jitter.

        Returns:
          float32 [B, H, W, 3].
        """
        images = batch["image"]
        chex.assert_rank(images, 4)
        images = images.astype(jnp.float32)
        if train and (self.brightness or self.contrast or self.saturation):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
            images = jax.vmap(self._jitter)(images, keys)
        return self.normalize(images)

    def _jitter(self, image: jax.Array, key: jax.Array) -> jax.Array:
        widths = jnp.asarray([self.brightness, self.contrast, self.saturation])
        bright, contrast, saturation = 1.0 + widths * jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        image = image * bright
        luma = image @ jnp.asarray(_LUMA)
        image = (image - luma.mean()) * contrast + luma.mean()
        luma = (image @ jnp.asarray(_LUMA))[..., None]
        return jnp.clip((image - luma) * saturation + luma, 0.0, 255.0)

    def weight(self, batch: Batch) -> jax.Array:
        """What the summed loss is divided by: the labelled pixels, each as its class weighs, float32 scalar."""
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
