"""How much memory one execution needs on a CPU, of a process that runs it, on Linux.

This module needs the standard library alone, as it is for all contestants.
"""

import ctypes
import gc
import pathlib
from collections.abc import Callable
from typing import Any

_PROCESS = pathlib.Path("/proc/self")


def peak_above(run: Callable[[], Any]) -> int | None:
    """Bytes by which a process grows at most while `run` runs, or None where the system does not say.

    What was freed before is given back to the system first, so that it does not hide what is needed.
    """
    gc.collect()  # cycles may hold what ran before, whose memory the run would then use
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        (_PROCESS / "clear_refs").write_text("5")  # the peak is now what there is
        before = _kilobytes("VmRSS")
    except (OSError, AttributeError):
        return None
    run()
    return max(0, _kilobytes("VmHWM") - before) * 1024


def _kilobytes(name: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
