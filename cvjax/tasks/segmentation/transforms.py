"""Defines the configuration of images with masks."""

import dataclasses

from cvjax.errors import ConfigError
from cvjax.tasks.scale_crop import ScaleAndCropData, check_probability


@dataclasses.dataclass(frozen=True)
class SegmentationData(ScaleAndCropData):
    """Configures how images with masks are read and augmented.

    Pixels of a crop that lie beyond its image do not train. For a net without padding, the crop is the net's input. The
    mask is smaller, as the net's logits are, and the image is mirrored beyond its border to fill the crop.

    Attributes: those of `ScaleAndCropData`, and
      void: Labels in the masks that are ignored, beside 255.
      mask_values: Values in a folder's masks that stand for the classes, in their order, such as 0 255; empty if the
        masks hold class numbers.
      flip_vertical: Probability of mirroring top and bottom.
      rotate: Whether to rotate by random multiples of 90 degrees; crops must then be square.
      elastic: Standard deviation of the random displacements on a grid of 3x3 nodes over the crop, in pixels; 10 in
        U-Net, 0 is off.
      border_weight: Weight in the loss of pixels between two touching cells, added to that of their class; 10 in U-Net,
        0 is off.
      border_sigma: Standard deviation of the Gaussian with which that weight falls, in pixels.
      cells: Number of the class whose connected components are the cells.
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
