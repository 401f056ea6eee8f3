"""Defines the configurations of classification runs."""

import dataclasses
from typing import ClassVar, Literal

from cvjax.engine.config import EvalConfig, RunConfig
from cvjax.errors import ConfigError
from cvjax.models.config import ModelConfig
from cvjax.tasks.classification.transforms import ClassificationData


@dataclasses.dataclass(frozen=True)
class ClassificationEval(EvalConfig):
    """Configures how a labeled split is scored: on the center crop of each image, or on ten crops of it.

    Attributes: those of `EvalConfig`, and
      crop: Height and width of the model's input, in pixels; None takes the training crop's.
      resize: Length in pixels to which the image's shorter side is resized before the crop; None takes the crop's
        longer side.
      crops: Crops of an image. `center` is the center crop. `ten` averages the probabilities of the corners and the
        center of the square of `resize` pixels, each also mirrored (AlexNet).
    """

    batch_size: int = 64
    crop: tuple[int, int] | None = None
    resize: int | None = None
    crops: Literal["center", "ten"] = "center"


@dataclasses.dataclass(frozen=True)
class ClassificationConfig(RunConfig):
    """Configures a classification run.

    Attributes: those of `RunConfig`, and
      label_smoothing: Share of the target that is spread evenly over all classes (1512.00567).
      mixup: Parameter of the Beta distribution of mixup, which blends neighbors in the batch; 0 is off.
      cutmix: Parameter of the Beta distribution of CutMix, which swaps rectangles between neighbors in the batch; 0 is
        off. With both, each pair takes one of them at random.

    Raises:
      ConfigError: The smoothing is outside [0, 1), or a parameter of mixup or CutMix is negative.
    """

    task: ClassVar[str] = "cvjax.tasks.classification.task:Classification"

    model: ModelConfig = ModelConfig("resnet50")
    aux_weight: float = 0.3
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    input: ClassificationData = ClassificationData()
    eval: ClassificationEval = ClassificationEval()

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1 or self.mixup < 0 or self.cutmix < 0:
            raise ConfigError(
                f"label_smoothing is {self.label_smoothing}, mixup {self.mixup} and cutmix {self.cutmix}: give at"
                " least 0, and a smoothing below 1"
            )
