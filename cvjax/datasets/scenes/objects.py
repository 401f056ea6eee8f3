"""This module lists the classes of `scenes`: names, drawers, relative sizes, and weights in each kind of place."""

import dataclasses
from collections.abc import Callable

import numpy as np

from cvjax.datasets.scenes import artifacts, creatures, plants
from cvjax.datasets.scenes.sketch import Sketch

PLACES = ("country", "street", "shore", "room", "plain")


@dataclasses.dataclass(frozen=True)
class Kind:
    """Describes one class.

    Attributes:
      name: Name of the class.
      draw: Function that draws one object on an empty sketch.
      size: Factor on the drawn size; above 1 for objects that are large, or thin and would have few pixels.
      odds: Weight in each of `PLACES`; context helps and never decides.
    """

    name: str
    draw: Callable[[Sketch, np.random.Generator], None]
    size: float
    odds: tuple[float, float, float, float, float]


KINDS = (
    Kind("person", creatures.person, 1.05, (1.2, 1.6, 1.0, 1.2, 0.9)),
    Kind("dog", creatures.dog, 1.05, (1.1, 0.9, 0.5, 1.2, 1.0)),
    Kind("cat", creatures.cat, 1.1, (0.8, 0.8, 0.3, 1.7, 1.0)),
    Kind("bird", creatures.bird, 1.15, (1.3, 0.7, 2.0, 0.7, 1.2)),
    Kind("car", artifacts.car, 0.95, (0.8, 1.8, 0.3, 0.4, 0.7)),
    Kind("bus", artifacts.bus, 1.1, (1.0, 1.7, 0.3, 0.4, 0.6)),
    Kind("bicycle", artifacts.bicycle, 1.3, (1.2, 1.8, 0.6, 1.3, 1.4)),
    Kind("boat", artifacts.boat, 0.95, (0.3, 0.2, 4.5, 0.4, 0.8)),
    Kind("house", artifacts.house, 1.1, (1.4, 0.9, 1.1, 0.3, 0.7)),
    Kind("tree", plants.tree, 1.15, (1.8, 1.0, 0.8, 0.3, 0.8)),
    Kind("lamp", artifacts.lamp, 1.65, (1.0, 2.1, 1.0, 2.0, 1.4)),
    Kind("fence", artifacts.fence, 1.35, (1.9, 1.5, 0.9, 0.4, 0.8)),
    Kind("bottle", artifacts.bottle, 0.85, (0.6, 0.7, 0.6, 2.6, 1.5)),
    Kind("flower", plants.flower, 1.15, (1.6, 0.6, 0.4, 1.5, 1.3)),
)

CLASS_NAMES: tuple[str, ...] = ("background", *(kind.name for kind in KINDS))
"""Names by class number; 0 is the background. 255 in a mask is the border, of no class."""
