"""Reads photographs that people have as files."""

import os
from typing import BinaryIO, cast

import numpy as np

from cvjax.data.decode import decode_image, image_size
from cvjax.data.pixels.header import Header, read_header
from cvjax.errors import DataError
from cvjax.storage import as_path


def read_photo(path: str | os.PathLike[str]) -> np.ndarray:
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
    header = _header(path)
    return header.upright_size if header.height and header.width else image_size(_read(path), str(path))


def photo_orientation(path: str | os.PathLike[str]) -> int:
    """Returns how a viewer turns the stored pixels of a file, see `cvjax.data.pixels.turning`.

    Raises:
      DataError: The file does not exist or cannot be read.
    """
    return _header(path).orientation


def _header(path: str | os.PathLike[str]) -> Header:
    try:
        with as_path(path).open("rb") as file:
            return read_header(cast(BinaryIO, file))
    except OSError as error:
        raise _lost(path, error) from error


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return as_path(path).read_bytes()
    except OSError as error:
        raise _lost(path, error) from error


def _lost(path: str | os.PathLike[str], error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"there is no image {os.fspath(path)}; check the path")
    return DataError(f"cannot read the image {os.fspath(path)}: {error.strerror}; check its permissions")
