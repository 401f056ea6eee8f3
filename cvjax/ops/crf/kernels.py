"""Describes the kernels of a dense CRF; a command line that has them needs no JAX."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class CRFKernels:
    """Holds weights and widths of the two kernels of a dense CRF.

    All but `smooth_sigma` may be traced scalars, so that a search over them compiles once.

    Attributes:
      smooth_weight: Weight of the kernel of positions.
      smooth_sigma: Standard deviation of the kernel of positions, in pixels.
      appearance_weight: Weight of the kernel of positions and colors.
      appearance_sigma: Standard deviation of that kernel for positions, in pixels.
      color_sigma: Standard deviation of that kernel for colors, in units of 1/255 of the colors' range.

    Raises:
      ValueError: A deviation is not positive.
    """

    smooth_weight: float = 3.0
    smooth_sigma: float = 1.0
    appearance_weight: float = 4.0
    appearance_sigma: float = 67.0
    color_sigma: float = 3.0

    def __post_init__(self) -> None:
        for name in ("smooth_sigma", "appearance_sigma", "color_sigma"):
            value: Any = getattr(self, name)
            if not isinstance(value, int | float):
                # Here, as a plain number needs no JAX.
                from jax.core import Tracer

                if isinstance(value, Tracer):
                    continue
            if not value > 0:
                raise ValueError(f"{name} of a CRF must be positive, not {value}")


DEEPLAB_V1 = CRFKernels(3.0, 3.0, 4.0, 49.0, 5.0)
DEEPLAB_V2 = CRFKernels(3.0, 1.0, 4.0, 67.0, 3.0)
