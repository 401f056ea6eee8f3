"""The data sets by name: a new one adds its opener here."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from cvjax.data.source import Source, TfdsSource, default_data_dir
from cvjax.errors import ConfigError


def open_source(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Source:
    """Opens a split of a data set by name.

    Args:
        name: one of `list_sources()`.
        split: "train", "val", ...; what there is depends on the data set.
        data_dir: where prepared sets are kept; by default `default_data_dir()`.
        manual_dir: a folder of the user's own: archives, an unpacked VOCdevkit, an image folder.
        **options: of the data set: `void` and `config` of image_folder_segmentation; `workers` of scenes.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: the data set, or the split, is not there.
    """
    opener = _OPENERS.get(name)
    if opener is None:
        raise ConfigError(f"There is no data set {name!r}; choose one of {', '.join(list_sources())}.")
    root = pathlib.Path(data_dir).expanduser() if data_dir else default_data_dir()
    manual = pathlib.Path(manual_dir).expanduser() if manual_dir else None
    return opener(split, root, manual, **options)


def list_sources() -> list[str]:
    """The names that `open_source` knows."""
    return sorted(_OPENERS)


def _open_scenes(
    split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None, **options: Any
) -> Source:
    from cvjax.data.scenes.prepare import prepare_scenes

    builder = prepare_scenes(data_dir, **options)
    names = builder.info.features["label"].names
    return TfdsSource(builder.data_dir, split, name="scenes", class_names=names)


def _open_voc(split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None, **options: Any) -> Source:
    from cvjax.data.voc import open_voc

    return open_voc(split, data_dir, manual_dir, **options)


def _open_folder(
    split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None, **options: Any
) -> Source:
    from cvjax.data.image_folder import open_image_folder

    return open_image_folder(split, data_dir, manual_dir, **options)


# Openers import their data set's module when called, so that naming a data set costs nothing.
_OPENERS: Mapping[str, Callable[..., Source]] = {
    "scenes": _open_scenes,
    "voc_segmentation": _open_voc,
    "image_folder_segmentation": _open_folder,
}
