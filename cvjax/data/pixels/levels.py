"""Brings samples of other kinds than 8 bits to 8 bits, or refuses them where their scale cannot be known."""

import numpy as np

from cvjax.errors import DataError

LEAST_16 = 1 << 14
"""A 16-bit image that nowhere reaches this level is refused. Cameras of 10, 12 and 14 bits fill 16 with zeros above."""
_LEAST_FLOAT = 64.0  # So too floats between 0 and 255.


def to_8_bits(samples: np.ndarray, name: str, white: int | None = None) -> np.ndarray:
    """Returns samples as uint8 of the same shape.

    - 16 bits keep their high byte.
    - Integers of 32 bits are taken as they are if none is above 255.
    - Floats from 0 to 1 are multiplied by 255, those from 0 to 255 are rounded.
    - With `white`, the samples from 0 to this level are spread over 0 to 255.

    Args:
      samples: Samples of any shape and type.
      name: Name of the file, for messages.
      white: Level of white, where the file states it.

    Raises:
      DataError: The scale of the samples cannot be known, or they are negative or no numbers.
    """
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(255)
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise DataError(f"{name}: some samples are infinite or not a number; replace these and save it again.")
    low, high = samples.min(), samples.max()
    if low < 0:
        raise DataError(f"{name}: some samples are negative, the least is {low:g}; {_fix('lowest', 'highest')}.")
    if white is not None and high <= white:
        return np.rint(samples * (255 / white)).astype(np.uint8)
    if samples.dtype.kind == "f":
        if high <= 1:
            return np.rint(samples * samples.dtype.type(255)).astype(np.uint8)
        if _LEAST_FLOAT <= high <= 255:
            return np.rint(samples).astype(np.uint8)
        raise DataError(
            f"{name}: its floating-point samples reach {high:g}, so they lie neither between 0 and 1 nor on the scale"
            f" of 0 to 255; {_fix()}."
        )
    if samples.dtype.itemsize == 2:
        if high and high < LEAST_16:
            raise dark(name, int(high))
        return (samples >> 8).astype(np.uint8)
    if high <= 255:
        return samples.astype(np.uint8)
    raise DataError(
        f"{name}: its integers of {8 * samples.dtype.itemsize} bits reach {high}, and nothing says which number is"
        f" white; {_fix()}."
    )


def dark(name: str, high: int) -> DataError:
    """Returns the error for a 16-bit image whose highest level is far below white, as of a 12-bit camera."""
    return DataError(
        f"{name}: its 16-bit samples reach only {high} of 65535, as those of 10 to 14-bit cameras do, and would come"
        f" out dark; {_fix()}."
    )


def _fix(black: str = "0", white: str = "white") -> str:
    if black == "0":
        return "save it with 8 bits, as round(pixels * 255 / WHITE) with the level of white for WHITE"
    return f"save it with 8 bits, the {black} level as 0 and the {white} as 255"
