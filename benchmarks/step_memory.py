"""How much memory one execution needs on a CPU, of a process that runs it, on Linux.

This module needs the standard library alone, as it is for all contestants.
"""

import ctypes
import gc
import pathlib
import time
from collections.abc import Callable
from typing import Any

_PROCESS = pathlib.Path("/proc/self")
_PAUSE = 0.3  # Seconds in which a framework's threads free what they hold, on a busy machine too.


def peak_above(run: Callable[[], Any]) -> int | None:
    """Bytes by which a process grows at most while `run` runs, or None where the system does not say.

    What was freed before is given back to the system first, so that it does not hide what is needed.
    """
    gc.collect()  # cycles may hold what ran before, whose memory the run would then use
    try:
        before = _settled()
        (_PROCESS / "clear_refs").write_text("5")  # the peak is now what there is
    except (OSError, AttributeError):
        return None
    run()
    return max(0, _kilobytes("VmHWM") - before) * 1024


def _settled() -> int:
    """Kilobytes that a process holds when it frees no more."""
    # Threads of XLA's free a step's memory a moment after its results are there: it would count as held before.
    trim, last = ctypes.CDLL("libc.so.6").malloc_trim, None
    while True:
        time.sleep(_PAUSE)
        trim(0)
        held = _kilobytes("VmRSS")
        if last is not None and held >= last - 1024:
            return held
        last = held


def _kilobytes(name: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
