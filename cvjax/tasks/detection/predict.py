"""Calls detectors on prepared batches, and on single images of any size."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.data.annotations import make_objects
from cvjax.data.box_rows import restore_boxes
from cvjax.errors import ConfigError
from cvjax.models.detection.detector import POSTPROCESSING, Detections, Proposals, Truth
from cvjax.runtime.compiler import compiled
from cvjax.tasks.detection.config import DetectionEval
from cvjax.visual.boxes import Boxes

if TYPE_CHECKING:
    from cvjax.tasks.detection.task import Detection


class Inputs(NamedTuple):
    """Holds the inputs of a detector for one batch.

    Attributes:
      images: Normalized images, float32 [B, H, W, 3].
      sizes: Height and width of each image without padding, int32 [B, 2].
      proposals: Proposals of each image; None if the batch has none.
      truth: Objects of each image; None outside training.
    """

    images: jax.Array
    sizes: jax.Array
    proposals: Proposals | None
    truth: Truth | None


def call_detector(
    model: nn.Module,
    variables: Any,
    inputs: Inputs,
    *,
    train: bool,
    rngs: dict[str, jax.Array] | None = None,
    **options: Any,
) -> Any:
    """Returns detections, or in training the losses by name, with any option of Flax's `apply`.

    The random stream `sample` is derived from that of `dropout`, so that the training loop need not know of it.

    Raises:
      ConfigError: The detector needs proposals, and the batch has none.
    """
    given: dict[str, Any] = {} if inputs.proposals is None else {"proposals": inputs.proposals}
    if inputs.proposals is None and getattr(model, "needs_proposals", False):
        raise ConfigError(f"{type(model).__name__} finds no boxes by itself; give it data with proposals")
    if train:
        given["truth"] = inputs.truth
    if rngs is not None and "dropout" in rngs:
        rngs = {"sample": jax.random.fold_in(rngs["dropout"], 0x5A), **rngs}
    return model.apply(variables, inputs.images, inputs.sizes, **given, train=train, rngs=rngs, **options)


def with_postprocessing(model: nn.Module, config: DetectionEval) -> nn.Module:
    """Returns the model with the thresholds of the configuration.

    Raises:
      ConfigError: The model does not have one of the thresholds.
    """
    given = {name: value for name in POSTPROCESSING if (value := getattr(config, name)) is not None}
    unknown = [name for name in given if not hasattr(model, name)]
    if unknown:
        raise ConfigError(f"{type(model).__name__} has no {', '.join(unknown)}; leave out --eval.{unknown[0]}")
    return model.clone(**given) if given else model


def make_box_finder(task: "Detection", model: nn.Module, variables: dict[str, Any]) -> Callable[..., Boxes]:
    """Returns a function from an image, uint8 [H, W, 3] of any size, to its detections, sorted by descending score.

    The function detects as the evaluation is configured, and compiles once per padded size. If the configuration has
    proposals, its second argument are the proposals [P, 4], in pixels of the image.

    Args:
      task: Task of the run or checkpoint.
      model: Module of the run or checkpoint.
      variables: Variables of the model.
    """
    variables, transform = jax.device_put(variables), task.eval_transform()
    multiple = task.config.eval.pad_multiple or 32

    @compiled
    def detections(variables: dict[str, Any], inputs: Inputs) -> Detections:
        return task.predict(model, variables, inputs._replace(images=task.normalize(inputs.images)))

    def find(image: np.ndarray, proposals: np.ndarray | None = None) -> Boxes:
        placed = transform
        if transform.short_side:
            shown = transform.fitted(image.shape[:2], inside=False)
            placed = dataclasses.replace(transform, size=tuple(-(-side // multiple) * multiple for side in shown))
        padded, _, shown, more = placed(image, make_objects([], [])._replace(proposals=proposals))
        given = None
        if "proposals" in more:
            given = Proposals(jnp.asarray(more["proposals"][None]), jnp.asarray(more["proposal_valid"][None]))
        inputs = Inputs(jnp.asarray(padded[None]), jnp.asarray([shown], jnp.int32), given, None)
        found = jax.device_get(detections(variables, inputs))
        here = found.valid[0]
        boxes = restore_boxes(found.boxes[0], more["scale"], more["original_size"])
        return Boxes(boxes[here], found.classes[0][here], found.scores[0][here])

    return find
