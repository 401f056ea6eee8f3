"""Folders of images and masks: lists, names of classes, values of masks."""

import io
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from bad_inputs import BadInput
from PIL import Image

_TRAIN = "experiments.deeplab_voc quick --data image_folder_segmentation --input.manual-dir DATA --workdir DATA/run"
_PREPARE = "cvjax.cli.prepare image_folder_segmentation --manual-dir DATA --no-progress"
_SIZE = (24, 32)


def _picture(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def _halves(low: int, high: int, kind: type = np.uint8) -> np.ndarray:
    mask = np.full(_SIZE, low, kind)
    mask[:, 16:] = high
    return mask


_IMAGE = _picture(np.full((*_SIZE, 3), 90, np.uint8))
_MASK = _picture(_halves(0, 1))


def _folder(changes: Mapping[str, bytes | None], names: str = "background\nroad\n") -> Callable[[pathlib.Path], None]:
    """Returns the function that writes a right folder of two classes with some files changed, or absent (None)."""
    tree: dict[str, bytes | None] = {"classes.txt": names.encode()}
    for split in ("train", "val"):
        for number in range(2):
            tree |= {f"{split}/images/{number}.png": _IMAGE, f"{split}/masks/{number}.png": _MASK}
    tree |= changes
    return lambda folder: _write(folder, tree)


def _listed(listing: bytes, names: bytes = b"background\nroad\n") -> Callable[[pathlib.Path], None]:
    tree: dict[str, bytes | None] = {"classes.txt": names, "train.txt": listing, "val.txt": b"0\n"}
    for number in range(2):
        tree |= {f"images/{number}.png": _IMAGE, f"masks/{number}.png": _MASK}
    return lambda folder: _write(folder, tree)


def _write(folder: pathlib.Path, tree: Mapping[str, bytes | None]) -> None:
    for path, data in tree.items():
        if data is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)


def _masks(mask: bytes, suffix: str = "png") -> dict[str, bytes | None]:
    """Returns the changes that put a mask in the place of all."""
    stems = [f"{split}/masks/{number}" for split in ("train", "val") for number in range(2)]
    return dict.fromkeys((f"{stem}.png" for stem in stems), None) | {f"{stem}.{suffix}": mask for stem in stems}


def _pages() -> bytes:
    first = Image.fromarray(_halves(0, 1))
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=[first])
    return buffer.getvalue()


_BINARY = _picture(_halves(0, 255))

ROWS = [
    BadInput(
        "masks of 0 and 255 for two classes",
        _TRAIN,
        _folder(_masks(_BINARY)),
        ("DATA", "road", "2 masks", "50.0%", "255", "--input.mask-values 0 255"),
    ),
    BadInput(
        "masks of 0 and 128 for two classes",
        _TRAIN,
        _folder(_masks(_picture(_halves(0, 128)))),
        ("masks/0.png", "128", "--input.mask-values"),
    ),
    BadInput(
        "masks of 1 and 2 for two classes",
        _TRAIN,
        _folder(_masks(_picture(_halves(1, 2)))),
        ("masks/0.png", "label 2", "--input.mask-values"),
    ),
    BadInput(
        "masks of background alone",
        _TRAIN,
        _folder(_masks(_picture(_halves(0, 0)))),
        ("road", "2 masks", "--input.mask-values"),
    ),
    BadInput("one class alone", _TRAIN, _folder(_masks(_picture(_halves(0, 0))), "road\n"), ("road", "background")),
    BadInput(
        "a value of the masks that no class has",
        f"{_TRAIN} --input.mask-values 0 200",
        _folder(_masks(_BINARY) | {"train/masks/1.png": _picture(_halves(0, 7))}),
        ("masks/1.png", "7", "0, 200", "--input.void"),
    ),
    BadInput(
        "three mask values for two classes",
        f"{_TRAIN} --input.mask-values 0 128 255",
        _folder(_masks(_BINARY)),
        ("3 values", "2 classes", "--input.mask-values"),
    ),
    BadInput(
        "a mask value given for two classes",
        f"{_TRAIN} --input.mask-values 255 255",
        _folder(_masks(_BINARY)),
        ("255",),
    ),
    BadInput(
        "a mask value that is also void",
        f"{_TRAIN} --input.mask-values 0 255 --input.void 255",
        _folder(_masks(_BINARY)),
        ("255", "void"),
    ),
    BadInput("a negative mask value", f"{_TRAIN} --input.mask-values 0 -1", _folder({}), ("-1", "0 to 65535")),
    BadInput(
        "a wrong value in a mask of the split to score",
        _TRAIN,
        _folder({"val/masks/1.png": _picture(_halves(0, 9))}),
        ("val/masks/1.png", "label 9"),
    ),
    BadInput(
        "a 16-bit mask with instance numbers",
        _TRAIN,
        _folder(_masks(_picture(_halves(0, 1001, np.uint16)))),
        ("masks/0.png", "label 1001"),
    ),
    BadInput(
        "a mask of 32-bit fractions",
        _TRAIN,
        _folder(_masks(_picture(_halves(0, 1, np.float32), "TIFF"), "tif")),
        ("masks/0.tif", "fractions", "8-bit"),
    ),
    BadInput(
        "a mask of 32 bits with a number that is too large",
        _TRAIN,
        _folder(_masks(_picture(_halves(0, 70_000, np.int32), "TIFF"), "tif")),
        ("masks/0.tif", "70000", "65535"),
    ),
    BadInput(
        "masks in colors",
        _TRAIN,
        _folder(_masks(_picture(np.stack([_halves(0, 128), _halves(0, 64), _halves(0, 128)], -1)))),
        ("masks/0.png", "color", "palette PNG"),
    ),
    BadInput("masks as JPEG", _TRAIN, _folder(_masks(_picture(_halves(0, 255), "JPEG"), "jpg")), (".jpg", "2", "PNG")),
    BadInput(
        "masks as JPEG that are called PNG",
        _TRAIN,
        _folder(_masks(_picture(_halves(0, 255), "JPEG"))),
        ("masks/0.png", "JPEG", "compression"),
    ),
    BadInput(
        "masks as lossy WebP",
        _TRAIN,
        _folder(_masks(_picture(np.stack([_halves(0, 255)] * 3, -1), "WEBP"), "webp")),
        ("masks/0.webp", "lossy WebP"),
    ),
    BadInput("masks as numpy files", _TRAIN, _folder(_masks(b"\x93NUMPY", "npy")), (".npy", "PNG")),
    BadInput("a mask of two pages", _TRAIN, _folder(_masks(_pages(), "tif")), ("masks/0.tif", "2 pages")),
    BadInput("an empty mask file", _TRAIN, _folder({"train/masks/1.png": b""}), ("masks/1.png", "empty")),
    BadInput(
        "a mask of another size than its image",
        _TRAIN,
        _folder({"train/masks/1.png": _picture(np.zeros((10, 32), np.uint8))}),
        ("masks/1.png", "10x32", "24x32"),
    ),
    BadInput("an image without a mask", _TRAIN, _folder({"train/masks/1.png": None}), ("1 (1)", "add the masks")),
    BadInput("a mask without an image", _TRAIN, _folder({"train/images/1.png": None}), ("1 (1)", "add the images")),
    BadInput(
        "two masks of one image",
        _TRAIN,
        _folder({"train/masks/1_mask.png": _MASK}),
        ("1.png", "1_mask.png", "keep one"),
    ),
    BadInput(
        "two folders that may hold the masks",
        _TRAIN,
        _folder({"train/labels/0.png": _MASK}),
        ("labels, masks", "rename"),
    ),
    BadInput(
        "a split in two places",
        _TRAIN,
        _folder({"images/train/0.png": _IMAGE, "masks/train/0.png": _MASK}),
        ("images/train", "train/images", "rename"),
    ),
    BadInput("a split that is not there", f"{_TRAIN} --input.train-split trian", _folder({}), ("trian", "train, val")),
    BadInput("a name twice in classes.txt", _TRAIN, _folder({}, "background\nroad\nroad\n"), ("classes.txt", "road")),
    BadInput(
        "an empty line between the names of classes",
        _TRAIN,
        _folder({}, "background\n\nroad\n"),
        ("classes.txt", "line 2"),
    ),
    BadInput("no classes.txt", _TRAIN, _folder({"classes.txt": None}), ("classes.txt", "one name a line")),
    BadInput("no name in classes.txt", _TRAIN, _folder({}, "# none yet\n"), ("classes.txt", "one class name a line")),
    BadInput(
        "more classes than a mask can hold",
        _TRAIN,
        _folder({}, "".join(f"class {number}\n" for number in range(300))),
        ("classes.txt", "300", "255"),
    ),
    BadInput("classes.txt in a national encoding", _TRAIN, _folder({"classes.txt": b"r\xe9seau\nroad\n"}), ("UTF-8",)),
    BadInput("a name twice in a list", _TRAIN, _listed(b"0\n1\n0.png\n"), ("train.txt", "0", "one line")),
    BadInput("a name in a list that has no image", _TRAIN, _listed(b"0\n7\n"), ("train.txt", "1 (7)")),
    BadInput("an empty list", _TRAIN, _listed(b"\n# later\n"), ("train.txt", "no images")),
    BadInput(
        "a mask with a wrong value, to prepare",
        _PREPARE,
        _folder({"train/masks/1.png": _picture(_halves(0, 9))}),
        ("1.png", "label 9"),
    ),
    BadInput("a folder without images, to prepare", _PREPARE, lambda folder: None, ("DATA", "SPLIT/masks")),
    BadInput(
        "mask values for a set that has its own",
        "experiments.deeplab_voc quick --data camvid --input.mask-values 0 255 --workdir DATA/run",
        lambda folder: None,
        ("mask_values", "camvid"),
    ),
]
