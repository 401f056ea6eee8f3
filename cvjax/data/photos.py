"""Reads photographs that people have as files."""

import os
import pathlib

import numpy as np

from cvjax.data.decode import decode_image, image_size
from cvjax.data.pixels.header import read_header
from cvjax.errors import DataError


def read_photo(path: pathlib.Path) -> np.ndarray:
    """Reads a photograph in any common format as uint8 [H, W, 3], upright as a viewer shows it.

    Raises:
      DataError: The file does not exist, cannot be read, or is damaged.
    """
    return decode_image(_read(path), str(path))


def photo_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads (height, width) of the upright picture in a file, in most formats from the first bytes alone.

    Raises:
      DataError: The file does not exist, cannot be read, or its header is damaged.
    """
    try:
        with open(path, "rb") as file:
            header = read_header(file)
    except OSError as error:
        raise _lost(path, error) from error
    return header.upright_size if header.height and header.width else image_size(_read(path), str(path))


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise _lost(path, error) from error


def _lost(path: str | os.PathLike[str], error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"there is no image {os.fspath(path)}; check the path")
    return DataError(f"cannot read the image {os.fspath(path)}: {error.strerror}; check its permissions")
