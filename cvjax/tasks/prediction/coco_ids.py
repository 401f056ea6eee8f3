"""Gives images and classes the ids that COCO's results call them by."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cvjax.errors import DataError
from cvjax.storage import as_path
from cvjax.tasks.prediction.results import Item


@dataclasses.dataclass(frozen=True)
class CocoIds:
    """Holds the categories of results, and the images of a file of COCO's, if there is one.

    Attributes:
      categories: {"id", "name"} of each class by label.
      file: File of annotations that knows the images; None gives them ids by their names.
      known: Id of each image of that file by its `file_name`.
    """

    categories: tuple[Mapping[str, Any], ...]
    file: str | None = None
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_classes(cls, class_names: Sequence[str]) -> "CocoIds":
        """Numbers the classes from 1 on, as COCO does."""
        return cls(tuple({"id": label + 1, "name": name} for label, name in enumerate(class_names)))

    @classmethod
    def of_file(cls, file: str, class_names: Sequence[str]) -> "CocoIds":
        """Takes the ids of a file of annotations, with classes matched by their names.

        Raises:
          DataError: The file cannot be read, is not in COCO's format, or lacks a class.
        """
        try:
            content = json.loads(as_path(file).read_bytes())
            numbers = {entry["name"]: entry["id"] for entry in content["categories"]}
            images = {entry["file_name"]: entry["id"] for entry in content["images"]}
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror or error}); check the path") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}: is not in COCO's format, with images and categories; give another") from error
        lost = [name for name in class_names if name not in numbers]
        if lost:
            raise DataError(f"{file}: has no category {lost[0]}, which the net predicts; name it there")
        return cls(tuple({"id": numbers[name], "name": name} for name in class_names), file, images)

    def images(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Returns {"id", "file_name", "height", "width"} of each item.

        The id is that of the file of annotations, or the number at the end of the file's name, as 139 of
        000000000139.jpg, where all have one and it is another for each; otherwise the items are numbered from 1 on.

        Raises:
          DataError: The file of annotations does not list an image.
        """
        names = [_file_name(item) for item in items]
        if self.file is None:
            ids: list[Any] = _numbers(items) or list(range(1, len(items) + 1))
        else:
            ids = [self._known_id(item) for item in items]
        return [
            {"id": number, "file_name": name, "height": item.size[0], "width": item.size[1]}
            for number, name, item in zip(ids, names, items)
        ]

    def _known_id(self, item: Item) -> Any:
        parts = os.fspath(item.path).replace(os.sep, "/").split("/")
        for start in range(len(parts)):  # the longest end of the path that the file lists
            name = "/".join(parts[start:])
            if item.frame is None and name in self.known:
                return self.known[name]
        by_name = {name.rpartition("/")[2]: number for name, number in self.known.items()}
        if item.frame is None and parts[-1] in by_name and len(by_name) == len(self.known):
            return by_name[parts[-1]]
        raise DataError(f"{self.file}: does not list the image {item.path}; predict its images, or leave it out")


def _file_name(item: Item) -> str:
    return item.path.name if item.frame is None else f"{item.name}.png"


def _numbers(items: Sequence[Item]) -> list[int] | None:
    found = [re.search(r"(\d+)$", item.path.stem) if item.frame is None else None for item in items]
    numbers = [int(match[1]) for match in found if match]
    return numbers if len(numbers) == len(items) == len(set(numbers)) else None
