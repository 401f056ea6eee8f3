"""Classification of whole images as a task: what goes into the net, the loss, and the sums a score is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.tasks.classification.calibration import calibration_sums
from cvjax.tasks.classification.mixing import Mix, draw_mix, mix_images, mix_targets
from cvjax.tasks.images import Batch, ImageTask
from cvjax.tasks.losses import soft_cross_entropy
from cvjax.tasks.metrics import classification_report, confusion_matrix, ranks

_NONE = -1  # the label of rows that are not valid


@dataclasses.dataclass(frozen=True)
class Classification(ImageTask):
    """One class an image, by softmax cross entropy.

    Attributes: those of `ImageTask`, and
      label_smoothing: share of the target that is spread evenly over all classes (1512.00567).
      aux_weight: weight of each auxiliary classifier's loss, where the model has some; GoogLeNet's 0.3.
      mixup, cutmix: see `cvjax.tasks.classification.mixing`; 0 is off.
    """

    metric: ClassVar[str] = "top1"
    label_smoothing: float = 0.0
    aux_weight: float = 0.3
    mixup: float = 0.0
    cutmix: float = 0.0

    def preprocess(self, batch: Batch, key: jax.Array, train: bool) -> jax.Array:
        """As `ImageTask.preprocess`, and in training mixed with the neighbour if so configured."""
        images = super().preprocess(batch, key, train)
        mix = self._mix(batch, key) if train else None
        return images if mix is None else mix_images(images, mix)

    def targets(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch with `target`, float32 [B, C]: what each image should be taken for, smoothed and mixed."""
        mix, target = self._mix(batch, key), self._target(batch)
        return {**batch, "target": target if mix is None else mix_targets(target, mix)}

    def weight(self, batch: Batch) -> jax.Array:
        """What the summed loss is divided by: the valid images, float32 scalar."""
        return batch["valid"].sum(dtype=jnp.float32)

    def loss(self, outputs: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss as a sum, so that a mean over devices, hosts and micro-batches is one division.

        Args:
          outputs: logits [B, C], or (logits, {name: logits}) of a model with auxiliary classifiers.
          batch: `label` [B], `valid` [B], and what `targets` added, if it did.

        Returns:
          The loss summed over valid images, and further sums over them (`accuracy`: those whose likeliest class is
          that of their target).
        """
        logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, {})
        chex.assert_shape(logits, (*batch["label"].shape, self.num_classes))
        target = batch["target"] if "target" in batch else self._target(batch)
        valid = batch["valid"].astype(jnp.float32)
        total = (soft_cross_entropy(logits, target) * valid).sum()
        for branch in auxiliary.values():
            total += self.aux_weight * (soft_cross_entropy(branch, target) * valid).sum()
        correct = (jnp.argmax(logits, axis=-1) == jnp.argmax(target, axis=-1)) * valid
        return total, {"accuracy": correct.sum()}

    def evaluate(self, probabilities: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """The sums of one batch that `report` scores.

        Args:
          probabilities: [B, C].
          batch: `label`, `valid` and `skipped`, each [B].
        """
        chex.assert_shape(probabilities, (*batch["label"].shape, self.num_classes))
        valid, labels = batch["valid"], jnp.where(batch["valid"], batch["label"], _NONE)
        predictions = jnp.argmax(probabilities, axis=-1)
        mine = jnp.take_along_axis(probabilities, jnp.maximum(labels, 0)[:, None], axis=-1)[:, 0]
        # One picture whose pixels are the examples.
        confusion = confusion_matrix(labels[None, :, None], predictions[None, :, None], self.num_classes, ignore=_NONE)
        return {
            "confusion": confusion,
            "top5": ((ranks(probabilities, labels) < 5) & valid).sum(dtype=jnp.int32),
            "surprise": -jnp.where(valid, jnp.log(jnp.maximum(mine, 1e-12)), 0.0).sum(),
            "examples": valid.sum(dtype=jnp.int32),
            "skipped": batch["skipped"].sum(dtype=jnp.int32),
            **calibration_sums(probabilities.max(-1), predictions == labels, valid),
        }

    def report(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores of a whole split from the sums of all its batches: see `classification_report`."""
        return classification_report(sums, self.class_names)

    def _mix(self, batch: Batch, key: jax.Array) -> Mix | None:
        if not (self.mixup or self.cutmix):
            return None
        key = jax.random.fold_in(key, 1)  # apart from the colours'
        return draw_mix(batch["index"], key, self.mixup, self.cutmix, batch["image"].shape[1:3])

    def _target(self, batch: Batch) -> jax.Array:
        hot = jax.nn.one_hot(batch["label"], self.num_classes)
        return (1.0 - self.label_smoothing) * hot + self.label_smoothing / self.num_classes
