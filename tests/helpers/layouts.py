"""What a compiled program sends between devices, and nets so small that a layout's whole step is a test."""

import math
import re
from typing import Any

_KINDS = "all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter"
_CALL = re.compile(rf"= (.*?) ({_KINDS})(?:-start)?\(")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")


def collectives(compiled: Any) -> dict[str, list[int]]:
    """The numbers that each collective of a program sends or sums, by its kind; one of several arrays counts once."""
    found: dict[str, list[int]] = {}
    for line in compiled.as_text().splitlines():
        call = _CALL.search(line)
        if call:
            sizes = [math.prod(int(n) for n in dims.split(",") if n) for dims in _SHAPE.findall(call[1])]
            found.setdefault(call[2], []).append(sum(sizes))
    return found
