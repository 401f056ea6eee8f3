"""One set of photographs with boxes and polygons, written in each format by hand, apart from cvjax's own writers."""

import base64
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.path import Path
from PIL import Image
from tiny_sets import box_xml, encoded, photo

CLASSES = ("cat", "dog", "emu")


@dataclasses.dataclass(frozen=True)
class Thing:
    """An object: its class, its box in our convention, and a polygon where it has one."""

    name: str
    box: tuple[float, float, float, float]
    polygon: tuple[tuple[float, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photograph: its stem, its encoded bytes, its size, its objects, and its suffix."""

    stem: str
    data: bytes
    size: tuple[int, int]
    things: tuple[Thing, ...]
    suffix: str = ".png"

    @property
    def file(self) -> str:
        """Returns the name of its file."""
        return self.stem + self.suffix


def outlined(name: str, *corners: tuple[float, float]) -> Thing:
    """An object with a polygon and the box around it."""
    x, y = zip(*corners)
    return Thing(name, (min(x), min(y), max(x), max(y)), corners)


def photos() -> dict[str, list[Photo]]:
    """Five small photographs in two splits; the corners lie off the pixels' centers, and polygons overlap."""
    shapes = [
        [outlined("cat", (3.2, 2.1), (20.7, 4.3), (17.9, 19.6), (5.1, 15.2))],
        [
            outlined("dog", (1.0, 1.0), (30.3, 2.2), (28.8, 21.7), (2.2, 20.9)),
            outlined("cat", (10.3, 5.2), (19.8, 5.9), (15.3, 17.4)),
        ],
        [],
        [outlined("emu", (4.3, 3.3), (25.2, 3.9), (13.1, 9.2), (24.4, 18.3), (5.7, 18.8))],
        [
            outlined("dog", (6.1, 6.2), (16.3, 6.7), (16.6, 17.1), (7.2, 16.4)),
            outlined("emu", (20.4, 2.2), (34.7, 9.9), (21.3, 14.2)),
        ],
    ]
    made = [
        Photo(f"p{number}", encoded(photo(number, 24, 36 + number), "PNG"), (24, 36 + number), tuple(things))
        for number, things in enumerate(shapes)
    ]
    return {"train": made[:3], "val": made[3:]}


def mask_of(shown: Photo, names: Sequence[str] = CLASSES) -> np.ndarray:
    """Labels from 1 on of the objects of a photograph, later ones over earlier ones, uint8 [H, W]; 0 is background."""
    height, width = shown.size
    rows, columns = np.mgrid[:height, :width]
    centers = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    mask = np.zeros(shown.size, np.uint8)
    for thing in shown.things:
        corners = [*thing.polygon, thing.polygon[0]]
        inside = Path(corners, closed=True).contains_points(centers).reshape(shown.size)
        mask[inside] = names.index(thing.name) + 1
    return mask


def put(folder: pathlib.Path, path: str, content: bytes | str) -> None:
    """Writes a file below a folder."""
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content if isinstance(content, bytes) else content.encode())


def coco_content(shown: Sequence[Photo], polygons: bool = True, folder: str = "") -> dict[str, Any]:
    """A COCO file's content; ids of categories have gaps."""
    things = [(image, thing) for image in range(len(shown)) for thing in shown[image].things]
    return {
        "info": {},
        "images": [
            {"id": 10 + n, "file_name": f"{folder}{each.file}", "height": each.size[0], "width": each.size[1]}
            for n, each in enumerate(shown)
        ],
        "categories": [{"id": 2 * n + 1, "name": name} for n, name in enumerate(CLASSES)],
        "annotations": [
            {
                "id": number,
                "image_id": 10 + image,
                "category_id": 2 * CLASSES.index(thing.name) + 1,
                "bbox": [*thing.box[:2], thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]],
                "iscrowd": 0,
                **({"segmentation": [[value for point in thing.polygon for value in point]]} if polygons else {}),
            }
            for number, (image, thing) in enumerate(things, 1)
        ],
    }


def write_roboflow(folder: pathlib.Path, splits: Mapping[str, Sequence[Photo]], polygons: bool = True) -> None:
    """A folder a split with `_annotations.coco.json`, and a category that only groups the others."""
    for split, shown in splits.items():
        split = {"val": "valid"}.get(split, split)
        content = coco_content(shown, polygons)
        content["categories"] = [{"id": 0, "name": "animals", "supercategory": "none"}] + [
            {**entry, "supercategory": "animals"} for entry in content["categories"]
        ]
        put(folder, f"{split}/_annotations.coco.json", json.dumps(content))
        for each in shown:
            put(folder, f"{split}/{each.file}", each.data)


def write_coco(folder: pathlib.Path, splits: Mapping[str, Sequence[Photo]], polygons: bool = True) -> None:
    """COCO's own layout, of no year."""
    for split, shown in splits.items():
        put(folder, f"annotations/instances_{split}.json", json.dumps(coco_content(shown, polygons)))
        for each in shown:
            put(folder, f"images/{split}/{each.file}", each.data)


def yolo_lines(shown: Photo, polygons: bool) -> str:
    """The lines of a label file."""
    height, width = shown.size
    lines = []
    for thing in shown.things:
        x1, y1, x2, y2 = thing.box
        numbers = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        if polygons:
            numbers = [value for x, y in thing.polygon for value in (x / width, y / height)]
        lines.append(" ".join([str(CLASSES.index(thing.name)), *(f"{value:.12f}" for value in numbers)]))
    return "\n".join(lines) + "\n"


def write_yolo(folder: pathlib.Path, splits: Mapping[str, Sequence[Photo]], polygons: bool = True) -> None:
    """Folders `images` and `labels` with a data.yaml; an image without an object has no label file."""
    for split, shown in splits.items():
        for each in shown:
            put(folder, f"images/{split}/{each.file}", each.data)
            if each.things:
                put(folder, f"labels/{split}/{each.stem}.txt", yolo_lines(each, polygons))
    lines = [f"  {number}: {name}" for number, name in enumerate(CLASSES)]
    splits_of = [f"{split}: images/{split}" for split in splits]
    put(folder, "data.yaml", "\n".join(["path: /home/ann/datasets/pets", *splits_of, "names:", *lines]))


def labelme_content(shown: Photo, polygons: bool, embedded: bool = False) -> dict[str, Any]:
    """A file of LabelMe's, with a line that has no area."""
    shapes = [
        {
            "label": thing.name,
            "points": [list(point) for point in (thing.polygon if polygons else (thing.box[2:], thing.box[:2]))],
            "group_id": None,
            "shape_type": "polygon" if polygons else "rectangle",
            "flags": {},
        }
        for thing in shown.things
    ]
    line = {"label": "edge", "points": [[1, 1], [9, 9]], "group_id": None, "shape_type": "line", "flags": {}}
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [*shapes, line],
        "imagePath": f"..\\photos\\{shown.file}",
        "imageData": base64.b64encode(shown.data).decode() if embedded else None,
        "imageHeight": shown.size[0],
        "imageWidth": shown.size[1],
    }


def write_labelme(folder: pathlib.Path, splits: Mapping[str, Sequence[Photo]], polygons: bool = True) -> None:
    """A folder a split; every other image is inside its JSON alone."""
    for split, shown in splits.items():
        for number, each in enumerate(shown):
            embedded = number % 2 == 1
            put(folder, f"{split}/{each.stem}.json", json.dumps(labelme_content(each, polygons, embedded), indent=2))
            if not embedded:
                put(folder, f"{split}/{each.file}", each.data)
    put(folder, "labels.txt", "\n".join(["__ignore__", "_background_", *CLASSES]))


def write_cvat(folder: pathlib.Path, splits: Mapping[str, Sequence[Photo]], polygons: bool = True) -> None:
    """A project's export, with subsets, and `z_order` against the order of the file."""
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    images = []
    for split, shown in splits.items():
        for number, each in enumerate(shown):
            shapes = []
            for order, thing in reversed(list(enumerate(each.things))):
                x1, y1, x2, y2 = thing.box
                corners = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
                points = ";".join(f"{x},{y}" for x, y in thing.polygon)
                tag, place = ("polygon", f'points="{points}"') if polygons else ("box", corners)
                shapes.append(f'<{tag} label="{thing.name}" occluded="1" {place} z_order="{order}"></{tag}>')
            height, width = each.size
            images.append(
                f'<image id="{number}" name="{each.file}" subset="{split.title()}" width="{width}"'
                f' height="{height}">{"".join(shapes)}</image>'
            )
            put(folder, f"images/{split.title()}/{each.file}", each.data)
    head = f"<version>1.1</version><meta><project><labels>{labels}</labels></project></meta>"
    put(folder, "annotations.xml", f"<annotations>{head}{''.join(images)}</annotations>")


def write_voc(folder: pathlib.Path, splits: Mapping[str, Sequence[Photo]], polygons: bool = False) -> None:
    """VOC's layout: corners count from 1."""
    for split, shown in splits.items():
        put(folder, f"ImageSets/Main/{split}.txt", "".join(f"{each.stem}\n" for each in shown))
        for each in shown:
            corners = [(t.name, t.box[0] + 1, t.box[1] + 1, t.box[2], t.box[3]) for t in each.things]
            put(folder, f"Annotations/{each.stem}.xml", box_xml(corners, size=each.size))  # pyright: ignore
            put(folder, f"JPEGImages/{each.file}", each.data)
    put(folder, "classes.txt", "\n".join(CLASSES))


WRITERS: Mapping[str, Callable[..., None]] = {
    "coco": write_coco,
    "roboflow": write_roboflow,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "voc": write_voc,
}


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width of an encoded image."""
    width, height = Image.open(io.BytesIO(data)).size
    return height, width
