"""Arrays that stay in their file until they are asked for."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class StoredArray:
    """Describes an array of a file.

    Attributes:
      shape: Shape of the array.
      read: Function that reads it; it raises ValueError, with the reason, where the array cannot be had.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
