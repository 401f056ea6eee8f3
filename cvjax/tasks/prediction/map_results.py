"""Writes what a segmentation finds: overlays, label PNGs with VOC's palette, probabilities."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvjax.storage import AnyPath, write_result
from cvjax.tasks.prediction.results import Item
from cvjax.visual.canvas import save_mask
from cvjax.visual.overlay import draw_overlay, tint
from cvjax.visual.palette import voc_palette


class MapResults:
    """Writes `LabelMap`s, see `cvjax.tasks.prediction.results.Results`.

    NAME_overlay.png, NAME_mask.png, a palette PNG whose pixels are class numbers, and NAME_probabilities.npz where
    probabilities are kept: one array `probabilities`, [H, W, C].

    Args:
      class_names: Names of the classes by label.
      with_probabilities: Whether results hold probabilities.
    """

    def __init__(self, class_names: Sequence[str], with_probabilities: bool = False) -> None:
        self._names, self._with_probabilities = class_names, with_probabilities

    @property
    def draws(self) -> bool:
        """Returns whether each image gets a picture, NAME_overlay.png."""
        return True

    def shown(self, result: Any) -> Any:
        """Returns the result."""
        return result

    def picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the image with tinted classes and a legend."""
        return draw_overlay(image, result.labels, self._names)

    def frame(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the frame with tinted classes, of its own size; the legend is on the page."""
        return tint(image, result.labels, self._names)

    def thumb(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the image with tinted classes."""
        return tint(image, result.labels, self._names)

    def write(self, out: AnyPath, item: Item, result: Any) -> list[AnyPath]:
        """Writes the mask and the probabilities."""
        mask = out / f"{item.name}_mask.png"
        save_mask(mask, result.labels)
        if result.probabilities is None:
            return [mask]
        file, content = out / f"{item.name}_probabilities.npz", io.BytesIO()
        np.savez_compressed(content, probabilities=result.probabilities)
        write_result(file, content.getvalue())
        return [mask, file]

    def line(self, result: Any) -> str:
        """Returns the classes that occur with their share of the pixels, the largest first."""
        return ", ".join(f"{name} {share:.1%}" for name, share in self.entry(result)["shares"].items())

    def entry(self, result: Any) -> Mapping[str, Any]:
        """Returns the classes that occur with their share of the pixels, the largest first."""
        labels = result.labels
        counts = np.bincount(labels.ravel(), minlength=len(self._names))
        order = [label for label in np.argsort(-counts, kind="stable") if counts[label]]
        return {"shares": {self._names[label]: float(counts[label] / labels.size) for label in order}}

    def kept(self, result: Any) -> None:
        """Returns nothing: maps are large."""
        del result

    def finish(self, out: AnyPath, items: Sequence[tuple[Item, Any]]) -> list[AnyPath]:
        """Writes nothing: each image has its own files."""
        del out, items
        return []

    def legend(self) -> Mapping[str, tuple[int, int, int]]:
        """Returns the palette's colors, but for a background, which is not drawn."""
        colors = zip(self._names, voc_palette().tolist())
        return {name: (red, green, blue) for name, (red, green, blue) in colors if name != "background"}
