"""Permutes the entries of published arrays into our order, and back bit for bit."""

import dataclasses
import fnmatch
import math

import numpy as np

_YXHW = np.asarray([1, 0, 3, 2])


@dataclasses.dataclass(frozen=True)
class BoxOrder:
    """Reorders rows that predict changes of boxes as (y, x, height, width), where ours are (x, y, width, height).

    Attributes:
      layers: Patterns of the names of layers with such rows, four a box.
    """

    layers: tuple[str, ...]

    def to_ours(self, key: str, array: np.ndarray) -> np.ndarray:
        """Returns the rows of an array in our order."""
        layer = key.rpartition(".")[0]
        if not any(fnmatch.fnmatchcase(layer, pattern) for pattern in self.layers) or array.shape[0] % 4:
            return array
        return array.reshape(-1, 4, *array.shape[1:])[:, _YXHW].reshape(array.shape)

    def to_theirs(self, key: str, array: np.ndarray) -> np.ndarray:
        """Returns the rows of an array in the publisher's order: the exchange undoes itself."""
        return self.to_ours(key, array)


@dataclasses.dataclass(frozen=True)
class PyramidOrder:
    """Reorders the inputs of a dense layer that reads a spatial pyramid.

    Each grid is flattened channel, row, column there and row, column, channel here.

    Attributes:
      key: Key of the layer's weight, [out, in].
      theirs, ours: Bins along each side of the grids, in the publisher's order and in ours.
    """

    key: str
    theirs: tuple[int, ...]
    ours: tuple[int, ...]

    def to_ours(self, key: str, array: np.ndarray) -> np.ndarray:
        """Returns the columns of the layer's weight in our order; any other array as it is."""
        places = self._places(key, array)
        return array if places is None else array[:, places]

    def to_theirs(self, key: str, array: np.ndarray) -> np.ndarray:
        """Returns the columns of the layer's weight in the publisher's order; any other array as it is."""
        places = self._places(key, array)
        return array if places is None else array[:, np.argsort(places)]

    def _places(self, key: str, array: np.ndarray) -> np.ndarray | None:
        """Returns where in the publisher's order each of our inputs stands."""
        bins = sum(level * level for level in self.theirs)
        if key != self.key or array.ndim != 2 or array.shape[1] % bins:
            return None
        channels, start, grids = array.shape[1] // bins, 0, {}
        for level in self.theirs:
            shape = (channels, level, level)
            grids[level] = start + np.arange(math.prod(shape)).reshape(shape).transpose(1, 2, 0).ravel()
            start += math.prod(shape)
        return np.concatenate([grids[level] for level in self.ours])
