"""Opens data sets by name; the catalog of their openers is here, and a new data set adds its own."""

import functools
import importlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cvjax.data.dataset import Dataset, Target, TfdsDataset
from cvjax.datasets.published import PUBLISHED, open_published
from cvjax.datasets.tfds_sets import SETS, find_prepared, open_tfds_set
from cvjax.errors import ConfigError, DataError
from cvjax.storage import as_path, checked_url, data_folder


def open_dataset(
    name: str,
    split: str,
    *,
    target: Target = "mask",
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Dataset:
    """Opens a split of a data set by name.

    Args:
      name: Name of the data set, one of `list_datasets(target)`, or the path of a file or folder of one's own.
      split: Name of the split, such as "train" or "val"; the data set decides which there are.
      target: Whether its records are to carry masks, labels, objects (masks in boxes) or boxes.
      data_dir: Folder of prepared sets, by default `default_data_dir()`; of one at a URL the set is copied to the
        user's cache first.
      manual_dir: Folder of the user's own: archives, an unpacked VOCdevkit, an image folder.
      **options: Options of the data set: `void`, `values` and `config` of image_folder_segmentation; `workers` of
        scenes; `format` of own; `on_bad_boxes` of sets of boxes, see `cvjax.data.annotations.check_objects`.

    Raises:
      ConfigError: There is no data set of that name with such a target.
      DataError: The data set, or the split, is not there.
    """
    name, manual_dir = own_place(name, manual_dir)
    opener = _OPENERS[target].get(name)
    if opener is None:
        others: list[Target] = [other for other, openers in _OPENERS.items() if name in openers]
        nothing = f"There is no data set {name!r}" + (", nor such a file or folder" if os.path.dirname(name) else "")
        what = f"{name} has {_PLURAL[others[0]]}, no {_PLURAL[target]}" if others else nothing
        raise ConfigError(f"{what}; choose one of {', '.join(list_datasets(target))}.")
    return opener(split, data_folder(data_dir, *folders_of(name)), _own_folder(manual_dir), **options)


def own_place(name: str, manual_dir: str | os.PathLike[str] | None = None) -> tuple[str, str | os.PathLike[str] | None]:
    """Returns the name of a data set and the user's folder, where the path of one's own data may stand for both.

    A name of the catalog is taken as that, even where there is a file of this name.

    Args:
      name: Name of the data set, or an existing path.
      manual_dir: Folder of the user's own.

    Raises:
      ConfigError: The name is a path, and a folder is given besides.
    """
    if name in list_datasets() or not name or not os.path.exists(os.path.expanduser(name)):
        return name, manual_dir
    if manual_dir is not None:
        raise ConfigError(f"{name} is a path and names the data already; leave out --input.manual-dir {manual_dir}.")
    return OWN, os.path.abspath(os.path.expanduser(name))


def said_name(name: str, manual_dir: str | os.PathLike[str] | None) -> str:
    """Returns how a line calls a data set: a person's own by its path, others by their names."""
    return os.fspath(manual_dir) if name == OWN and manual_dir is not None else name


def folders_of(name: str) -> tuple[str, ...]:
    """Returns the subfolders of `data_dir` in which a data set may be prepared."""
    return (name, "voc") if name == "voc_detection" else (name,)


def _own_folder(manual_dir: str | os.PathLike[str] | None) -> pathlib.Path | None:
    """Returns the folder of the user's own files.

    Raises:
      DataError: It is at a URL, where only prepared sets are read.
    """
    if checked_url(manual_dir) is not None:
        raise DataError(
            f"{manual_dir} is a URL, where prepared sets alone are read; mount it, or copy it here and prepare it once"
            " into a --data-dir at a URL"
        )
    return pathlib.Path(as_path(manual_dir)).expanduser() if manual_dir else None


def is_available(
    name: str,
    splits: Sequence[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> bool:
    """Returns whether a large data set is prepared or lies where it can be read, without making anything.

    Args:
      name: Name of the data set.
      splits: Splits that must be there.
      data_dir: Folder of prepared sets; by default `default_data_dir()`.
      manual_dir: Folder of the user's own.
    """
    root, manual = data_folder(data_dir, *folders_of(name)), _own_folder(manual_dir)
    if name == "voc_segmentation":
        from cvjax.datasets.voc.segmentation import find_voc

        return find_voc(root, manual) is not None
    if name == "voc_detection":
        from cvjax.datasets.voc.detection import open_voc_detection

        try:
            for split in splits:
                open_voc_detection(split, root, manual)
        except DataError:
            return False
        return True
    return find_prepared(root, name) is not None


def list_datasets(target: Target | None = None) -> list[str]:
    """Lists the names in the catalog, the ones that `open_dataset` knows, of one target or of all."""
    return sorted({name for kind, openers in _OPENERS.items() if target in (kind, None) for name in openers})


def _open_scenes(
    split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None, *, target: Target = "mask", **options: Any
) -> Dataset:
    from cvjax.datasets.scenes.prepare import prepare_scenes

    on_bad_boxes = options.pop("on_bad_boxes", "error")

    builder = prepare_scenes(data_dir, **options)
    features: Any = builder.info.features
    names = features["label"].names
    # Label 0 is the background of masks; every image has something in it.
    first_label = 0 if target in ("mask", "objects") else 1
    return TfdsDataset(
        builder.data_dir,
        split,
        name="scenes",
        class_names=names,
        target=target,
        first_label=first_label,
        on_bad_boxes=on_bad_boxes,
    )


def _open_own(
    split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None, *, target: Target = "mask", **options: Any
) -> Dataset:
    from cvjax.datasets.own import open_own

    if manual_dir is None:
        raise DataError("own: no file or folder was given; name yours with --input.manual-dir, or as --data PATH.")
    return open_own(manual_dir, split, target, data_dir=data_dir, **options)


def _at(place: str) -> Callable[..., Dataset]:
    """Returns the opener at "module:function".

    Its module is imported when it is called, so that naming a data set costs nothing.
    """
    return functools.partial(_open_at, place)


def _open_at(
    place: str, split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None, **options: Any
) -> Dataset:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)(split, data_dir, manual_dir, **options)


OWN = "own"
"""The name of one's own data in any format that is recognized, see `cvjax.datasets.own`."""
_PLURAL: Mapping[Target, str] = {"mask": "masks", "label": "labels", "objects": "objects", "boxes": "boxes"}

_OPENERS: Mapping[Target, Mapping[str, Callable[..., Dataset]]] = {
    "mask": {
        "scenes": _open_scenes,
        "voc_segmentation": _at("cvjax.datasets.voc.segmentation:open_voc"),
        "image_folder_segmentation": _at("cvjax.datasets.image_folder:open_image_folder"),
        "isbi_membrane": _at("cvjax.datasets.isbi:open_isbi"),
        OWN: functools.partial(_open_own, target="mask"),
        **{name: functools.partial(open_published, name) for name in PUBLISHED},
    },
    "label": {
        "scenes": functools.partial(_open_scenes, target="label"),
        "image_folder_classification": _at("cvjax.datasets.labeled_folder:open_labeled_folder"),
        OWN: functools.partial(_open_own, target="label"),
        **{name: functools.partial(open_tfds_set, name) for name in SETS},
    },
    "objects": {
        "scenes": functools.partial(_open_scenes, target="objects"),
        "voc_segmentation": _at("cvjax.datasets.voc.objects:open_voc_objects"),
        OWN: functools.partial(_open_own, target="objects"),
    },
    "boxes": {
        "scenes": functools.partial(_open_scenes, target="boxes"),
        "voc_detection": _at("cvjax.datasets.voc.detection:open_voc_detection"),
        "coco": _at("cvjax.datasets.coco.dataset:open_coco"),
        "xml_folder_detection": _at("cvjax.datasets.xml_folder:open_xml_folder"),
        OWN: functools.partial(_open_own, target="boxes"),
    },
}
