"""Makes arrays and state dicts of what a pickle only describes: numpy's arrays and PyTorch's whole modules."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cvjax.weights.readers.pytorch.pickle_records import Opaque
from cvjax.weights.readers.pytorch.stored_array import StoredArray

_NUMPY = ("numpy.core.multiarray.", "numpy._core.multiarray.", "numpy.")
_CODES = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split()
_MOST_VISITS = 100_000
_LONGEST_NAME = 1000
_MOST_AXES = 32


def revive(value: Any) -> Any:
    """Returns the array or the dict that a record of a pickle describes; anything else as it is."""
    if not isinstance(value, Opaque):
        return value
    if any(value.name == f"{module}_reconstruct" for module in _NUMPY):
        return _array(value)
    if isinstance(value.state, dict) and isinstance(value.state.get("_parameters"), dict):
        return dict(_module_entries(value))
    return value.entries or value


def _array(value: Opaque) -> Any:
    match value.state:
        case (_, tuple(shape), Opaque() as kind, bool(fortran), bytes() | str() as data):
            pass
        case _:
            return value
    code = kind.arguments[0] if kind.arguments else None
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "|"
    if code not in _CODES or order not in ("<", ">", "|", "=") or len(shape) > _MOST_AXES:
        return value
    dtype = np.dtype(code).newbyteorder(order)
    if not all(isinstance(size, int) and 0 <= size < 1 << 63 for size in shape):
        return value
    if math.prod(shape) * dtype.itemsize != len(data):
        return value

    def read() -> np.ndarray:
        raw = data.encode("latin-1") if isinstance(data, str) else data  # as Python 2 wrote bytes
        array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
        return array.astype(np.float32 if code == "f2" else dtype.newbyteorder("="))

    return StoredArray(shape, read)


def _module_entries(module: Opaque) -> Iterator[tuple[str, Any]]:
    """Yields what `state_dict()` of a pickled module would hold."""
    waiting: list[tuple[str, Any]] = [("", module)]
    visits = 0
    for prefix, node in waiting:
        state = node.state if isinstance(node, Opaque) else None
        if not isinstance(state, dict):
            continue
        fleeting = state.get("_non_persistent_buffers_set")
        for group in ("_parameters", "_buffers", "_modules"):
            entries = state.get(group)
            for name, value in entries.items() if isinstance(entries, dict) else ():
                # A module may be part of several others, and in a strange file of itself.
                visits += 1
                if visits > _MOST_VISITS or not isinstance(name, str) or len(prefix) + len(name) > _LONGEST_NAME:
                    return
                if group == "_modules":
                    waiting.append((f"{prefix}{name}.", value))
                elif isinstance(value, StoredArray) and not (isinstance(fleeting, list) and name in fleeting):
                    yield f"{prefix}{name}", value
