"""What studies of segmentation share: images of one size, and the labels that a net gives to the pixels of a split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.data.decode import IGNORE
from cvjax.engine.evaluate import whole_split
from cvjax.engine.short_run import ShortRun
from cvjax.tasks.segmentation.config import SegmentationConfig
from cvjax.tasks.segmentation.scores.regions import segmentation_report
from experiments.studies._recipes import SMALL_MASKS
from experiments.studies._study import Settings


@dataclass(frozen=True)
class MaskSettings(Settings):
    """Says how a study of segmentation is run.

    Attributes: those of `Settings`, and
      void: Labels in a folder's masks that are ignored, beside 255; 11 in CamVid's.
      size: Height and width in pixels that all images are brought to, in training and in scoring.
      steps: Number of training steps of each net.
      learning_rate: Highest learning rate; nets that normalize every layer take a higher one.
      examples: Number of images that are scored.
    """

    void: tuple[int, ...] = ()
    size: tuple[int, int] = (96, 128)
    steps: int = 200
    learning_rate: float = 2e-3
    examples: int = 100

    def config(self, **changes: Any) -> SegmentationConfig:
        """Returns the configuration of a short run on images of the size, in whole, mirrored at random."""
        optim = replace(SMALL_MASKS.optim, learning_rate=self.learning_rate)
        config = self.on_data(replace(SMALL_MASKS, steps=self.steps, optim=optim, **changes))
        whole = {"resize": self.size, "crop": self.size, "min_scale": 1.0, "max_scale": 1.0}
        return replace(
            config,
            input=replace(config.input, void=self.void, **whole),
            eval=replace(config.eval, pad_multiple=1),
        )


class Labeled(NamedTuple):
    """Holds the labels of a split's images, all of one size.

    Attributes:
      truth: Masks, uint8 [N, H, W]; 255 is ignored.
      found: Labels that a net gives, uint8 [N, H, W].
    """

    truth: np.ndarray
    found: np.ndarray


Labeler = Callable[[Mapping[str, Any]], Labeled]


def miou(labeled: Labeled) -> float:
    """Returns the mean IoU of the classes that occur."""
    known = labeled.truth != IGNORE
    truth, found = labeled.truth[known].astype(np.int64), labeled.found[known]
    classes = int(max(truth.max(), found.max())) + 1
    confusion = np.bincount(classes * truth + found, minlength=classes**2).reshape(classes, classes)
    return segmentation_report(confusion, [str(label) for label in range(classes)])["miou"]


def labeler(run: ShortRun, model: nn.Module | None = None) -> Labeler:
    """Returns the function from variables to the labels that they give to the images of the split that is scored.

    Args:
      run: Runs, whose images all have one size.
      model: Module in the place of the trained one, with the same variables.
    """
    task, net = run.scoring, run.model if model is None else model

    @jax.jit
    def label(variables: Any, batch: dict[str, Any]) -> jax.Array:
        inputs, _ = task.prepare(batch, None)
        return jnp.argmax(task.predict(net, variables, inputs), axis=-1).astype(jnp.uint8)

    batches = whole_split(task, run.eval_set)

    def all_labels(variables: Mapping[str, Any]) -> Labeled:
        truth, found = [], []
        for batch in batches():
            labels = np.asarray(label(dict(variables), batch))
            truth.append(batch["mask"][batch["valid"]])
            found.append(labels[batch["valid"]])
        return Labeled(np.concatenate(truth), np.concatenate(found))

    return all_labels
