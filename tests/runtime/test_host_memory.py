"""Kept memory: a freed block's pages are there for the next, in a process of its own."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from cvjax.runtime.host_memory import keep_host_memory
print(keep_host_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
size = 1 << 26
def touch():
    block = libc.malloc(ctypes.c_size_t(size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    ctypes.memset(block, 1, size)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
touch()
print(max(touch() for _ in range(3)))
"""


def run(**environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=clean | environment, capture_output=True, text=True, check=True
    )
    took, faults = done.stdout.split()
    return took == "True", int(faults)


def test_second_use_of_a_block_faults_no_page():
    took, faults = run()
    if not took:
        pytest.skip("the C library here is not glibc")
    assert faults < 100


def test_the_environments_own_choice_stands():
    took, faults = run(MALLOC_ARENA_MAX="2")
    assert not took
    if sys.platform.startswith("linux"):
        assert faults > 1000  # 64 MiB are 16,384 pages of 4 KiB
