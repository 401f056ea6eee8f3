"""This module draws a prediction over its photograph: tinted regions, contours, and a legend below."""

from collections.abc import Sequence

import numpy as np

from cvjax.visual import canvas
from cvjax.visual.palette import VOID, colorize, voc_palette

_SMALLEST = 256
"""Pictures with fewer pixels along their longest side are enlarged by a whole factor, so that something can be seen."""


def draw_overlay(
    image: np.ndarray,
    mask: np.ndarray,
    class_names: Sequence[str],
    *,
    opacity: float = 0.45,
    palette: np.ndarray | None = None,
) -> np.ndarray:
    """Tints the classes over the image, draws their contours, and writes a legend of the classes in sight below.

    A class named "background" and void leave the photograph as it is and are not in the legend, unless there is nothing
    else. Line width and text grow with the picture. Pictures under 256 pixels are enlarged by a whole factor. Narrow
    pictures are centered on a canvas that is wide enough for the legend.

    Args:
      image: Photograph of any size, uint8 [H, W, 3].
      mask: Labels [H, W]; 255 is void.
      class_names: Name of each label.
      opacity: Opacity of the tint, 0 to 1.
      palette: Colors by label, uint8 [256, 3]; VOC's if None.

    Returns:
      Picture, uint8 [at least H, at least W, 3].

    Raises:
      ValueError: The image or the mask has another shape or dtype, or the image is empty.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"an image is non-empty uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    if mask.shape != image.shape[:2]:
        raise ValueError(f"the mask is {list(mask.shape)} but its image is {list(image.shape[:2])}")
    palette = voc_palette() if palette is None else palette
    factor = max(1, _SMALLEST // max(mask.shape))
    image, mask = (np.repeat(np.repeat(x, factor, 0), factor, 1) for x in (image, mask))
    picture = tint(image, mask, class_names, opacity=opacity, palette=palette)

    text = int(np.clip(max(mask.shape) / 40, canvas.TEXT, 96))
    entries = canvas.legend_entries([mask], class_names)
    # What is not tinted needs no swatch, except that an empty legend would look like a fault.
    entries = [entry for entry in entries if entry[0] not in _clear(class_names)] or entries
    margin = text // 2
    widest = max(round(1.5 * text) + canvas.text_width(name, text) for _, name in entries)
    width = max(picture.shape[1], widest + 2 * margin)
    legend = canvas.draw_legend(entries, width - 2 * margin, palette=palette, size=text)
    legend = np.pad(legend, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)
    spare = width - picture.shape[1]
    picture = np.pad(picture, ((0, 0), (spare // 2, spare - spare // 2), (0, 0)), constant_values=255)
    return np.concatenate([picture, legend])


def _clear(class_names: Sequence[str]) -> list[int]:
    """Returns the labels that leave the photograph as it is."""
    return [VOID, *(label for label, name in enumerate(class_names) if name == "background")]


def tint(
    image: np.ndarray,
    mask: np.ndarray,
    class_names: Sequence[str],
    *,
    opacity: float = 0.45,
    palette: np.ndarray | None = None,
) -> np.ndarray:
    """Tints the classes over the image and draws their contours, with the arguments of `draw_overlay`.

    Returns:
      Picture of the image's size, without a legend.
    """
    palette = voc_palette() if palette is None else palette
    colors = colorize(mask, palette)
    tinted = ~np.isin(mask, _clear(class_names))
    # Integer arithmetic: a float copy of a large photograph would take 4 times its memory.
    weight = round(opacity * 256)
    blend = ((image.astype(np.uint16) * (256 - weight) + colors.astype(np.uint16) * weight) >> 8).astype(np.uint8)
    picture = np.where(tinted[..., None], blend, image)
    width = max(1, round(max(mask.shape) / 400))
    border = _contours(mask, width)
    # White just outside the colored line keeps it visible on any ground.
    halo = _dilate(border, max(1, width // 2)) & ~border
    picture[halo] = (picture[halo].astype(np.uint16) + 3 * 255) // 4
    line = border & tinted
    picture[line] = colors[line]
    return picture


def _contours(mask: np.ndarray, width: int) -> np.ndarray:
    """Returns the pixels within `width` of another label, up, down, left or right."""
    edge = np.zeros(mask.shape, bool)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return _dilate(edge, width - 1)


def _dilate(region: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        grown = region.copy()
        grown[1:] |= region[:-1]
        grown[:-1] |= region[1:]
        grown[:, 1:] |= region[:, :-1]
        grown[:, :-1] |= region[:, 1:]
        region = grown
    return region
