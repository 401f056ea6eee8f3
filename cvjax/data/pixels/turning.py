"""Turns stored pixels as a viewer shows them, by the orientation that EXIF numbers 1 to 8."""

import cv2
import numpy as np


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns an image or a mask, [H, W] or [H, W, C], upright.

    Args:
      pixels: Pixels as stored.
      orientation: EXIF's number. Of 1 to 4 the upright picture has the stored sides, of 5 to 8 exchanged ones.
    """
    match orientation:
        case 2:
            return cv2.flip(pixels, 1)
        case 3:
            return cv2.rotate(pixels, cv2.ROTATE_180)
        case 4:
            return cv2.flip(pixels, 0)
        case 5:
            return cv2.transpose(pixels)
        case 6:
            return cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            return cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180)
        case 8:
            return cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return pixels
