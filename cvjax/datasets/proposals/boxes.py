"""Proposes boxes of an image that may hold an object, before any net has seen it.

Selective search (Uijlings et al., IJCV 2013) joins the regions of a coarse segmentation, the most alike first, and
proposes the box of every region on the way. The implementation is OpenCV's. The grid does not look at the image. It
gives boxes of all sizes and some proportions, evenly spread, in the number that is asked for. With the same number of
boxes it is worse than selective search, and for small objects much worse, but it takes no time.
"""

import ctypes
import dataclasses
import math
from typing import Literal, get_args

import cv2
import numpy as np

from cvjax.errors import ConfigError

Mode = Literal["fast", "quality", "grid"]

_SHRINK = 0.7
"""A size of the grid's boxes, as a share of the next larger one's."""
_SMALLEST_SHARE = 0.08
"""The grid's smallest size, as a share of the image's shorter side."""
_FINEST_STEP = 0.05
"""The smallest distance from one box of the grid to the next, as a share of the box's own side."""


@dataclasses.dataclass(frozen=True)
class ProposalConfig:
    """Says how boxes are proposed; other values make another set.

    Attributes:
      mode: Method: `fast` or `quality`, those of selective search, or `grid`.
      limit: Largest number of boxes in an image; the papers have about 2000. Selective search puts joined regions,
        which are large, before the first ones, with a good deal of chance in the order. The grid spreads this number of
        boxes.
      min_side: Length in pixels; boxes with a shorter side are left out.
      longest: Length in pixels to which the longer side of larger images is reduced before selective search.
      ratios: Height by width of the grid's boxes.
    """

    mode: Mode = "fast"
    limit: int = 2000
    min_side: int = 10
    longest: int = 500
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"proposals have the modes {', '.join(get_args(Mode))}, not {self.mode!r}")
        if min(self.limit, self.min_side, self.longest) < 1 or not self.ratios or min(self.ratios) <= 0:
            raise ConfigError(f"a limit, sides and ratios of proposals are positive, not {self}")


DEFAULT = ProposalConfig()


def propose(image: np.ndarray, config: ProposalConfig = DEFAULT) -> np.ndarray:
    """Proposes boxes of one image.

    Args:
      image: Image, uint8 [H, W, 3], RGB.
      config: Method and limits, see `ProposalConfig`.

    Returns:
      Boxes, float32 [N, 4], see `cvjax.ops.detection.boxes`, in the order of their method. There are at most `limit`
      and at least one.

    Raises:
      ConfigError: The mode is selective search, and its package is not installed.
    """
    if config.mode == "grid":
        return grid_boxes(image.shape[:2], config)
    return _selective_search(image, config)


def check_installed(config: ProposalConfig) -> None:
    """Raises ConfigError, with the package to install, if the mode needs one that is not there."""
    if config.mode != "grid" and not hasattr(cv2, "ximgproc"):
        raise ConfigError(
            f"proposals of mode {config.mode!r} are OpenCV's contributed selective search, which this OpenCV lacks;"
            " another package of OpenCV has written over it: pip install --force-reinstall --no-deps"
            " opencv-contrib-python-headless, or take the mode 'grid'"
        )


def grid_boxes(size: tuple[int, int], config: ProposalConfig) -> np.ndarray:
    """Spreads boxes of all sizes over an image, the largest first; the whole image is the first of all.

    Boxes of one size and ratio are evenly spread from border to border. The distance between neighbors is at most the
    same share of their own sides at every size. This is the smallest share from 0.05 on that gives no more than `limit`
    boxes.

    Args:
      size: Size (height, width) of the image, in pixels.
      config: Settings; `limit`, `min_side` and `ratios` are used.

    Returns:
      Boxes, float32 [N, 4].
    """
    height, width = size
    shapes, side = [], float(min(size))
    while side >= max(config.min_side, _SMALLEST_SHARE * min(size)):
        for ratio in config.ratios:
            high, wide = side * math.sqrt(ratio), side / math.sqrt(ratio)
            if high <= height and wide <= width and min(high, wide) >= config.min_side:
                shapes.append((high, wide))
        side *= _SHRINK
    places = config.limit - 1  # one is the whole image

    def counts(step: float) -> list[tuple[int, int]]:
        return [
            (1 + math.ceil((height - high) / (step * high)), 1 + math.ceil((width - wide) / (step * wide)))
            for high, wide in shapes
        ]

    low, enough = _FINEST_STEP, 2.0 * max(size)
    if sum(down * right for down, right in counts(low)) <= places:
        enough = low
    for _ in range(40):  # by halves, to far below a pixel
        middle = (low + enough) / 2
        if sum(down * right for down, right in counts(middle)) <= places:
            enough = middle
        else:
            low = middle
    rows = [np.array([[0, 0, width, height]], np.float64)]
    for (high, wide), (down, right) in zip(shapes, counts(enough)):
        top, left = np.linspace(0, height - high, down), np.linspace(0, width - wide, right)
        y, x = (v.ravel() for v in np.meshgrid(top, left, indexing="ij"))
        rows.append(np.stack([x, y, x + wide, y + high], axis=-1))
    return np.concatenate(rows)[: config.limit].astype(np.float32)


def _selective_search(image: np.ndarray, config: ProposalConfig) -> np.ndarray:
    check_installed(config)
    height, width = image.shape[:2]
    factor = min(1.0, config.longest / max(height, width))
    small = image
    if factor < 1:
        sides = max(1, round(width * factor)), max(1, round(height * factor))
        small = cv2.resize(image, sides, interpolation=cv2.INTER_AREA)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(small[..., ::-1]))  # BGR
    search.switchToSelectiveSearchFast() if config.mode == "fast" else search.switchToSelectiveSearchQuality()
    _seed_c()
    corners = np.asarray(search.process(), np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    scale = np.array([width / small.shape[1], height / small.shape[0]] * 2)
    boxes = corners * scale
    kept = boxes[(boxes[:, 2:] - boxes[:, :2] >= config.min_side).all(1)]
    whole = np.array([[0, 0, width, height]], np.float64)
    return (kept if len(kept) else whole)[: config.limit].astype(np.float32)


def _seed_c() -> None:
    """Seeds C's rand(), with which OpenCV shuffles the order, so that the same image gives the same boxes.

    Where it cannot be seeded, the order may vary.
    """
    try:
        ctypes.CDLL(None).srand(1)
    except (AttributeError, OSError, TypeError):  # Windows has no such library
        return
