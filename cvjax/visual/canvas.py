"""This module has the drawing that the pictures share: text, the legend of classes, resizing, PNG files."""

import functools
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cvjax.storage import AnyPath, write_result
from cvjax.visual.palette import VOID, voc_palette

PAPER = (255, 255, 255)
INK = (28, 30, 34)
FAINT = (112, 116, 122)
LINE = (206, 209, 214)
TEXT = 14
"""Height of the text in pixels of a picture that is looked at 1:1."""


@functools.cache
def font(size: int = TEXT) -> ImageFont.FreeTypeFont:
    """Returns the font that comes with Pillow, so that pictures look the same on every machine."""
    default = ImageFont.load_default(size)
    assert isinstance(default, ImageFont.FreeTypeFont)  # Pillow's wheels have FreeType
    return default


def text_width(text: str, size: int = TEXT) -> int:
    """Returns the width of one line of text in pixels."""
    return int(np.ceil(font(size).getlength(text)))


def fit_text(text: str, width: int, size: int = TEXT) -> str:
    """Returns the text. Where it is wider than `width` pixels an ellipsis replaces its middle."""
    if text_width(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = text[: (kept + 1) // 2] + "..." + text[len(text) - kept // 2 :]
        if text_width(shorter, size) <= width:
            return shorter
    return ""


def draw_text(text: str, width: int, size: int = TEXT) -> np.ndarray:
    """Draws one line of text, cut where it is wider than `width` pixels; returns uint8 [1.6 size, width, 3]."""
    picture = Image.new("RGB", (width, round(1.6 * size)), PAPER)
    shown = fit_text(text, max(1, width - size), size)
    ImageDraw.Draw(picture).text((size // 2, picture.height // 2), shown, fill=INK, font=font(size), anchor="lm")
    return np.asarray(picture)


def resize_photo(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes uint8 [H, W, 3] to (height, width): averaging to shrink, sharp pixels to enlarge."""
    method = Image.Resampling.LANCZOS if size[0] < image.shape[0] else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), method))


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes labels [H, W] to (height, width) by the nearest pixel, so that labels are never mixed."""
    rows = ((np.arange(size[0]) + 0.5) * mask.shape[0] / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * mask.shape[1] / size[1]).astype(int)
    return mask[rows[:, None], columns]


def class_name(label: int, class_names: Sequence[str]) -> str:
    """Returns the name of a label in the legend."""
    if label < len(class_names):
        return class_names[label]
    return "void" if label == VOID else f"class {label}"


def legend_entries(masks: Sequence[np.ndarray], class_names: Sequence[str]) -> list[tuple[int, str]]:
    """Returns (label, name) of the classes that occur in any of the masks, by label; void comes last."""
    present = sorted({int(label) for mask in masks for label in np.unique(mask)})
    return [(label, class_name(label, class_names)) for label in present]


def draw_legend(
    entries: Sequence[tuple[int, str]],
    width: int,
    *,
    palette: np.ndarray | None = None,
    size: int = TEXT,
) -> np.ndarray:
    """Draws swatches and names in as many lines as the width needs.

    Args:
      entries: Pairs (label, name).
      width: Width of the legend in pixels.
      palette: Colors by label, uint8 [256, 3]; VOC's if None.
      size: Height of the text in pixels.

    Returns:
      Picture, uint8 [h, width, 3]; h = 0 without entries.
    """
    if not entries:
        return np.zeros((0, width, 3), np.uint8)
    palette = voc_palette() if palette is None else palette
    swatch, line_height, gap = size, round(size * 1.6), round(size * 1.3)
    places, x, y = [], 0, 0
    for label, name in entries:
        name = fit_text(name, max(1, width - 2 * swatch), size)
        needed = round(1.5 * swatch) + text_width(name, size)
        if x and x + needed > width:
            x, y = 0, y + line_height
        places.append((x, y, label, name))
        x += needed + gap
    picture = Image.new("RGB", (width, y + line_height), PAPER)
    draw = ImageDraw.Draw(picture)
    for x, y, label, name in places:
        middle = y + line_height // 2
        top = middle - swatch // 2
        # The outline keeps light colors, as the cream of void, apart from the paper.
        draw.rectangle((x, top, x + swatch - 1, top + swatch - 1), fill=tuple(map(int, palette[label])), outline=FAINT)
        draw.text((x + round(1.5 * swatch), middle), name, fill=INK, font=font(size), anchor="lm")
    return np.asarray(picture)


def outline_boxes(
    image: np.ndarray, boxes: np.ndarray, labels: Sequence[int], *, palette: np.ndarray | None = None
) -> np.ndarray:
    """Draws boxes [n, 4] (x1, y1, x2, y2 in pixels) in the colors of their labels on a copy of uint8 [H, W, 3]."""
    palette = voc_palette() if palette is None else palette
    picture = Image.fromarray(image)
    draw, line = ImageDraw.Draw(picture), max(1, round(max(image.shape[:2]) / 200))
    for (x0, y0, x1, y1), label in zip(np.rint(boxes).astype(int).tolist(), labels):
        corners = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1))
        draw.rectangle(corners, outline=tuple(map(int, palette[label])), width=line)
    return np.asarray(picture)


def save_png(path: str | AnyPath, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as PNG, and makes the folder where it is missing.

    Raises:
      ConfigError: The place cannot be written.
    """
    write_png(path, Image.fromarray(picture))


def save_mask(path: str | AnyPath, mask: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Writes labels [H, W] in 0..255 as a palette PNG: pixels hold the labels, viewers show the colors, as in VOC.

    Raises:
      ValueError: A label outside 0..255.
      ConfigError: The place cannot be written.
    """
    mask = np.asarray(mask)
    if mask.size and (mask.min() < 0 or mask.max() > VOID):
        raise ValueError(f"a palette PNG holds labels 0 to 255, not {mask.min()} to {mask.max()}")
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette((voc_palette() if palette is None else palette).tobytes())
    write_png(path, picture)


def write_png(path: str | AnyPath, picture: Image.Image) -> None:
    """Writes a Pillow image as PNG, and makes the folder where it is missing.

    Raises:
      ConfigError: The place cannot be written.
    """
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    write_result(path, encoded.getvalue())
