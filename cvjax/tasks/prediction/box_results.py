"""Writes what a detection finds: boxes drawn, as JSON, as COCO's results, and as YOLO's text."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cvjax.engine.run import write_report
from cvjax.storage import AnyPath, write_result
from cvjax.tasks.prediction.choices import BoxFormat
from cvjax.tasks.prediction.coco_ids import CocoIds
from cvjax.tasks.prediction.results import Item
from cvjax.visual.boxes import Boxes, draw_boxes
from cvjax.visual.sheets.samples import draw_scaled, legend_of

_RESULTS, _IMAGES = "coco_results.json", "coco_images.json"


class _Found(NamedTuple):
    """Boxes of an image: all, and those with enough score."""

    all: Boxes
    shown: Boxes


class BoxResults:
    """Writes `Boxes`, see `cvjax.tasks.prediction.results.Results`.

    NAME_overlay.png, and by formats: NAME_boxes.json; coco_results.json, a list as pycocotools' `loadRes` takes it,
    with coco_images.json, which holds the images and categories of its ids; labels/NAME.txt, a line
    `class x y width height score` for each box, with its center and size as shares of the image's.

    Args:
      class_names: Names of the classes by label.
      least: Score that a box needs to be drawn and written. COCO's results hold all boxes, because its scores need
        them, unless `all_least` is given.
      formats: Formats to write.
      all_least: Score that a box needs in COCO's results.
      ids: Ids of images and categories in COCO's results.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        least: float,
        formats: Sequence[BoxFormat] = ("json",),
        *,
        all_least: float | None = None,
        ids: CocoIds | None = None,
    ) -> None:
        self._names, self._least, self._formats = class_names, least, formats
        self._all_least = -np.inf if all_least is None else all_least
        self._ids = ids or CocoIds.of_classes(class_names)

    @property
    def draws(self) -> bool:
        """Returns whether each image gets a picture, NAME_overlay.png."""
        return True

    def shown(self, result: Any) -> Any:
        """Returns all boxes, and those with enough score."""
        return _Found(_at_least(result, self._all_least), _at_least(result, self._least))

    def picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the image with boxes."""
        return draw_boxes(image, result.shown, self._names)

    def frame(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the frame with boxes; small frames are enlarged."""
        return self.picture(image, result)

    def thumb(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Returns the image at the size of the sheet, with boxes; names of a few boxes alone."""
        return draw_scaled(image, result.shown, self._names)

    def write(self, out: AnyPath, item: Item, result: Any) -> list[AnyPath]:
        """Writes the boxes as JSON and as YOLO's text."""
        written = []
        if "json" in self._formats:
            written.append(out / f"{item.name}_boxes.json")
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            height, width = item.size
            write_report(written[-1], {"height": height, "width": width, **self.entry(result)})
        if "yolo" in self._formats:
            written.append(out / "labels" / f"{item.name}.txt")
            write_result(written[-1], yolo_text(result.shown, item.size).encode())
        return written

    def line(self, result: Any) -> str:
        """Returns the number of boxes of each class."""
        counts = np.bincount(result.shown.labels, minlength=len(self._names))
        named = [f"{name} {count}" for name, count in zip(self._names, counts.tolist()) if count]
        return ", ".join(named) or "nothing"

    def entry(self, result: Any) -> Mapping[str, Any]:
        """Returns the class, score and box (x1, y1, x2, y2) of each detection in pixels, best first."""
        found = result.shown
        rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist())
        named = [
            {"class": self._names[label], "label": label, "score": score, "box": box} for label, score, box in rows
        ]
        return {"boxes": named}

    def kept(self, result: Any) -> Any:
        """Returns the boxes of COCO's results, if they are written."""
        return result.all if "coco" in self._formats else None

    def finish(self, out: AnyPath, items: Sequence[tuple[Item, Any]]) -> list[AnyPath]:
        """Writes COCO's results, and their images and categories."""
        if "coco" not in self._formats:
            return []
        images = self._ids.images([item for item, _ in items])
        rows = []
        for image, (_, found) in zip(images, items):
            sides = found.boxes[:, 2:] - found.boxes[:, :2]
            corners = np.concatenate([found.boxes[:, :2], sides], axis=1).tolist()
            for label, score, box in zip(found.labels.tolist(), found.scores.tolist(), corners):
                category = self._ids.categories[label]["id"]
                rows.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})
        out.mkdir(parents=True, exist_ok=True)
        write_report(out / _RESULTS, rows)  # pyright: ignore[reportArgumentType]  # COCO's report is a list
        write_report(out / _IMAGES, {"images": images, "categories": list(self._ids.categories)})
        return [out / _RESULTS, out / _IMAGES]

    def legend(self) -> Mapping[str, tuple[int, int, int]]:
        """Returns the colors of the boxes."""
        return legend_of("boxes", self._names)


def yolo_text(found: Boxes, size: tuple[int, int]) -> str:
    """Returns boxes as YOLO's text has them, with the score last: `class x y width height score`, a line each.

    Args:
      found: Boxes with scores.
      size: Height and width of the image, of which centers and sizes are shares.
    """
    assert found.scores is not None
    shares = found.boxes.astype(np.float64) / np.array([size[1], size[0]] * 2)
    centers, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    rows = zip(found.labels.tolist(), np.concatenate([centers, sides], axis=1), found.scores.tolist())
    return "".join(f"{label} {' '.join(f'{share:.7f}' for share in box)} {score:.6f}\n" for label, box, score in rows)


def _at_least(found: Boxes, score: float) -> Boxes:
    assert found.scores is not None
    kept = np.asarray(found.scores) >= score
    return Boxes(found.boxes[kept], found.labels[kept], found.scores[kept])
