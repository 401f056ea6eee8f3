"""Says how a predictor sees an image: as pieces of few shapes, whose outputs are joined into one result."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from cvjax.errors import ConfigError
from cvjax.ops.geometry import pair

Rows = Mapping[str, np.ndarray]
"""Inputs of the net by name: of one piece, or of a batch with a leading axis."""


@dataclasses.dataclass(frozen=True)
class Views:
    """Configures which views of an image are predicted and joined.

    Attributes:
      scales: Factors on the size at which the image is seen.
      flip: Whether to see the mirror image too.
      tile: Longest side in pixels of the pieces that a larger image is cut into; None is the task's own choice.
      overlap: Number of pixels that neighboring tiles share; None is a quarter of a tile, at most 256.
      whole: Detection with tiles: whether to see the whole image too, which finds what is larger than a tile.

    Raises:
      ConfigError: A value is outside its range.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tile: int | None = None
    overlap: int | None = None
    whole: bool = True

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise ConfigError(
                f"scales must be one or more positive numbers, not {self.scales}; 1.0 is the image's own size"
            )
        if self.tile is not None and self.tile < 32:
            raise ConfigError(f"--tile is {self.tile}; give the longest side of a tile in pixels, 32 or more")
        if self.overlap is not None and (self.tile is None or not 0 <= self.overlap < self.tile):
            raise ConfigError(f"--overlap is {self.overlap}; give 0 or more pixels, and less than --tile")

    @property
    def shared(self) -> int:
        """Returns the number of pixels that neighboring tiles share."""
        assert self.tile is not None
        return min(256, self.tile // 4) if self.overlap is None else self.overlap


class Piece(NamedTuple):
    """Describes one input of a net.

    Attributes:
      shape: Height and width of the input; pieces of one shape share batches and a compiled program.
      window: Part of the image that it shows, (top, left, bottom, right) in pixels.
      kept: Part of the image that its output is for, where those of pieces do not overlap.
      scale: Factor on the size at which it is seen.
      flip: Whether it is mirrored.
    """

    shape: tuple[int, int]
    window: tuple[int, int, int, int]
    kept: tuple[int, int, int, int]
    scale: float = 1.0
    flip: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Returns height and width of the window."""
        top, left, bottom, right = self.window
        return bottom - top, right - left

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Returns the window of an image, mirrored where the piece is."""
        top, left, bottom, right = self.window
        shown = image[top:bottom, left:right]
        return np.ascontiguousarray(shown[:, ::-1]) if self.flip else shown


@runtime_checkable
class CompilesAhead(Protocol):
    """Compiles its net before the first batch of a shape comes, as a predictor may do."""

    def ahead(self, rows: Rows, runs: float) -> None:
        """Compiles the net for batches of these shapes, of which so many come; any thread may call this."""
        ...


class BatchPredictor(Protocol):
    """Predicts images of any size by a net that is compiled once for each shape of its pieces.

    One that is `CompilesAhead` as well is asked for the next shape while the net runs on the one before.
    """

    def pieces(self, size: tuple[int, int]) -> Sequence[Piece]:
        """Returns the pieces of an image of this height and width; nothing but the size decides them."""
        ...

    def prepare(self, image: np.ndarray, piece: Piece) -> Rows:
        """Returns the net's inputs for a piece of an image, uint8 [H, W, 3]; it runs in threads."""
        ...

    def start(self, rows: Rows) -> Any:
        """Starts the net on a batch; returns a tree of device arrays [B, ...], which may not be there yet."""
        ...

    def part(self, outputs: Any, rows: Rows, piece: Piece) -> Any:
        """Returns what a piece's outputs, as numpy arrays, and its inputs say about the image."""
        ...

    def join(self, size: tuple[int, int], pieces: Sequence[Piece], parts: Sequence[Any]) -> Any:
        """Returns the result for an image from all of its parts."""
        ...


def predict_one(predictor: BatchPredictor, image: np.ndarray, **given: Any) -> Any:
    """Returns the result for one image, uint8 [H, W, 3]; `given` is handed to `prepare`.

    Raises:
      ValueError: The image has another shape or dtype, or is empty.
    """
    check_image(image)
    size = pair(image.shape[:2])
    pieces, parts = predictor.pieces(size), []
    for piece in pieces:
        rows = predictor.prepare(image, piece, **given)
        outputs = jax.device_get(predictor.start({name: np.asarray(row)[None] for name, row in rows.items()}))
        parts.append(predictor.part(jax.tree.map(lambda output: output[0], outputs), rows, piece))
    return predictor.join(size, pieces, parts)


def check_image(image: np.ndarray) -> None:
    """Raises ValueError unless an array is an image, uint8 [H, W, 3] and not empty."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"an image is non-empty uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")


def window_starts(size: int, window: int, overlap: float = 1 / 3) -> tuple[int, ...]:
    """Computes the first positions of windows that cover `size` pixels; the last window is shifted to end inside.

    Args:
      size: Number of pixels to cover.
      window: Number of pixels of one window; if it is `size` or more, there is one window, at 0.
      overlap: Fraction of a window that it shares with the next, in [0, 1); the last may share more.

    Returns:
      First position of each window, ascending.

    Raises:
      ConfigError: `size` or `window` is below 1, or `overlap` is outside [0, 1).
    """
    if size < 1 or window < 1:
        raise ConfigError(f"window {window} and image side {size} must be at least 1 pixel; give a larger --window")
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap must lie in [0, 1), not {overlap}; 1/3 is the usual value")
    if window >= size:
        return (0,)
    stride = max(1, round(window * (1 - overlap)))
    count = math.ceil((size - window) / stride) + 1
    return tuple(min(i * stride, size - window) for i in range(count))


def tiles(size: tuple[int, int], tile: int, shared: int) -> list[tuple[tuple[int, int, int, int], ...]]:
    """Returns (window, kept) of each tile of an image, as `Piece` has them.

    The kept parts cover the image without gaps and without overlap; each pixel is kept where it lies further from the
    cut, so with at least half of the shared pixels around it.

    Args:
      size: Height and width of the image.
      tile: Longest side of a tile.
      shared: Least number of pixels that neighboring tiles share, below `tile`.
    """
    rows, columns = (_spans(side, tile, shared) for side in size)
    return [
        ((top, left, bottom, right), (up, before, down, behind))
        for (top, bottom), (up, down) in rows
        for (left, right), (before, behind) in columns
    ]


def _spans(side: int, tile: int, shared: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    starts = window_starts(side, tile, shared / tile)
    stops = [min(start + tile, side) for start in starts]
    cuts = [0, *((stop + start) // 2 for stop, start in zip(stops[:-1], starts[1:])), side]
    return list(zip(zip(starts, stops), itertools.pairwise(cuts)))
