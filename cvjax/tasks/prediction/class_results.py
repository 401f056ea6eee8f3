"""Writes what a classification finds: the likeliest classes of each image, as a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvjax.storage import AnyPath, write_result
from cvjax.tasks.prediction.results import Item
from cvjax.visual import canvas

_FILE = "classes.csv"


class ClassResults:
    """Writes probabilities [C], see `cvjax.tasks.prediction.results.Results`: classes.csv, with a row for each class.

    Args:
      class_names: Names of the classes by label.
      top: Number of classes that are named for each image.
    """

    def __init__(self, class_names: Sequence[str], top: int = 5) -> None:
        self._names, self._top = class_names, top

    @property
    def draws(self) -> bool:
        """Returns whether each image gets a picture, NAME_overlay.png."""
        return False

    def shown(self, result: Any) -> Any:
        """Returns the result."""
        return result

    def picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the image."""
        del result
        return image

    def thumb(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the image, as there is no legend."""
        return self.picture(image, result)

    def frame(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the frame with its likeliest class in a bar below."""
        size = int(np.clip(max(image.shape[:2]) / 32, canvas.TEXT, 64))
        (best, *_) = self.entry(result)["classes"]
        bar = canvas.draw_text(f"{best['class']} {best['probability']:.1%}", image.shape[1], size)
        return np.concatenate([image, bar])

    def write(self, out: AnyPath, item: Item, result: Any) -> list[AnyPath]:
        """Writes nothing: the table holds all."""
        del out, item, result
        return []

    def line(self, result: Any) -> str:
        """Returns the likeliest classes with their probabilities."""
        return ", ".join(f"{row['class']} {row['probability']:.1%}" for row in self.entry(result)["classes"])

    def entry(self, result: Any) -> Mapping[str, Any]:
        """Returns the likeliest classes, best first."""
        order = np.argsort(-result, kind="stable")[: self._top].tolist()
        rows = [{"class": self._names[label], "label": label, "probability": float(result[label])} for label in order]
        return {"classes": rows}

    def kept(self, result: Any) -> Any:
        """Returns the likeliest classes."""
        return self.entry(result)["classes"]

    def finish(self, out: AnyPath, items: Sequence[tuple[Item, Any]]) -> list[AnyPath]:
        """Writes classes.csv."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["image", "frame", "rank", "class", "label", "probability"])
        for item, classes in items:
            for rank, found in enumerate(classes, start=1):
                frame = "" if item.frame is None else item.frame
                chance = f"{found['probability']:.6g}"
                rows.writerow([str(item.path), frame, rank, found["class"], found["label"], chance])
        write_result(out / _FILE, text.getvalue().encode())
        return [out / _FILE]

    def legend(self) -> Mapping[str, tuple[int, int, int]]:
        """Returns nothing: the pictures are the images."""
        return {}
