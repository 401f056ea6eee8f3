"""Small photographs within the measurements of a study, as text."""

import base64

import cv2
import numpy as np


def picture_text(image: np.ndarray) -> str:
    """Returns the text of a picture, uint8 [H, W, 3], in few bytes: a JPEG file in base64."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return base64.b64encode(data.tobytes()).decode()


def picture_of(text: str) -> np.ndarray:
    """Returns the picture, uint8 [H, W, 3], that `picture_text` has written."""
    data = np.frombuffer(base64.b64decode(text), np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert found is not None
    return found[..., ::-1]
