"""Maps our classifiers' parameters to names beside torchvision's: akamaster's CIFAR nets, timm's and Cadene's nets."""

import dataclasses
import re

import numpy as np

from cvjax.models.info import Preprocessing
from cvjax.weights.layouts.architecture import Architecture
from cvjax.weights.layouts.torchvision import SENET

_HALF = (0.5, 0.5, 0.5)
_CIFAR = (
    (r"stem_conv", r"conv1"),
    (r"stem_bn", r"bn1"),
    (r"stage(\d)_(\d+)/(conv\d|bn\d)", r"layer\1.\2.\3"),
    (r"head", r"linear"),
)
_RESNET_V2 = (
    (r"stem_conv", r"stem.conv"),
    *(
        row
        for stage in range(4)
        for row in (
            (rf"stage{stage + 1}_(\d+)/conv(\d)", rf"stages.{stage}.blocks.\1.conv\2"),
            (rf"stage{stage + 1}_(\d+)/bn(\d)", rf"stages.{stage}.blocks.\1.norm\2"),
            (rf"stage{stage + 1}_(\d+)/downsample_conv", rf"stages.{stage}.blocks.\1.downsample.conv"),
        )
    ),
    (r"last_bn", r"norm"),
    (r"head", r"head.fc"),
)
_CADENE = ((r"stem_(conv|bn)_0", r"layer0.\g<1>1"), *(row for row in SENET if not row[0].startswith("stem")))


@dataclasses.dataclass(frozen=True)
class PaddedInTheMiddle:
    """Permutes the channels of a CIFAR ResNet whose shortcuts pad zeros on both sides; ours pad behind.

    A stage's new channels are half in front of the earlier ones there. So the channels of its residual stream stand in
    another order, and with them the rows of all layers that read or write it.

    Attributes:
      width: Channels of the first stage.
    """

    width: int

    def _order(self, stage: int) -> np.ndarray:
        """Returns for each of our channels of a stage its place there."""
        order = np.arange(self.width)
        for doubled in range(1, stage):
            before = self.width * 2 ** (doubled - 1)
            half = before // 2
            order = np.concatenate([half + order, np.arange(half), np.arange(half + before, 2 * before)])
        return order

    def _axis_and_order(self, key: str) -> tuple[int, np.ndarray] | None:
        if key == "linear.weight":
            return 1, self._order(3)
        found = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.\w+", key)
        if found is None:
            return None
        stage, block, kind, number = int(found[1]), int(found[2]), found[3], int(found[4])
        if number == 2:  # what is added to the stream
            return 0, self._order(stage)
        return (1, self._order(stage if block else max(1, stage - 1))) if kind == "conv" else None

    def to_ours(self, key: str, array: np.ndarray) -> np.ndarray:
        """Returns an array with its channels in our order; one of another size as it is."""
        found = self._axis_and_order(key)
        if found is None or array.ndim <= found[0] or array.shape[found[0]] != len(found[1]):
            return array
        return np.take(array, found[1], found[0])

    def to_theirs(self, key: str, array: np.ndarray) -> np.ndarray:
        """Undoes `to_ours` bit for bit."""
        found = self._axis_and_order(key)
        if found is None or array.ndim <= found[0] or array.shape[found[0]] != len(found[1]):
            return array
        return np.take(array, np.argsort(found[1]), found[0])


_AKAMASTER = Architecture(
    _CIFAR,
    classes_key="linear.weight",
    input_key="conv1.weight",
    layout="akamaster",
    reorder=PaddedInTheMiddle(16),
    preprocessing=Preprocessing(None, None),
)
_TIMM_V2 = Architecture(
    _RESNET_V2,
    classes_key="head.fc.weight",
    input_key="stem.conv.weight",
    windows={"head.fc.weight": (1, 1)},
    layout="timm",
    preprocessing=Preprocessing(224, 236, mean=_HALF, std=_HALF, interpolation="bicubic"),
)


def _cadene(**options: object) -> Architecture:
    return Architecture(
        _CADENE,
        classes_key="last_linear.weight",
        input_key="layer0.conv1.weight",
        layout="timm_legacy",
        options={"stem_pool": "ceil", **options},
    )


CLASSIFIERS: dict[str, tuple[Architecture, ...]] = {
    "resnet*_cifar": (_AKAMASTER,),
    "resnetv2_*": (_TIMM_V2,),
    # The shallow ones have no bottlenecks.
    **{f"seresnet{depth}": (_cadene(),) for depth in (18, 34)},
    **{f"seresnet{depth}": (_cadene(stride_in_1x1=True),) for depth in (50, 101, 152)},
    "seresnext*": (_cadene(),),
}
"""Layouts by patterns of our models' names."""
