"""Small data sets drawn on the spot: pictures, a VOC devkit, VOC's and SBD's archives, image folders, boxes."""

import hashlib
import io
import pathlib
import tarfile
from collections.abc import Sequence
from xml.etree import ElementTree

import cv2
import numpy as np
import scipy.io
from PIL import Image

from cvjax.datasets.archives import Archive
from cvjax.datasets.voc.segmentation import OFFICIAL, Release

SIZES = ((30, 40), (24, 50), (36, 20))


def photo(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    """A smooth color picture, uint8 [height, width, 3], that JPEG keeps within a few levels."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3)).astype(np.uint8)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)


def labels(seed: int, height: int = 30, width: int = 40, void: bool = True) -> np.ndarray:
    """A label map of blocks of VOC's classes, uint8 [height, width], some of them 255."""
    blocks = np.random.default_rng(seed).integers(0, 21, (4, 4)).astype(np.uint8)
    if void:
        blocks[0, 1] = 255
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)


def encoded(array: np.ndarray, kind: str, mode: str | None = None, **options) -> bytes:
    """An array as a file of Pillow's format `kind`, after conversion to a mode."""
    picture = Image.fromarray(array)
    if mode is not None:
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def palette_png(mask: np.ndarray) -> bytes:
    """A label map as a PNG with a palette, as VOC publishes them."""
    picture = Image.fromarray(mask)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def voc_tree(train: int = 3, val: int = 2, extra: int = 0) -> dict[str, bytes]:
    """The files of a devkit by their path below VOC2012; `extra` images are in no list."""
    keys = [f"2007_{number:06d}" for number in range(train + val + extra)]
    files = {
        "ImageSets/Segmentation/train.txt": "\n".join(keys[:train]).encode() + b"\n",
        "ImageSets/Segmentation/val.txt": "\n".join(keys[train : train + val]).encode() + b"\n",
    }
    for number, key in enumerate(keys):
        height, width = SIZES[number % 3]
        files[f"JPEGImages/{key}.jpg"] = encoded(photo(number, height, width), "JPEG")
        if number < train + val:
            files[f"SegmentationClass/{key}.png"] = palette_png(labels(number, height, width))
    return files


def write_tree(root: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    """Writes files below a folder."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def write_tar(path: pathlib.Path, prefix: str, files: dict[str, bytes]) -> pathlib.Path:
    """Writes files into a tar, compressed if it is called .tgz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def sbd_tree(train: list[int], val: list[int]) -> dict[str, bytes]:
    """SBD's files below benchmark_RELEASE for images of `voc_tree`; its masks differ from VOC's."""
    files = {
        "dataset/train.txt": "".join(f"2007_{number:06d}\n" for number in train).encode(),
        "dataset/val.txt": "".join(f"2007_{number:06d}\n" for number in val).encode(),
    }
    for number in train + val:
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"GTcls": {"Segmentation": sbd_labels(number), "Boundaries": np.zeros(2)}})
        files[f"dataset/cls/2007_{number:06d}.mat"] = buffer.getvalue()
    return files


def sbd_labels(number: int) -> np.ndarray:
    """What SBD's mask of an image holds."""
    return labels(100 + number, *SIZES[number % 3], void=False)


def release(voc: pathlib.Path, sbd: pathlib.Path | None, counts: dict[str, int]) -> Release:
    """The digests of archives that `write_tar` wrote."""

    def archive(path: pathlib.Path | None, official: Archive) -> Archive:
        if path is None:
            return official
        content = path.read_bytes()
        md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
        return Archive(official.name, path.as_uri(), len(content), md5, sha256)

    return Release(archive(voc, OFFICIAL.voc), archive(sbd, OFFICIAL.sbd), counts)


Box = tuple[str, int, int, int, int]
"""Class name and VOC's corners of an object: xmin, ymin, xmax, ymax, counted from 1, the last ones included."""


def box_xml(boxes: Sequence[Box], difficult: Sequence[int] = (), size: tuple[int, int] = (30, 40)) -> bytes:
    """An annotation as VOC writes them; `difficult` numbers the objects that are."""
    root = ElementTree.Element("annotation")
    stated = ElementTree.SubElement(root, "size")
    for tag, side in zip(("height", "width"), size):
        ElementTree.SubElement(stated, tag).text = str(side)
    for number, (name, *corners) in enumerate(boxes):
        thing = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(thing, "name").text = name
        ElementTree.SubElement(thing, "difficult").text = str(int(number in difficult))
        box = ElementTree.SubElement(thing, "bndbox")
        for tag, corner in zip(("xmin", "ymin", "xmax", "ymax"), corners):
            ElementTree.SubElement(box, tag).text = str(corner)
        part = ElementTree.SubElement(thing, "part")  # VOC marks heads and hands; these are no objects
        ElementTree.SubElement(part, "name").text = "head"
    return ElementTree.tostring(root)


def boxes_of(number: int, classes: tuple[str, str] = ("cat", "dog")) -> list[Box]:
    """The objects of image `number` of a small set: 0 to 2 of them, inside the smallest of `SIZES`."""
    boxes = [(classes[0], 1 + number % 5, 2, 9 + number % 7, 20), (classes[1], 5, 6, 20, 24)]
    return boxes[: number % 3]


def detection_tree(lists: dict[str, range], classes: tuple[str, str] = ("cat", "dog")) -> dict[str, bytes]:
    """The files of a devkit's year by their path below its folder, with lists of these numbers."""
    files = {
        f"ImageSets/Main/{name}.txt": "".join(f"{n:06d}\n" for n in numbers).encode() for name, numbers in lists.items()
    }
    for number in {n for numbers in lists.values() for n in numbers}:
        size = SIZES[number % 3]
        files[f"JPEGImages/{number:06d}.jpg"] = encoded(photo(number, *size), "JPEG")
        files[f"Annotations/{number:06d}.xml"] = box_xml(boxes_of(number, classes), difficult=(1,), size=size)
    return files


def corners_of(number: int) -> np.ndarray:
    """The boxes of `boxes_of` in our convention, float32 [N, 4]."""
    corners = np.array([box[1:] for box in boxes_of(number)], np.float32).reshape(-1, 4)
    corners[:, :2] -= 1
    return corners


def mask_png(numbers: np.ndarray) -> bytes:
    """A label map as a gray PNG."""
    return cv2.imencode(".png", numbers.astype(np.uint8))[1].tobytes()


def numbers(seed: int, choices: Sequence[int], shape: tuple[int, int] = (12, 16)) -> np.ndarray:
    """A map of labels, each one drawn from the choices."""
    return np.random.default_rng(seed).choice(np.asarray(choices), shape)


CAMVID_NUMBERS = numbers(3, range(12))


def camvid_tree(segnet: bool) -> dict[str, bytes]:
    """The files of CamVid, as SegNet's authors publish them or in folders of images and masks."""
    images, masks = ("{}", "{}annot") if segnet else ("{}/images", "{}/masks")
    files = {"train.txt": b"/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png\n"}
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            files[f"{images.format(split)}/0001TP_{number}.png"] = encoded(photo(number, 12, 16), "PNG")
            files[f"{masks.format(split)}/0001TP_{number}.png"] = mask_png(CAMVID_NUMBERS)
    return files


def class_tree(split: str, count: int, classes: Sequence[str] = ("bird", "cat", "ant")) -> dict[str, bytes]:
    """`count` images of every class, PNG and so exact; their colors follow from class and number."""
    return {
        f"{split}{name}/{number:02d}.png": encoded(photo(10 * label + number, 12, 10), "PNG")
        for label, name in enumerate(classes)
        for number in range(count)
    }


def draw_membranes(folder: pathlib.Path, count: int = 12, labels: str = "labels") -> pathlib.Path:
    """Gray pictures 0.png, 1.png, ... whose labels have a membrane in the column of their number."""
    for name in ("images", labels):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        label = np.full((8, 16), 255, np.uint8)
        label[:, number % 16] = 0
        cv2.imwrite(str(folder / "images" / f"{number}.png"), np.full((8, 16), 10 * number, np.uint8))
        cv2.imwrite(str(folder / labels / f"{number}.png"), label)
    return folder
