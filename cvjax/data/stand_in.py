"""Stands in for a data set whose files are not here, where only the shapes of its batches matter."""

from typing import Any

import cv2
import numpy as np

from cvjax.data.annotations import make_objects
from cvjax.data.dataset import Record, Target
from cvjax.data.decode import encode_mask

_SIDE = 256
_BOX = (32, 32, 224, 224)


class StandIn:
    """Gives one black image with one object, to any task.

    Args:
      name: Name of the data set that it stands for.
      split: Name of the split.
      target: What records carry, see `cvjax.data.dataset`.
      classes: Number of classes.
      proposals: Number of proposed boxes.
    """

    void: tuple[int, ...] = ()

    def __init__(self, name: str, split: str, target: Target, classes: int, proposals: int = 0) -> None:
        self.name, self.split = name, split
        self.class_names = tuple(f"class {number}" for number in range(classes))
        self._target: Target = target
        self._proposals = proposals

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Record:
        """Returns the one record, with what any target needs."""
        del index
        label = 1 if self._target == "objects" else 0  # whose class 0 is the background
        mask = np.zeros((_SIDE, _SIDE), np.uint8)
        mask[_BOX[1] : _BOX[3], _BOX[0] : _BOX[2]] = label
        objects = make_objects([_BOX], [label])._asdict()
        if self._proposals:
            objects["proposals"] = np.tile(np.asarray(_BOX, np.float32), (self._proposals, 1))
        image = cv2.imencode(".png", np.zeros((_SIDE, _SIDE, 3), np.uint8))[1].tobytes()
        record: Any = {"image": image, "mask": encode_mask(mask), "label": 0, "id": "0", **objects}
        return record

    def fingerprint(self) -> str:
        """Returns the digest of no files."""
        return "stand-in"
