"""This module draws examples: rows of image, ground truth and prediction, with captions and a legend."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cvjax.storage import AnyPath
from cvjax.visual import canvas
from cvjax.visual.palette import colorize

_MARGIN = 16
_GAP = 8
_CAPTION = 22
_ROW_GAP = 12
_BAR = (238, 240, 243)
_TITLES = ("image", "ground truth", "prediction")


@dataclasses.dataclass(frozen=True)
class Example:
    """Holds one row of the grid.

    Attributes:
      image: Photograph, uint8 [H, W, 3].
      truth: Labels [H, W], or None where they are not known.
      prediction: Labels [H, W].
      caption: Line of text under the row, such as the image's id and its score.
    """

    image: np.ndarray
    truth: np.ndarray | None
    prediction: np.ndarray
    caption: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"an image is uint8 [H, W, 3], not {self.image.dtype} {list(self.image.shape)}")
        for name, mask in (("truth", self.truth), ("prediction", self.prediction)):
            if mask is not None and mask.shape != self.image.shape[:2]:
                raise ValueError(
                    f"{name} is {list(mask.shape)} but its image is {list(self.image.shape[:2])}; "
                    "crop the padding first"
                )


def draw_grid(
    examples: Sequence[Example],
    class_names: Sequence[str],
    *,
    cell: int = 320,
    palette: np.ndarray | None = None,
    titles: tuple[str, str, str] = _TITLES,
) -> np.ndarray:
    """Draws rows of image, ground truth and prediction, and below them the classes that occur, with their colors.

    Every panel is `cell` pixels wide. A picture is scaled to fit `cell` x `cell` and letterboxed at its sides;
    photographs are averaged, labels keep sharp edges.

    Args:
      examples: At least one example; sizes may differ.
      class_names: Name of each label; 255 is called void.
      cell: Longest side of a panel in pixels.
      palette: Colors by label, uint8 [256, 3]; VOC's if None.
      titles: Titles of the columns.

    Returns:
      Picture, uint8 [height, 3 * cell + 48, 3], to be looked at 1:1.

    Raises:
      ValueError: No examples.
    """
    if not examples:
        raise ValueError("draw_grid needs at least one example")
    width = 3 * cell + 2 * _GAP + 2 * _MARGIN
    blocks = [_header(width, cell, titles), *(_row(example, width, cell, palette) for example in examples)]
    masks = [mask for e in examples for mask in (e.truth, e.prediction) if mask is not None]
    entries = canvas.legend_entries(masks, class_names)
    legend = canvas.draw_legend(entries, width - 2 * _MARGIN, palette=palette)
    legend = np.pad(legend, ((4, _MARGIN - 4), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)
    return np.concatenate([*blocks, legend])


def save_grid(path: str | AnyPath, examples: Sequence[Example], class_names: Sequence[str], **options) -> None:
    """Writes the picture of `draw_grid` into a PNG file."""
    canvas.save_png(path, draw_grid(examples, class_names, **options))


def _header(width: int, cell: int, titles: Sequence[str]) -> np.ndarray:
    picture = Image.new("RGB", (width, _MARGIN + _CAPTION), canvas.PAPER)
    draw = ImageDraw.Draw(picture)
    for column, title in enumerate(titles):
        place = (_left(column, cell), _MARGIN + _CAPTION // 2 - 3)
        draw.text(place, canvas.fit_text(title, cell), fill=canvas.INK, font=canvas.font(), anchor="lm")
    return np.asarray(picture)


def _row(example: Example, width: int, cell: int, palette: np.ndarray | None) -> np.ndarray:
    height, image_width = example.image.shape[:2]
    scale = cell / max(height, image_width)
    size = (max(1, round(height * scale)), max(1, round(image_width * scale)))
    caption = _CAPTION if example.caption else 0
    picture = Image.new("RGB", (width, size[0] + caption + _ROW_GAP), canvas.PAPER)
    draw = ImageDraw.Draw(picture)
    panels: list[np.ndarray | None] = [canvas.resize_photo(example.image, size)]
    for mask in (example.truth, example.prediction):
        panels.append(None if mask is None else colorize(canvas.resize_mask(mask, size), palette))
    for column, panel in enumerate(panels):
        left = _left(column, cell)
        draw.rectangle((left, 0, left + cell - 1, size[0] - 1), fill=_BAR)
        if panel is None:
            middle = (left + cell // 2, size[0] // 2)
            draw.text(middle, "none", fill=canvas.FAINT, font=canvas.font(), anchor="mm")
        else:
            picture.paste(Image.fromarray(panel), (left + (cell - size[1]) // 2, 0))
    if caption:
        text = canvas.fit_text(example.caption, width - 2 * _MARGIN)
        place = (_MARGIN, size[0] + _CAPTION // 2 + 1)
        draw.text(place, text, fill=canvas.FAINT, font=canvas.font(), anchor="lm")
    return np.asarray(picture)


def _left(column: int, cell: int) -> int:
    return _MARGIN + column * (cell + _GAP)
