"""This module draws labeled images, each with its predicted class, how sure the net is, and the truth if it differs."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cvjax.visual import canvas

_GAP = 10
_LINE = 18
_RIGHT, _WRONG = (28, 122, 62), (190, 48, 38)
_LARGEST_FACTOR = 6
"""Largest enlargement of thumbnails such as CIFAR's, so that they do not fill the cell with blocks."""


@dataclasses.dataclass(frozen=True)
class Tile:
    """Holds one image of the gallery.

    Attributes:
      image: Photograph, uint8 [H, W, 3].
      truth: Name of its class, or None where that is not known.
      prediction: Name of the class that was predicted.
      probability: Probability of that class.
    """

    image: np.ndarray
    truth: str | None
    prediction: str
    probability: float


def draw_gallery(tiles: Sequence[Tile], *, columns: int = 6, cell: int = 180) -> np.ndarray:
    """Draws images in rows, with the prediction below each.

    The prediction is green where it is right. Where it is wrong it is red, with the truth below.

    Args:
      tiles: At least one tile; sizes may differ.
      columns: Number of images in a row.
      cell: Side of the square that an image is fitted into, in pixels.

    Returns:
      Picture, uint8 [height, width, 3], to be looked at 1:1.

    Raises:
      ValueError: No tiles.
    """
    if not tiles:
        raise ValueError("draw_gallery needs at least one tile")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    high, wide = cell + 2 * _LINE + _GAP, cell + _GAP
    picture = Image.new("RGB", (columns * wide + _GAP, rows * high + _GAP), canvas.PAPER)
    draw = ImageDraw.Draw(picture)
    for number, tile in enumerate(tiles):
        top, left = _GAP + number // columns * high, _GAP + number % columns * wide
        scale = min(cell / max(tile.image.shape[:2]), _LARGEST_FACTOR)
        height, width = (max(1, round(side * scale)) for side in tile.image.shape[:2])
        thumbnail = Image.fromarray(canvas.resize_photo(tile.image, (height, width)))
        picture.paste(thumbnail, (left + (cell - width) // 2, top + (cell - height) // 2))
        right = tile.truth in (None, tile.prediction)
        lines = [(f"{tile.prediction} {tile.probability:.0%}", _RIGHT if right else _WRONG)]
        if not right:
            lines.append((f"is {tile.truth}", canvas.FAINT))
        for line, (text, color) in enumerate(lines):
            place = (left + cell // 2, top + cell + _LINE // 2 + line * _LINE)
            draw.text(place, canvas.fit_text(text, cell), fill=color, font=canvas.font(), anchor="mm")
    return np.asarray(picture)
