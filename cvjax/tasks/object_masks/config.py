"""Configurations of runs that learn the masks of objects inside given boxes."""

import dataclasses

from cvjax.engine.config import DataConfig, EvalConfig, RunConfig


@dataclasses.dataclass(frozen=True)
class ObjectMasksData(DataConfig):
    """How images with objects are read and varied.

    Attributes: those of `DataConfig`, and
      resize: height and width that images are brought to first; None leaves them as they are.
      min_scale, max_scale, scale_step: of the random scale before the crop; step 0 draws from all between.
      boxes: of a crop; of more objects, as many at random.
      jitter: sides of boxes move by up to this fraction of the box.
      visible: objects of which less than this fraction of the box lies in the crop are left out.
    """

    crop: tuple[int, int] = (321, 321)
    resize: tuple[int, int] | None = None
    min_scale: float = 0.75
    max_scale: float = 1.33
    scale_step: float = 0.0
    boxes: int = 8
    jitter: float = 0.1
    visible: float = 0.5


@dataclasses.dataclass(frozen=True)
class ObjectMasksEval(EvalConfig):
    """How masks are scored: inside the true boxes, at the image's size.

    Attributes: those of `EvalConfig`, and
      boxes: the most that an image may have.
      pad_multiple: images are padded to sides that are multiples of it, and those alike share a batch.
    """

    boxes: int = 16
    pad_multiple: int = 64


@dataclasses.dataclass(frozen=True)
class ObjectMasksConfig(RunConfig):
    """A run that learns masks inside boxes. Attributes: those of `RunConfig`."""

    input: ObjectMasksData = ObjectMasksData()
    eval: ObjectMasksEval = ObjectMasksEval()
