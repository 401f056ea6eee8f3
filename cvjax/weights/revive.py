"""Makes arrays and state dicts of what a pickle only describes: numpy's arrays and PyTorch's whole modules."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cvjax.weights.pickle_records import Opaque
from cvjax.weights.stored_array import StoredArray

_NUMPY = ("numpy.core.multiarray.", "numpy._core.multiarray.", "numpy.")
_CODES = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split()
_MOST_MODULES = 10_000
_LONGEST_PREFIX = 1000


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
    if code not in _CODES or order not in ("<", ">", "|", "=") or not all(isinstance(size, int) for size in shape):
        return value
    raw = data.encode("latin-1") if isinstance(data, str) else data
    dtype = np.dtype(code).newbyteorder(order)
    if min(shape, default=0) < 0 or len(shape) > 32 or math.prod(shape) * dtype.itemsize != len(raw):
        return value

    def read() -> np.ndarray:
        array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
        return array.astype(np.float32 if code == "f2" else dtype.newbyteorder("="))

    return StoredArray(shape, read)


def _module_entries(module: Opaque) -> Iterator[tuple[str, Any]]:
    """Yields what `state_dict()` of a pickled module would hold."""
    waiting: list[tuple[str, Any]] = [("", module)]
    for prefix, node in waiting:
        state = node.state if isinstance(node, Opaque) else None
        if not isinstance(state, dict):
            continue
        fleeting = state.get("_non_persistent_buffers_set")
        for group in ("_parameters", "_buffers"):
            for name, value in _entries(state.get(group)):
                if isinstance(value, StoredArray) and not (isinstance(fleeting, list) and name in fleeting):
                    yield f"{prefix}{name}", value
        # A module may be part of several others, and in a strange file of itself.
        waiting += [
            (f"{prefix}{name}.", child)
            for name, child in _entries(state.get("_modules"))
            if len(waiting) < _MOST_MODULES and len(prefix) < _LONGEST_PREFIX
        ]


def _entries(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return []
    return [(name, item) for name, item in value.items() if isinstance(name, str) and len(name) < _LONGEST_PREFIX]
