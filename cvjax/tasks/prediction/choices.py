"""Names what the flags of a prediction choose among; a command line that has them needs no JAX."""

from typing import Literal

OnBad = Literal["error", "skip"]
"""Whether a file that cannot be read ends a prediction or is passed over."""
BoxFormat = Literal["json", "coco", "yolo"]
"""Formats of detections that are written."""
KeptProbabilities = Literal["uint8", "float16"]
"""How probabilities are kept: as whole numbers of 1/255, or as float16."""
