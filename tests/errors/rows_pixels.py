"""Images whose pixels are not what they seem, and folders of classes that hold more or less than images."""

import io
import pathlib

import numpy as np
from bad_inputs import BadInput
from PIL import Image
from tiff_files import tiff_bytes
from tiny_sets import encoded, labels, palette_png, photo, write_tree

_CLASSIFY = (
    "experiments.resnet_imagenet quick --data image_folder_classification --input.manual-dir DATA --workdir DATA/run"
)
_PREPARE = "cvjax.cli.prepare image_folder_segmentation --manual-dir DATA --data-dir DATA/prepared --no-progress"
_PROPOSE = "cvjax.cli.propose xml_folder_detection --manual-dir DATA --split train --workers 0 --no-progress"
_CRF = "cvjax.cli.crf DATA/{} DATA/probs.npy --out DATA/out"
_PNG = encoded(photo(0), "PNG")


def _classes(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Writes two classes of images for each split, and some further files."""
    tree = {f"{split}/{name}/a.png": _PNG for split in ("train", "val") for name in ("cat", "dog")}
    write_tree(folder, tree | files)


def _pair(image: bytes, mask: bytes, folder: pathlib.Path, suffix: str = "png") -> None:
    """Writes an image and its mask as the only pair of each split."""
    write_tree(folder, {"classes.txt": "\n".join(map(str, range(21))).encode()})
    for split in ("train", "val"):
        write_tree(folder / split, {f"images/a.{suffix}": image, "masks/a.png": mask})


def _photo(name: str, data: bytes, folder: pathlib.Path) -> None:
    """Writes one image and probabilities for it."""
    write_tree(folder, {name: data})
    np.save(folder / "probs.npy", np.full((30, 40, 2), 0.5, np.float32))


def _pages(folder: pathlib.Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo(0)).save(buffer, "TIFF", save_all=True, append_images=[Image.fromarray(photo(1))])
    _photo("stack.tif", buffer.getvalue(), folder)


def _huge(folder: pathlib.Path) -> None:
    data = bytearray(_PNG)
    data[16:24] = (60_000).to_bytes(4) * 2
    _photo("huge.png", bytes(data), folder)


def _boxed(folder: pathlib.Path) -> None:
    box = "<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    xml = f"<annotation><object><name>cat</name>{box}</object></annotation>".encode()
    write_tree(folder, {"train/a.tif": tiff_bytes(photo(0).astype(np.float32) * 8), "train/a.xml": xml})


def _transparent(folder: pathlib.Path) -> None:
    mask = np.dstack([labels(0)] * 3 + [np.where(labels(0) == 0, 0, 255).astype(np.uint8)])
    _pair(_PNG, encoded(mask, "PNG"), folder)


ROWS = [
    BadInput(
        "a class of train without images",
        _CLASSIFY,
        lambda folder: _classes({"train/bee/notes.txt": b"none yet"}, folder),
        ("DATA/train", "bee"),
    ),
    BadInput(
        "photographs of a phone, as HEIC, among those of a class",
        _CLASSIFY,
        lambda folder: _classes({"train/cat/IMG_1.HEIC": b"\0\0\0\x18ftypheic"}, folder),
        ("DATA/train", "1 .heic", "cat/IMG_1.HEIC", "JPEG"),
    ),
    BadInput(
        "images beside the folders of the classes",
        _CLASSIFY,
        lambda folder: _classes({"train/b.jpg": _PNG, "train/c.jpg": _PNG}, folder),
        ("DATA/train", "2 files", "b.jpg, c.jpg"),
    ),
    BadInput(
        "drawings in SVG alone in the folders of the classes",
        _CLASSIFY,
        lambda folder: write_tree(folder, {"train/cat/a.svg": b"<svg/>", "val/cat/a.svg": b"<svg/>"}) and None,
        ("DATA/train", "1 .svg", "PNG"),
    ),
    BadInput(
        "no image in the folders of the classes",
        _CLASSIFY,
        lambda folder: write_tree(folder, {"train/cat/a.txt": b"", "train/dog/b.txt": b""}) and None,
        ("DATA/train", "2 .txt", "jpg"),
    ),
    BadInput(
        "a HEIC photograph called .jpg, to refine",
        _CRF.format("phone.jpg"),
        lambda folder: _photo("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", folder),
        ("DATA/phone.jpg", "HEIC", "JPEG"),
    ),
    BadInput(
        "an SVG drawing, to refine",
        _CRF.format("drawing.svg"),
        lambda folder: _photo("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", folder),
        ("DATA/drawing.svg", "SVG", "PNG"),
    ),
    BadInput(
        "a web page in an image's place, to refine",
        _CRF.format("a.jpg"),
        lambda folder: _photo("a.jpg", b"<!DOCTYPE html><html>404</html>", folder),
        ("DATA/a.jpg", "web page"),
    ),
    BadInput(
        "a TIFF of two pages, to refine",
        _CRF.format("stack.tif"),
        _pages,
        ("DATA/stack.tif", "2 pages"),
    ),
    BadInput(
        "an image whose header claims 3600 million pixels, to refine",
        _CRF.format("huge.png"),
        _huge,
        ("DATA/huge.png", "pixels", "tiles"),
    ),
    BadInput(
        "a JPEG cut short, to refine",
        _CRF.format("half.jpg"),
        lambda folder: _photo("half.jpg", encoded(photo(0), "JPEG")[:400], folder),
        ("DATA/half.jpg", "cut short"),
    ),
    BadInput(
        "the 12 bits of a camera in 16-bit TIFF, to prepare",
        _PREPARE,
        lambda folder: _pair(tiff_bytes(photo(0).astype(np.uint16) * 16), palette_png(labels(0)), folder, "tif"),
        ("a", "16-bit", "65535", "8 bits"),
    ),
    BadInput(
        "an image of floating-point samples far above 255, to propose boxes in",
        _PROPOSE,
        _boxed,
        ("a", "floating-point", "8 bits"),
    ),
    BadInput(
        "masks painted in colors, to prepare",
        _PREPARE,
        lambda folder: _pair(_PNG, encoded(photo(1), "PNG"), folder),
        ("a.png", "color", "palette PNG"),
    ),
    BadInput(
        "masks that are transparent in places, to prepare",
        _PREPARE,
        _transparent,
        ("a.png", "transparent", "255"),
    ),
    BadInput(
        "a mask that fits its image neither upright nor as stored, to prepare",
        _PREPARE,
        lambda folder: _pair(_turned(), palette_png(labels(0, 30, 41)), folder, "jpg"),
        ("a.png", "30x41", "40x30"),
    ),
]


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photo(0), "JPEG", exif=exif)
