"""Tells how much memory the host has free, and its allocator to keep what a training step gives back."""

import contextlib
import ctypes
import os
import pathlib
import sys

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_OWN_CHOICES = ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


def free_host_memory() -> int:
    """Returns the bytes of this machine's memory that are free for this process, also where a container allows less."""
    rooms = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        rooms.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
        group = pathlib.Path("/sys/fs/cgroup")
        rooms.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(rooms))


def keep_host_memory() -> bool:
    """Makes this process keep freed memory and use it again, where the allocator is glibc's.

    On CPU every run of a compiled program allocates its temporaries and frees them. glibc maps such large blocks anew
    each time, and the kernel then clears every page at its first touch. With the `deeplab_voc quick` net these are
    34,000 page faults, and 80 of 250 ms, in each step (docs/results.md). One heap that only grows has none after the
    first step. Memory stays with the process until it ends, so this is for a program's entry point.

    Returns:
      Whether it took effect: False on another C library, and where the environment has chosen for itself (one of
      GLIBC_TUNABLES, MALLOC_*, LD_PRELOAD is set).
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _OWN_CHOICES):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # One arena, no blocks that are mapped by themselves, no trimming, and growth by 64 MiB at a time.
    wanted = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**26}
    taken = [library.mallopt(name, value) for name, value in wanted.items()]
    return min(taken) == 1
