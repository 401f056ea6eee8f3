"""Finds the parquet files of each split, and says what their columns hold.

    data/train-00000-of-00002.parquet  data/train-00001-of-00002.parquet  data/test-00000-of-00001.parquet
    default/train/0000.parquet         default/test/0000.parquet
    train.parquet                      test.parquet

What columns hold stands in the files' metadata under "huggingface". Where it does not, the columns' names and types
tell. A README does not count.
"""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cvjax.datasets.listing import listed
from cvjax.errors import ConfigError, DataError

SUFFIX = ".parquet"
_SPLITS = ("train", "training", "val", "validation", "valid", "dev", "test", "testing")
_SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?")
_IMAGES = ("image", "img", "picture", "photo", "pixel_values")
_MASKS = ("annotation", "mask", "label", "segmentation_mask", "semantic_mask", "segmentation", "labels", "seg_map")
_LABELS = ("label", "labels", "class", "category", "target", "fine_label")
_BOXES = ("bbox", "bboxes", "boxes", "box")
_CATEGORIES = ("category", "categories", "label", "labels", "class", "class_label", "category_id")


class Columns(NamedTuple):
    """Says what the columns of a table hold.

    Attributes:
      image: Column of the images.
      target: Column of the masks, the labels, or the objects.
      names: Names of the classes by number, where the metadata has them.
      boxes, categories: Fields of the boxes and of their classes in the column of objects.
    """

    image: str
    target: str
    names: tuple[str, ...] | None = None
    boxes: str = ""
    categories: str = ""


def pyarrow_parquet() -> Any:
    """Returns the module `pyarrow.parquet`.

    Raises:
      ConfigError: The package is missing.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "parquet files are read with pyarrow; install it with pip install 'cvjax[parquet]'"
        ) from error
    return pyarrow.parquet


def recognize(place: pathlib.Path) -> bool:
    """Returns whether a path is a parquet file or a folder with some."""
    return place.suffix.lower() == SUFFIX if place.is_file() else next(_files(place), None) is not None


def splits(place: pathlib.Path) -> list[str]:
    """Returns the names of the splits that the files' names give; none where they give none.

    Raises:
      DataError: Files are missing, or belong to several data sets.
    """
    return [name for name in files_by_split(place) if name]


def files_by_split(place: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Finds the files of each split in their order; "" stands for files that belong to none.

    Raises:
      DataError: Files are missing, or belong to several data sets.
    """
    found: dict[str, list[pathlib.Path]] = {}
    folders: dict[pathlib.Path, None] = {}
    for path in _files(place):
        split, folder = _split_of(path, place)
        found.setdefault(split, []).append(path)
        folders[folder] = None
    if len(folders) > 1:
        names = [str(folder.relative_to(place)) for folder in folders]
        raise DataError(f"{place}: has data sets in {listed(names)}; name the folder of one.")
    if "" in found and len(found) > 1:
        raise DataError(f"{place}: {found[''][0].name} belongs to no split, and others do; rename or remove it.")
    for paths in found.values():
        _check_complete(paths)
    return found


def columns_of(schema: Any, target: str, path: pathlib.Path) -> Columns:
    """Returns what the columns of a file hold.

    Args:
      schema: Schema of the file.
      target: What examples are to carry: "label", "mask" or "boxes".
      path: Path of the file, for messages.

    Raises:
      DataError: It has no images, or not what the target needs.
    """
    features = _features(schema, path)
    images = [name for name in schema.names if _is_image(features.get(name), schema.field(name).type)]
    image = next((name for name in _IMAGES if name in images), images[0] if images else None)
    if image is None:
        raise DataError(f"{path}: has no column of images ({listed(schema.names)}); give a table with one.")
    if target == "mask":
        others = [name for name in images if name != image]
        mask = next((name for name in _MASKS if name in others), others[0] if len(others) == 1 else None)
        if mask is None:
            raise DataError(f"{path}: has no column of masks beside {image} ({listed(schema.names)}); call it mask.")
        return Columns(image, mask)
    if target == "label":
        return _label_column(schema, features, image, path)
    for name in schema.names:
        fields = _fields(schema.field(name).type)
        boxes = next((key for key in _BOXES if key in fields), None)
        categories = next((key for key in _CATEGORIES if key in fields), None)
        if boxes is not None and categories is not None:
            return Columns(image, name, _names_in(_inside(features.get(name)).get(categories)), boxes, categories)
    raise DataError(
        f"{path}: has no column of objects with bbox and category ({listed(schema.names)}); choose an experiment for"
        " what it has."
    )


def _label_column(schema: Any, features: Mapping[str, Any], image: str, path: pathlib.Path) -> Columns:
    import pyarrow.types as types

    named = [name for name in schema.names if _names_in(features.get(name)) is not None]
    plain = [
        name
        for name in schema.names
        if name in _LABELS and (types.is_integer(schema.field(name).type) or types.is_string(schema.field(name).type))
    ]
    label = next((name for name in _LABELS if name in named), named[0] if len(named) == 1 else None)
    label = label or next((name for name in _LABELS if name in plain and not named), None)
    if label is None:
        what = "several columns of labels" if named else "no column of labels among"
        raise DataError(f"{path}: has {what} ({listed(named or schema.names)}); call the one that is meant label.")
    return Columns(image, label, _names_in(features.get(label)))


def _files(place: pathlib.Path) -> Iterator[pathlib.Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        for path in sorted(place.rglob(f"*{SUFFIX}")):
            if not any(part.startswith(".") for part in path.relative_to(place).parts):
                yield path


def _split_of(path: pathlib.Path, place: pathlib.Path) -> tuple[str, pathlib.Path]:
    """Returns the split of a file, "" for none, and the folder of its data set."""
    shard = _SHARD.fullmatch(path.stem)
    if shard:
        return shard["split"], path.parent
    if path.stem.lower() in _SPLITS:
        return path.stem, path.parent
    if path.parent.name.lower() in _SPLITS and path.parent != place and place.is_dir():
        return path.parent.name, path.parent.parent
    return "", path.parent


def _check_complete(paths: Sequence[pathlib.Path]) -> None:
    shards = [found for path in paths if (found := _SHARD.fullmatch(path.stem))]
    for shard in shards[:1]:
        present = {int(each["number"]) for each in shards}
        absent = sorted(set(range(int(shard["count"]))) - present)
        if absent:
            name = f"{shard['split']}-{absent[0]:05d}-of-{shard['count']}{SUFFIX}"
            raise DataError(f"{paths[0].parent}: {name} is missing; fetch it, too.")


def _features(schema: Any, path: pathlib.Path) -> Mapping[str, Any]:
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return {}
    try:
        return json.loads(stored)["info"]["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: its metadata of Hugging Face cannot be read; write the file again.") from error


def _is_image(feature: Any, kind: Any) -> bool:
    if isinstance(feature, Mapping) and "_type" in feature:
        return feature["_type"] == "Image"
    return _fields(kind) == {"bytes", "path"} and str(kind).startswith("struct")


def _fields(kind: Any) -> set[str]:
    """Returns the names of the fields of a struct, or of a list of structs."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    return {kind.field(number).name for number in range(kind.num_fields)} if types.is_struct(kind) else set()


def _inside(feature: Any) -> Mapping[str, Any]:
    """Returns the features of the fields of an object, whichever way their list is written."""
    while isinstance(feature, list) or (isinstance(feature, Mapping) and "_type" in feature and "feature" in feature):
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    return feature if isinstance(feature, Mapping) else {}


def _names_in(feature: Any) -> tuple[str, ...] | None:
    """Returns the names of a ClassLabel, or of a list of them; None for anything else."""
    found = _inside(feature)
    if found.get("_type") != "ClassLabel" or "names" not in found:
        return None
    names = found["names"]  # older versions have an object of names by number
    return tuple(names[key] for key in sorted(names, key=int)) if isinstance(names, Mapping) else tuple(names)
