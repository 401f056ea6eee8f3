"""Reorders the rows of a net's head that stand for its classes, so that they follow the classes' names.

Which leaves have such rows is seen from their shapes: they grow with the number of classes. Their layouts are those of
the nets here:

- a row for each class, maybe after one for the background;
- four rows for each class, the changes of its box, maybe after four for the background;
- a row for each class in each cell of a grid, before all else that cells predict (YOLO).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from cvjax.weights.convert import Variables

Path = tuple[str, ...]
_BOX = 4


@dataclasses.dataclass(frozen=True)
class ClassAxis:
    """Says how an axis of a leaf depends on the number of classes: its length is `each * classes + others`."""

    axis: int
    each: int
    others: int

    def length(self, classes: int) -> int:
        """Returns the length of the axis for so many classes."""
        return self.each * classes + self.others

    def places(self, kept: Sequence[int], classes: int) -> np.ndarray:
        """Returns the places along the axis of a net of `classes` classes, in the order of a net of the kept ones.

        Args:
          kept: Labels of the classes to keep, in their new order.
          classes: Number of classes of the net that the axis belongs to.
        """
        rows = np.asarray(kept, np.int64)
        if self.each in (1, _BOX) and self.others in (0, self.each):
            blocks = self.others + self.each * rows[:, None] + np.arange(self.each)
            return np.concatenate([np.arange(self.others), blocks.ravel()])
        cells = classes * np.arange(self.each)[:, None] + rows
        return np.concatenate([cells.ravel(), self.each * classes + np.arange(self.others)])


def class_axes(shapes: Variables, with_one_more: Variables, classes: int) -> dict[Path, tuple[ClassAxis, ...]]:
    """Returns the axes that depend on the number of classes, by the path of their leaf.

    Args:
      shapes: Variables of a net, arrays or `jax.ShapeDtypeStruct`.
      with_one_more: Those of the same net with one class more.
      classes: Number of classes of the first.
    """
    larger: dict[Path, Any] = traverse_util.flatten_dict(with_one_more)
    smaller: dict[Path, Any] = traverse_util.flatten_dict(shapes)
    found = {}
    for path, leaf in smaller.items():
        pairs = enumerate(zip(leaf.shape, larger[path].shape))
        grown = [(axis, more - less, less) for axis, (less, more) in pairs if more > less]
        axes = [ClassAxis(axis, each, length - each * classes) for axis, each, length in grown]
        if axes:
            found[path] = tuple(axes)
    return found


def rows_by_name(
    source: Variables,
    axes: Mapping[Path, tuple[ClassAxis, ...]],
    before: Sequence[str],
    names: Sequence[str],
) -> tuple[Variables, str]:
    """Brings the rows of classes into the order of a net with other names.

    Where the net has a class that the source lacks, the leaves with rows of classes are left out, so that these layers
    start anew as a whole.

    Args:
      source: Variables of a net.
      axes: Axes that depend on the number of classes, as `class_axes` returns them.
      before: Names of the classes of the source, in the order of its labels.
      names: Names of the classes of the net that takes the variables.

    Returns:
      The variables, and a sentence that says what was done; an empty one if nothing was.
    """
    if tuple(before) == tuple(names):
        return source, ""
    given: dict[Path, Any] = traverse_util.flatten_dict(source)
    concerned = [path for path in axes if path in given]
    unknown = [name for name in names if name not in before]
    if not concerned:
        return source, ""
    if unknown or len(set(before)) < len(before):
        rest = {path: leaf for path, leaf in given.items() if path not in axes}
        return traverse_util.unflatten_dict(rest), f"its classes lack {_some(unknown or names)}: the head starts anew"
    kept = [list(before).index(name) for name in names]
    for path in concerned:
        leaf = given[path]
        if all(axis.axis < leaf.ndim and leaf.shape[axis.axis] == axis.length(len(before)) for axis in axes[path]):
            for axis in axes[path]:
                leaf = np.take(leaf, axis.places(kept, len(before)), axis=axis.axis)
            given[path] = leaf
    left = [name for name in before if name not in names]
    said = f"the head's rows are taken by the names of the classes, in the order {_some(names)}"
    return traverse_util.unflatten_dict(given), said + (f"; {_some(left)} are left out" if left else "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
