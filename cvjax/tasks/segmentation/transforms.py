"""How images with masks are read and varied."""

import dataclasses

from cvjax.errors import ConfigError
from cvjax.tasks.scale_crop import ScaleAndCropData, check_probability


@dataclasses.dataclass(frozen=True)
class SegmentationData(ScaleAndCropData):
    """How images with masks are read and varied. Pixels of a crop that lie beyond its image do not train.

    The crop of a net without padding is what the net sees. The mask is smaller, as the net's logits are, and what the
    image lacks around it is filled with the image's mirror image.

    Attributes: those of `ScaleAndCropData`, and
      void: Labels in the masks that are ignored, beside 255.
      mask_values: Values in a folder's masks that stand for the classes, in their order, such as 0 255; empty where the
        masks hold class numbers.
      flip_vertical: Probability of mirroring top and bottom.
      rotate: Turn by random multiples of 90 degrees; crops are then square.
      elastic: Standard deviation of the random displacements on a grid of 3x3 nodes over the crop, in pixels; 10 in
        U-Net, 0 is off.
      border_weight: Weight in the loss of pixels between two cells that touch, on top of their class's; 10 in U-Net, 0
        is off.
      border_sigma: Distance over which that weight falls, in pixels.
      cells: Number of the class whose connected components are these cells.
    """

    crop: tuple[int, int] = (513, 513)
    void: tuple[int, ...] = ()
    mask_values: tuple[int, ...] = ()
    flip_vertical: float = 0.0
    rotate: bool = False
    elastic: float = 0.0
    border_weight: float = 0.0
    border_sigma: float = 5.0
    cells: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("flip_vertical", self.flip_vertical)
        if self.rotate and self.crop[0] != self.crop[1]:
            raise ConfigError(f"rotate turns by 90 degrees, and the crop {self.crop} is not square: give equal sides.")
        if self.elastic < 0 or self.border_weight < 0 or self.border_sigma <= 0:
            raise ConfigError(
                f"elastic is {self.elastic}, border_weight {self.border_weight} and border_sigma {self.border_sigma}: "
                "give 0 or more, and a sigma above 0."
            )
