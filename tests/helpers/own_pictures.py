"""Writes one set of photographs with masks or labels in the formats that people hold."""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from tiny_sets import encoded, write_tree

COLORS = ((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0), (192, 128, 128))
COLORS = (*COLORS, (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192))
VOID = (0, 0, 0)

Example = tuple[str, bytes, np.ndarray]
"""Stem, encoded image and mask of labels, 255 where it is void."""


def colored(mask: np.ndarray) -> np.ndarray:
    """A mask of labels as a picture of colors."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(COLORS)] = COLORS
    table[255] = VOID
    return table[mask]


def indexed(mask: np.ndarray) -> bytes:
    """A mask as a PNG with a palette, in which 255 is VOC's color of borders."""
    picture = Image.fromarray(mask, "P")
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(COLORS)], palette[255] = COLORS, (224, 224, 192)
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_masks(kind: str, root: pathlib.Path, names: Sequence[str], sets: Mapping[str, Sequence[Example]]) -> None:
    """Writes splits of images and masks in one of the formats."""
    files: dict[str, bytes] = {}
    for split, examples in sets.items():
        if kind in ("voc", "cvat"):
            stems = "\n".join(stem for stem, *_ in examples)
            files[f"ImageSets/Segmentation/{split}.txt"] = stems.encode()
        for stem, image, mask in examples:
            color = encoded(colored(mask), "PNG")
            if kind in ("voc", "cvat"):
                files[f"JPEGImages/{stem}.jpg"] = image
                files[f"SegmentationClass/{stem}.png"] = indexed(mask)
            elif kind == "numbers":
                files[f"{split}/images/{stem}.jpg"] = image
                files[f"{split}/masks/{stem}.png"] = encoded(mask, "PNG")
            elif kind == "class_dict":
                files[f"{split}/{stem}.jpg"] = image
                files[f"{split}_labels/{stem}_L.png"] = color
            elif kind == "label_colors":
                files[f"{split}/images/{stem}.jpg"] = image
                files[f"{split}/labels/{stem}.png"] = color
    rows = [*zip(names, COLORS, strict=False), ("Void", VOID)]
    files |= {
        "voc": {"class_names.txt": "\n".join(names).encode()},
        "numbers": {"classes.txt": "\n".join(names).encode()},
        "cvat": {"labelmap.txt": _lines(f"{name}:{r},{g},{b}::" for name, (r, g, b) in rows[:-1])},
        "class_dict": {"class_dict.csv": _lines(["name,r,g,b", *(f"{name},{r},{g},{b}" for name, (r, g, b) in rows)])},
        "label_colors": {"label_colors.txt": _lines(f"{r} {g} {b}\t{name}" for name, (r, g, b) in rows)},
    }.get(kind, {})
    if kind == "parquet":
        number = {str(label): name for label, name in enumerate(names)}
        files["id2label.json"] = json.dumps(number).encode()
        for split, examples in sets.items():
            rows_of = [
                {"image": _stored(image), "annotation": _stored(encoded(mask, "PNG"))} for _, image, mask in examples
            ]
            features = {"image": {"_type": "Image"}, "annotation": {"_type": "Image"}}
            write_parquet(root / "data", split, rows_of, features)
    write_tree(root, files)


def write_labels(
    kind: str, root: pathlib.Path, names: Sequence[str], sets: Mapping[str, Sequence[tuple[str, bytes, int]]]
) -> None:
    """Writes splits of labeled images in one of the formats."""
    for split, examples in sets.items():
        if kind == "folders":
            write_tree(root, {f"{split}/{names[label]}/{stem}.png": data for stem, data, label in examples})
        elif kind == "parquet":
            rows = [{"image": _stored(data), "label": label} for _, data, label in examples]
            features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
            write_parquet(root / "data", split, rows, features)
        else:
            write_tree(root, {f"images/{stem}.png": data for stem, data, _ in examples})
    rows = [(stem, names[label], split) for split, examples in sets.items() for stem, _, label in examples]
    if kind == "csv":
        _write_csv(
            root / "labels.csv", [("Image", "Species", "Split"), *((f"images/{a}.png", b, c) for a, b, c in rows)]
        )
    if kind == "csv_of_split":  # without a header, relative to the folder of images, and with a semicolon
        for split in sets:
            _write_csv(root / f"{split}.csv", [(f"{a}.png", b) for a, b, c in rows if c == split], ";")
    if kind == "csv_of_numbers":  # ids without a suffix
        write_tree(root, {"classes.txt": "\n".join(names).encode()})
        table = [("id", "label", "split"), *((a, names.index(b), c) for a, b, c in rows)]
        _write_csv(root / "labels.csv", table)


def write_parquet(
    folder: pathlib.Path, split: str, rows: Sequence[Mapping[str, object]], features: Mapping[str, object]
) -> None:
    """Writes rows as two files with groups of two rows, and Hugging Face's metadata."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.Table.from_pylist(list(rows)).schema.with_metadata(metadata if features else None)
    for part in range(2):
        table = pyarrow.Table.from_pylist(
            list(rows[part * len(rows) // 2 : (part + 1) * len(rows) // 2]), schema=schema
        )
        name = f"{split}-{part:05d}-of-00002.parquet"
        pyarrow.parquet.write_table(table, folder / name, row_group_size=2)


def _stored(data: bytes) -> dict[str, object]:
    return {"bytes": data, "path": None}


def _lines(lines) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _write_csv(path: pathlib.Path, rows: Sequence[Sequence[object]], separator: str = ",") -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
