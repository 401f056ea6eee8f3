"""Own data of masks and labels: tables of colors, tables of labels, parquet, splits."""

import io
import pathlib
from collections.abc import Callable

import numpy as np
from bad_inputs import BadInput
from PIL import Image

_MASKS = "experiments.deeplab_voc quick --data own --input.manual-dir DATA --workdir DATA/run"
_LABELS = "experiments.resnet_imagenet quick --data own --input.manual-dir DATA --workdir DATA/run"
_SIZE = (24, 32)
_TABLE = b"name,r,g,b\nground,0,0,0\nroad,128,64,128\n"


def _picture(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


_IMAGE = _picture(np.full((*_SIZE, 3), 90, np.uint8))


def _mask(*spots: tuple[int, int, int], kind: str = "PNG") -> bytes:
    """A mask of two colors, with some pixels of others."""
    mask = np.zeros((*_SIZE, 3), np.uint8)
    mask[:, 16:] = (128, 64, 128)
    for number, color in enumerate(spots):
        mask[0, 5 * number : 5 * number + 5] = color
    return _picture(mask, kind)


def _tree(**files: bytes) -> Callable[[pathlib.Path], None]:
    """Returns the function that writes files, whose names have two underscores for a slash and one for a dot."""

    def write(folder: pathlib.Path) -> None:
        for name, data in files.items():
            path = folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    return write


def _colored(mask: bytes, table: bytes = _TABLE, suffix: str = "png") -> Callable[[pathlib.Path], None]:
    pairs = {f"{split}__images__0_png": _IMAGE for split in ("train", "val")}
    masks = {f"{split}__masks__0_{suffix}": mask for split in ("train", "val")}
    return _tree(**pairs, **masks, colors_csv=table)


def _labeled(text: str) -> Callable[[pathlib.Path], None]:
    return _tree(a_png=_IMAGE, b_png=_IMAGE, labels_csv=text.encode())


ROWS = [
    BadInput(
        "a color in a mask that no row of the table has",
        _MASKS,
        _colored(_mask((9, 250, 9))),
        ("0.png", "(9, 250, 9)", "5 pixels", "colors.csv", "add a row"),
    ),
    BadInput(
        "a color near that of a class, as JPEG and smooth resizing make it",
        _MASKS,
        _colored(_mask((120, 70, 130))),
        ("0.png", "(120, 70, 130)", "road", "(128, 64, 128)", "PNG"),
    ),
    BadInput("a JPEG of colors that is called PNG", _MASKS, _colored(_mask(kind="JPEG")), ("0.png", "JPEG")),
    BadInput(
        "masks of numbers beside a table of colors",
        _MASKS,
        _colored(_picture(np.ones(_SIZE, np.uint8)), _TABLE.replace(b"0,0,0", b"70,70,70")),
        ("0.png", "(1, 1, 1)", "classes.txt"),
    ),
    BadInput(
        "two classes of one color",
        _MASKS,
        _colored(_mask(), b"name,r,g,b\nground,0,0,0\nroad,0,0,0\n"),
        ("colors.csv", "(0, 0, 0)", "ground", "road"),
    ),
    BadInput(
        "a row of a table of colors that is none",
        _MASKS,
        _colored(_mask(), b"name,r,g,b\nground,0,0\n"),
        ("colors.csv", "row 2", "name,r,g,b"),
    ),
    BadInput(
        "masks of one's own without names of classes",
        _MASKS,
        _tree(train__images__0_png=_IMAGE, train__masks__0_png=_mask()),
        ("DATA", "classes.txt", "class_dict.csv"),
    ),
    BadInput(
        "a row with two labels", _LABELS, _labeled("a.png,cat;dog\nb.png,cat\n"), ("labels.csv", "row 1", "several")
    ),
    BadInput(
        "a column for each class", _LABELS, _labeled("file,cat,dog\na.png,1,0\nb.png,1,1\n"), ("labels.csv", "several")
    ),
    BadInput(
        "a file with two rows", _LABELS, _labeled("a.png,cat\na.png,dog\n"), ("labels.csv", "a.png", "two labels")
    ),
    BadInput(
        "a table of a split without a row",
        _LABELS,
        _tree(a_png=_IMAGE, train_csv=b"file,label\na.png,cat\n", val_csv=b"file,label\n"),
        ("'val' has no images", "another split"),
    ),
    BadInput(
        "a row whose file is not there",
        _LABELS,
        _labeled("a.png,cat\nc.png,dog\n"),
        ("labels.csv", "1 (c.png)", "DATA"),
    ),
    BadInput(
        "a set without splits, and nothing held out",
        _LABELS,
        _labeled("a.png,cat\nb.png,dog\n"),
        ("DATA", "val", "--input.hold-out"),
    ),
    BadInput(
        "more held out than all",
        f"{_LABELS} --input.hold-out 1.5",
        _labeled("a.png,cat\nb.png,dog\n"),
        ("--input.hold-out", "1.5"),
    ),
    BadInput(
        "two images that are one, to hold out",
        f"{_LABELS} --input.hold-out 0.5",
        _labeled("a.png,cat\nb.png,dog\n"),
        ("DATA", "1 different images"),
    ),
    BadInput(
        "a file of splits that is none",
        f"{_LABELS} --input.split-file DATA/labels.csv",
        _labeled("a.png,cat\nb.png,dog\n"),
        ("labels.csv", "JSON"),
    ),
    BadInput(
        "a file of parquet that is cut short",
        _LABELS,
        _tree(**{"train-00000-of-00001_parquet": b"PAR1"}),
        ("train-00000-of-00001.parquet", "fetch"),
    ),
    BadInput(
        "a shard of parquet that is missing",
        _LABELS,
        _tree(**{"train-00001-of-00002_parquet": b"PAR1"}),
        ("train-00000-of-00002.parquet", "missing"),
    ),
]
