"""Finds by their names the data sets that TFDS has prepared on disk."""

import pathlib

from cvjax.errors import DataError


def newest_version(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the newest version folder that TFDS has prepared in a data set's folder; None where there is none."""
    return max((path.parent for path in folder.glob("*/dataset_info.json")), key=_version, default=None)


def find_config(data_dir: pathlib.Path, name: str, config: str | None) -> str:
    """Returns the prepared configuration of a user's own set: the one asked for, or the only one there is.

    Raises:
      DataError: The configuration is not there, or several are and none was asked for.
    """
    found = sorted(path.parts[-3] for path in (data_dir / name).glob("*/*/dataset_info.json"))
    if config is None and len(found) == 1:
        config = found[0]
    if config not in found:
        prepared = ", ".join(found) or "nothing"
        raise DataError(
            f"{name}: {config or 'no single data set'} is prepared in {data_dir} (there is {prepared}); "
            "name your folder as manual_dir, or a prepared one as config."
        )
    return config


def _version(place: pathlib.Path) -> tuple[int, ...]:
    return tuple(int(part) for part in place.name.split(".") if part.isdigit())
