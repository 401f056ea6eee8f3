"""Reads photographs that people have as files."""

import pathlib

import numpy as np

from cvjax.data.decode import decode_image
from cvjax.errors import DataError


def read_photo(path: pathlib.Path) -> np.ndarray:
    """Reads a photograph in any common format as uint8 [H, W, 3].

    Raises:
      DataError: The file does not exist, cannot be read, or is damaged.
    """
    try:
        return decode_image(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise DataError(f"there is no image {path}; check the path") from error
    except OSError as error:
        raise DataError(f"cannot read the image {path}: {error.strerror}; check its permissions") from error
