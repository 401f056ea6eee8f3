"""This module draws boxes over photographs: one prediction, or a grid of ground truth beside predictions."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cvjax.visual import canvas
from cvjax.visual.palette import voc_palette

_SMALLEST = 512
"""Pictures with fewer pixels along their longest side are enlarged by a whole factor, so that labels have room."""
_GAP = 10
_HEADER = 26
_CAPTION = 22
_COLUMNS = ("ground truth", "prediction")
_BAR = (238, 240, 243)
_WHITE, _BLACK = (255, 255, 255), (16, 18, 20)


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Holds the boxes of one image.

    Attributes:
      boxes: Corners x1, y1, x2, y2 in pixels of the image, as everywhere in cvjax, [N, 4].
      labels: Classes from 0 on, int [N].
      scores: Score of each box, [N], or None for ground truth.
      faint: Boxes that are drawn thin and without a name, such as difficult objects, bool [N]; None for no such box.
      texts: What is written at each box; None for its class and its score.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    faint: np.ndarray | None = None
    texts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"{count} labels go with boxes [{count}, 4], not {list(self.boxes.shape)}")
        for name, values in (("scores", self.scores), ("faint", self.faint), ("texts", self.texts)):
            if values is not None and len(values) != count:
                raise ValueError(f"{count} labels go with {count} {name}, not {len(values)}")


@dataclasses.dataclass(frozen=True)
class BoxesExample:
    """Holds one row of the grid.

    Attributes:
      image: Photograph, uint8 [H, W, 3].
      truth: Objects in the image, or None where they are not known.
      prediction: Boxes that were found.
      caption: Line of text below.
    """

    image: np.ndarray
    truth: Boxes | None
    prediction: Boxes
    caption: str = ""


def draw_boxes(image: np.ndarray, found: Boxes, class_names: Sequence[str], *, text: int | None = None) -> np.ndarray:
    """Draws boxes with class and score over an image, each class in its own color.

    Lines and text grow with the picture; pictures under 512 pixels are enlarged by a whole factor. Labels keep out of
    each other's way where there is room, and the label of the surest box lies on top.

    Args:
      image: Photograph, uint8 [H, W, 3].
      found: Boxes in its pixels; parts outside are cut off, and boxes without a part inside left out.
      class_names: Name of each label.
      text: Height of the labels' text in pixels of the picture; 0 draws no labels, and None suits the picture.

    Returns:
      Picture, uint8 [factor * H, factor * W, 3].

    Raises:
      ValueError: The image has another shape or dtype, or is empty.
    """
    _check(image)
    factor = max(1, _SMALLEST // max(image.shape[:2]))
    large = np.repeat(np.repeat(image, factor, 0), factor, 1)
    if text is None:
        text = int(np.clip(max(large.shape) / 48, 13, 64))
    return _draw(large, found, class_names, float(factor), text)


def draw_boxes_grid(examples: Sequence[BoxesExample], class_names: Sequence[str], *, cell: int = 420) -> np.ndarray:
    """Draws rows of ground truth and prediction. Without any truth it draws predictions alone.

    Args:
      examples: At least one example; sizes may differ.
      class_names: Name of each label.
      cell: Longest side of an image in pixels; smaller ones are enlarged to it.

    Returns:
      Picture, uint8 [height, width, 3], to be looked at 1:1.

    Raises:
      ValueError: No examples, or one with an array that is not an image.
    """
    if not examples:
        raise ValueError("draw_boxes_grid needs at least one example")
    columns = _COLUMNS if any(e.truth is not None for e in examples) else _COLUMNS[1:]
    width = len(columns) * (cell + _GAP) + _GAP
    blocks = [
        _header(columns, width, cell),
        *(_row(example, columns, width, cell, class_names) for example in examples),
    ]
    return np.concatenate(blocks)


def save_boxes_grid(
    path: str | pathlib.Path, examples: Sequence[BoxesExample], class_names: Sequence[str], **options: int
) -> None:
    """Writes the picture of `draw_boxes_grid` into a PNG file.

    Raises:
      ConfigError: The place cannot be written.
    """
    canvas.save_png(path, draw_boxes_grid(examples, class_names, **options))


def class_color(label: int) -> tuple[int, int, int]:
    """Returns a class's color: VOC's, without the one of the background. They repeat from 255 classes on."""
    # 254 of them, since the last one is the cream of void.
    red, green, blue = voc_palette()[1 + label % 254].tolist()
    return red, green, blue


def _check(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"an image is non-empty uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")


def _header(columns: Sequence[str], width: int, cell: int) -> np.ndarray:
    picture = Image.new("RGB", (width, _HEADER), canvas.PAPER)
    draw = ImageDraw.Draw(picture)
    for number, title in enumerate(columns):
        place = (_GAP + number * (cell + _GAP), _HEADER // 2)
        draw.text(place, canvas.fit_text(title, cell), fill=canvas.INK, font=canvas.font(), anchor="lm")
    return np.asarray(picture)


def _row(
    example: BoxesExample, columns: Sequence[str], width: int, cell: int, class_names: Sequence[str]
) -> np.ndarray:
    _check(example.image)
    scale = cell / max(example.image.shape[:2])
    height, across = (max(1, round(side * scale)) for side in example.image.shape[:2])
    size = (height, across)
    photo = canvas.resize_photo(example.image, size)
    caption = _CAPTION if example.caption else 0
    picture = Image.new("RGB", (width, size[0] + caption + _GAP), canvas.PAPER)
    draw = ImageDraw.Draw(picture)
    for number, title in enumerate(columns):
        left = _GAP + number * (cell + _GAP)
        boxes = example.truth if title == _COLUMNS[0] else example.prediction
        draw.rectangle((left, 0, left + cell - 1, size[0] - 1), fill=_BAR)
        if boxes is None:
            middle = (left + cell // 2, size[0] // 2)
            draw.text(middle, "none", fill=canvas.FAINT, font=canvas.font(), anchor="mm")
        else:
            panel = _draw(photo, boxes, class_names, scale, 13)
            picture.paste(Image.fromarray(panel), (left + (cell - size[1]) // 2, 0))
    if caption:
        place = (_GAP, size[0] + _CAPTION // 2 + 1)
        text = canvas.fit_text(example.caption, width - 2 * _GAP)
        draw.text(place, text, fill=canvas.FAINT, font=canvas.font(), anchor="lm")
    return np.asarray(picture)


def _draw(picture: np.ndarray, found: Boxes, class_names: Sequence[str], scale: float, text: int) -> np.ndarray:
    """Draws boxes over a picture that is `scale` times the image they were found in.

    `text` is the size of the labels, and 0 for none.
    """
    made = Image.fromarray(picture)
    draw = ImageDraw.Draw(made)
    height, width = picture.shape[:2]
    line = max(2, round(text / 6)) if text else max(2, round(max(picture.shape) / 200))
    # The least sure first, so that the surest lie on top.
    order = np.arange(len(found.labels)) if found.scores is None else np.argsort(found.scores, kind="stable")
    drawn: list[tuple[tuple[int, ...], str, tuple[int, int, int]]] = []
    for i in order:
        if not np.isfinite(found.boxes[i]).all():
            continue
        corners = np.clip(found.boxes[i] * scale, 0, np.array([width, height, width, height]))
        if (corners[2:] <= corners[:2]).any():
            continue
        left, top, right, bottom = corners.round().astype(int).tolist()
        # Pillow's rectangles include both corners.
        box = left, top, max(left, right - 1), max(top, bottom - 1)
        color = class_color(int(found.labels[i]))
        if found.faint is not None and found.faint[i]:
            draw.rectangle(_grown(box, 1), outline=_BLACK)
            draw.rectangle(box, outline=_WHITE)
            continue
        # White around the colored line keeps it visible on any ground.
        draw.rectangle(_grown(box, 1), outline=_WHITE, width=line + 2)
        draw.rectangle(box, outline=color, width=line)
        if not text:
            continue
        name = canvas.class_name(int(found.labels[i]), class_names)
        score = "" if found.scores is None else f" {float(found.scores[i]):.2f}"
        written = name + score if found.texts is None else found.texts[i]
        drawn.append((box, canvas.fit_text(written, width - 4, text), color))
    taken: list[tuple[int, int, int, int]] = []
    places = []
    for box, label, color in reversed(drawn):  # the surest choose their place first
        place = _label_place(box, canvas.text_width(label, text) + 6, text + 5, (height, width), taken)
        taken.append(place)
        places.append((place, label, color))
    for place, label, color in reversed(places):
        draw.rectangle(place, fill=color)
        ink = _BLACK if np.dot(color, (0.299, 0.587, 0.114)) > 130 else _WHITE
        middle = (place[0] + 3, (place[1] + place[3] + 1) // 2)
        draw.text(middle, label, fill=ink, font=canvas.font(text), anchor="lm")
    return np.asarray(made)


def _grown(box: tuple[int, ...], by: int) -> tuple[int, int, int, int]:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _label_place(
    box: tuple[int, ...], wide: int, high: int, size: tuple[int, int], taken: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int, int, int]:
    """Returns the place of a label: the one that covers least of the labels in `taken`, or the first such place.

    The places are tried in this order: above the box, inside at the top, below, inside at the bottom; each at the left
    and at the right.
    """
    left, top, right, bottom = box
    candidates = []
    for y in (top - high, top, bottom + 1, bottom - high + 1):
        for x in (left, right - wide + 1):
            x, y = int(np.clip(x, 0, max(0, size[1] - wide))), int(np.clip(y, 0, max(0, size[0] - high)))
            candidates.append((x, y, x + wide - 1, y + high - 1))
    return min(candidates, key=lambda place: sum(_shared(place, other) for other in taken))


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    return max(wide, 0) * max(high, 0)
