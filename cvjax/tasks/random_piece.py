"""Draws random pieces of images, as torchvision's RandomResizedCrop and SSD do."""

import math

import numpy as np

_TRIES = 10  # as torchvision


def draw_piece(
    size: tuple[int, int], min_area: float, max_area: float, max_aspect: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draws the top, left, height and width of a random piece of an image, as torchvision's RandomResizedCrop does.

    The area is uniform, and so is the logarithm of the aspect ratio. A piece that does not fit is drawn again. After
    ten tries the result is the middle of the image, with the nearest allowed aspect ratio.
    """
    height, width = size
    for _ in range(_TRIES):
        area = height * width * rng.uniform(min_area, max_area)
        aspect = math.exp(rng.uniform(-math.log(max_aspect), math.log(max_aspect)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            return int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide
    high, wide = min(height, max(1, round(width * max_aspect))), min(width, max(1, round(height * max_aspect)))
    return (height - high) // 2, (width - wide) // 2, high, wide
