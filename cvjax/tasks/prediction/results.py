"""Says what the results of any task are: a picture, files, a line for the terminal, and an entry of a report."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cvjax.storage import AnyPath


class Item(NamedTuple):
    """Names a predicted image, or a frame of a video.

    Attributes:
      path: File that it is from.
      name: What its results are called, with `/` for folders.
      size: Its height and width.
      frame: Number of the frame; None for a photograph.
    """

    path: AnyPath
    name: str
    size: tuple[int, int]
    frame: int | None = None


class Results(Protocol):
    """Writes what a task finds."""

    @property
    def draws(self) -> bool:
        """Returns whether each image gets a picture, NAME_overlay.png."""
        ...

    def shown(self, result: Any) -> Any:
        """Returns what of a result is drawn and told: of boxes those with enough score."""
        ...

    def picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the result drawn over its image."""
        ...

    def frame(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the result drawn over a frame, of one size for all frames."""
        ...

    def thumb(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the result drawn over its image for a sheet with a legend."""
        ...

    def write(self, out: AnyPath, item: Item, result: Any) -> list[AnyPath]:
        """Writes an image's files other than its picture and returns their paths; it runs in threads."""
        ...

    def line(self, result: Any) -> str:
        """Returns what was found, in a line."""
        ...

    def entry(self, result: Any) -> Mapping[str, Any]:
        """Returns what was found as JSON holds it."""
        ...

    def finish(self, out: AnyPath, items: Sequence[tuple[Item, Any]]) -> list[AnyPath]:
        """Writes the files about all images, in their order, and returns their paths.

        Args:
          out: Folder of the results.
          items: Each item with what `kept` returned of its result.
        """
        ...

    def kept(self, result: Any) -> Any:
        """Returns what `finish` needs of a result; the rest is let go when it is written."""
        ...

    def legend(self) -> Mapping[str, tuple[int, int, int]]:
        """Returns the colors of `thumb` by the names of the classes, for the sheet; nothing if that needs no legend."""
        ...
