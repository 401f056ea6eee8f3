"""Reads and writes Darknet's `.weights` files, here those of YOLO v1 and of its classifiers.

A file holds all floats of a net in a row. It begins with a header of three version numbers and the count of images
seen. Then come the layers one by one, without names or shapes. Each has its biases, with BatchNorm also scales, means
and variances, and then its kernel as [out, in, height, width] or, of a dense layer, [out, in].

A dense layer reads a map channel by channel there, and pixel by pixel here. BatchNorm adds epsilon behind the root
there, which makes a difference where a variance is tiny. Images of nets whose published configuration has a [crop]
layer are scaled to -1 to 1 there, of others to 0 to 1.
"""

import math
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cvjax.errors import CheckpointError
from cvjax.storage import as_path, file_and_key, written_file
from cvjax.weights.convert import COLLECTIONS, Variables

_ORDER = re.compile(r"(?:backbone/)?(?:(stage)|(necks_)|(fc)|(head|output))")
_TRANSPOSED = 1000  # versions above it hold [in, out]
_NORM = (("params", "bias"), ("params", "scale"), ("batch_stats", "mean"), ("batch_stats", "var"))
Path = tuple[str, ...]


class _Leaf(NamedTuple):
    """Describes one array of a file.

    It has a place in our variables and a shape. A dense layer on a map also has that map's shape.
    """

    path: Path
    shape: tuple[int, ...]
    window: tuple[int, int, int] | None = None


def read_darknet(
    path: str | os.PathLike[str], variables: Variables, *, grid: tuple[int, int] | None = None, partial: bool = False
) -> Variables:
    """Fills a net with the floats of a file.

    Args:
      path: Path of the file.
      variables: Result of `model.init` for `yolov1`, `yolov1_tiny` or one of their classifiers. The model has the same
        options as the file's net. BatchNorm is one of these: the first files have none.
      grid: Rows and columns of the map that the first dense layer reads; None takes it for square.
      partial: Whether the file may end before the net does, as the `.conv.weights` files do that training starts from.
        Later layers stay as they are.

    Returns:
      New variables, with the leaves' dtypes as they were.

    Raises:
      CheckpointError: There is no such file, the net is of another kind, or the file has more or fewer floats than the
        net.
    """
    floats, transposed = read_floats(path)
    leaves: dict[Path, Any] = traverse_util.flatten_dict(_held(variables))
    filled, position = {}, 0
    layers = list(_layers(leaves, grid))
    wanted = sum(math.prod(leaf.shape) for layer in layers for leaf in layer)
    for layer in layers:
        # The file ends here, or within this layer, which then does not fit.
        if position + sum(math.prod(leaf.shape) for leaf in layer) > len(floats):
            break
        for leaf in layer:
            size = math.prod(leaf.shape)
            array = _from_file(floats[position : position + size], leaf, transposed)
            filled[leaf.path] = jnp.asarray(array, leaves[leaf.path].dtype)
            position += size
    if position != len(floats) or (position < wanted and not partial):
        raise CheckpointError(
            f"{path} has {len(floats)} floats and this net {wanted}; give the net the options of the file's"
            f"{'' if partial or len(floats) > wanted else ', or partial=True if it holds the first layers alone'}"
        )
    return {**variables, **traverse_util.unflatten_dict(leaves | filled)}


def read_floats(path: str | os.PathLike[str]) -> tuple[np.ndarray, bool]:
    """Returns the floats of a file, which stay there until they are used, and whether dense layers are transposed.

    Raises:
      CheckpointError: There is no such file, or it is none of darknet's.
    """
    path, _ = file_and_key(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    if path.stat().st_size < 16 or path.stat().st_size % 4:
        raise CheckpointError(f"{path}: not a darknet file, whose header and floats have 4 bytes each")
    major, minor = np.fromfile(path, "<i4", 2).tolist()
    transposed = major > _TRANSPOSED or minor > _TRANSPOSED
    # From version 0.2 on the count of images seen has 8 bytes.
    wide_count = 10 * major + minor >= 2 and major < _TRANSPOSED and minor < _TRANSPOSED
    return np.memmap(path, "<f4", "r")[5 if wide_count else 4 :], transposed


def write_darknet(
    path: str | os.PathLike[str], variables: Variables, *, grid: tuple[int, int] | None = None, seen: int = 0
) -> None:
    """Writes the file that `read_darknet` reads, as version 0.1.0; an existing file is replaced.

    Args:
      path: Path of the file.
      variables, grid: Arguments as for `read_darknet`.
      seen: Number of images that the net was trained on.

    Raises:
      CheckpointError: The net is of another kind.
    """
    leaves = traverse_util.flatten_dict(_held(variables))
    layers = list(_layers(leaves, grid))
    with written_file(as_path(path)) as whole, open(whole, "wb") as file:
        file.write(np.array([0, 1, 0, seen], "<i4").tobytes())
        for layer in layers:
            for leaf in layer:
                file.write(_to_file(np.asarray(leaves[leaf.path]), leaf).astype("<f4").tobytes())


def _held(variables: Variables) -> dict[str, Any]:
    return {key: variables[key] for key in COLLECTIONS if key in variables}


def _layers(leaves: dict[Path, Any], grid: tuple[int, int] | None) -> Iterator[list[_Leaf]]:
    """Yields the arrays of each layer in the file's order, layer by layer."""
    kernels = [path for path in leaves if path[-1] == "kernel"]
    names = {path: "/".join(path[1:]) for path in kernels}
    strange = sorted(name for name in names.values() if not _ORDER.match(name))
    if strange or not kernels:
        raise CheckpointError(
            f"only YOLO v1 and its classifiers have darknet files; here is {strange[:3] or 'nothing'}"
        )
    channels = 0
    for path in sorted(kernels, key=lambda path: _rank(names[path])):
        shape = leaves[path].shape
        if len(shape) == 4:
            channels, window = shape[-1], None
        else:  # the first one behind convolutions reads a map
            window = (*_sides(shape[0] // channels, grid), channels) if channels else None
            channels = 0
        before = [(path[0], *path[1:-1], "bias")]
        if before[0] not in leaves:
            before = [(collection, *path[1:-2], "bn", leaf) for collection, leaf in _NORM]
        yield [*(_Leaf(p, leaves[p].shape) for p in before), _Leaf(path, shape, window)]


def _rank(name: str) -> tuple[int, ...]:
    """Returns a sort key for a layer's place in the net."""
    match = _ORDER.match(name)
    kind = None if match is None else match.lastindex
    assert kind is not None, name  # `_layers` has checked the names
    return kind, *map(int, re.findall(r"\d+", name))


def _sides(cells: int, grid: tuple[int, int] | None) -> tuple[int, int]:
    rows, columns = (math.isqrt(cells),) * 2 if grid is None or cells == 1 else grid
    if rows * columns != cells:
        raise CheckpointError(f"the first dense layer reads {cells} pixels, not {rows}x{columns}; pass the net's grid")
    return rows, columns


def _to_file(array: np.ndarray, leaf: _Leaf) -> np.ndarray:
    """Converts an array of ours to the file's layout."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if leaf.window:
        array = array.reshape(*leaf.window, -1).transpose(2, 0, 1, 3).reshape(array.shape)
    return array.T


def _from_file(floats: np.ndarray, leaf: _Leaf, transposed: bool) -> np.ndarray:
    """Converts floats of the file to our layout, which undoes `_to_file`."""
    if len(leaf.shape) == 4:
        height, width, channels, features = leaf.shape
        return floats.reshape(features, channels, height, width).transpose(2, 3, 1, 0)
    if len(leaf.shape) == 1:
        return floats
    array = floats.reshape(leaf.shape) if transposed else floats.reshape(leaf.shape[::-1]).T
    if leaf.window:
        height, width, channels = leaf.window
        array = array.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(leaf.shape)
    return array
