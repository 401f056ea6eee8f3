"""Detectors as the engine and the commands call them: on a batch, and on one image of any size."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.annotations import make_objects
from cvjax.data.box_rows import restore_boxes
from cvjax.errors import ConfigError
from cvjax.models.detection.detector import POSTPROCESSING, Detections, Proposals, beside_images
from cvjax.runtime.compiler import compiler_options
from cvjax.tasks.detection.config import DetectionData, DetectionEval, eval_transform
from cvjax.tasks.detection.task import Detection, Seen
from cvjax.visual.boxes import Boxes


@dataclasses.dataclass(frozen=True)
class Detector:
    """A detector as a function of what the task sees of a batch, see `cvjax.models.detection.detector`.

    Attributes:
      model: the module.
    """

    model: nn.Module

    def init(self, key: jax.Array, images: jax.Array, train: bool = False) -> Any:
        """Fresh variables, for images [B, H, W, 3] without padding."""
        return self.model.init(key, images, **beside_images(self.model, images.shape), train=train)

    def apply(
        self, variables: Any, seen: Seen, *, train: bool, rngs: dict[str, jax.Array] | None = None, **options: Any
    ) -> Any:
        """Detections, or in training losses by name, with any option of Flax's `apply`.

        The stream `sample` is drawn from that of `dropout`, so that whoever trains need not know of it.

        Raises:
          ConfigError: the detector needs proposals, and the batch has none.
        """
        given: dict[str, Any] = {} if seen.proposals is None else {"proposals": seen.proposals}
        if seen.proposals is None and getattr(self.model, "needs_proposals", False):
            raise ConfigError(f"{type(self.model).__name__} finds no boxes by itself; give it data with proposals")
        if train:
            given["truth"] = seen.truth
        if rngs is not None and "dropout" in rngs:
            rngs = {"sample": jax.random.fold_in(rngs["dropout"], 0x5A), **rngs}
        return self.model.apply(variables, seen.images, seen.sizes, **given, train=train, rngs=rngs, **options)


def with_postprocessing(model: nn.Module, scoring: DetectionEval) -> nn.Module:
    """The model with the thresholds that a configuration asks for.

    Raises:
      ConfigError: the model has no such threshold.
    """
    given = {name: value for name in POSTPROCESSING if (value := getattr(scoring, name)) is not None}
    unknown = [name for name in given if not hasattr(model, name)]
    if unknown:
        raise ConfigError(f"{type(model).__name__} has no {', '.join(unknown)}; leave out --eval.{unknown[0]}")
    return model.clone(**given) if given else model


def make_detect(model: nn.Module, scoring: DetectionEval) -> Callable[[Any, Seen], Detections]:
    """(variables, what the task sees of a batch) -> detections, as configured."""
    detector = Detector(with_postprocessing(model, scoring))
    return lambda variables, seen: detector.apply(variables, seen, train=False)


def make_finder(
    model: nn.Module, task: Detection, variables: dict[str, Any], scoring: DetectionEval, reading: DetectionData
) -> Callable[..., Boxes]:
    """A function from uint8 [H, W, 3] of any size to its detections, best first, as the evaluation finds them.

    It compiles once per padded size. Where the configuration has proposals, they are its second argument: [P, 4], in
    pixels of the image.

    Args:
      model, task, variables: of the run or checkpoint.
      scoring, reading: its configurations.
    """
    variables, detect = jax.device_put(variables), make_detect(model, scoring)
    transform, multiple = eval_transform(task, scoring, reading), scoring.pad_multiple or 32

    @functools.partial(jax.jit, compiler_options=compiler_options(jax.devices()[0].platform))
    def detections(variables: dict[str, Any], seen: Seen) -> Detections:
        return detect(variables, seen._replace(images=task.normalize(seen.images)))

    def find(image: np.ndarray, proposals: np.ndarray | None = None) -> Boxes:
        placed = transform
        if transform.short_side:
            shown = transform.fitted(image.shape[:2], inside=False)
            placed = dataclasses.replace(transform, size=tuple(-(-side // multiple) * multiple for side in shown))
        padded, _, shown, more = placed(image, make_objects([], [])._replace(proposals=proposals))
        given = Proposals(more["proposals"][None], more["proposal_valid"][None]) if "proposals" in more else None
        found = jax.device_get(detections(variables, Seen(padded[None], np.asarray([shown], np.int32), given, None)))
        here = found.valid[0]
        boxes = restore_boxes(found.boxes[0], more["scale"], more["original_size"])
        return Boxes(boxes[here], found.classes[0][here], found.scores[0][here])

    return find
