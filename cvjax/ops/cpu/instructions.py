"""Tells what the processor can do, and what the environment lets oneDNN use of it."""

import os
import pathlib


def has_avx2() -> bool:
    """Tells whether oneDNN may use AVX2 here: below it, much of what it has waits for threads that it holds itself."""
    return not _limits() & {"SSE41", "AVX"} and "avx2" in _instructions()


def has_avx512() -> bool:
    """Tells whether oneDNN may use AVX-512 here: below it, so do some releases' products."""
    needed = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
    return not any(limit.startswith(("SSE", "AVX2")) or limit == "AVX" for limit in _limits()) and (
        needed <= _instructions()
    )


def has_bfloat16() -> bool:
    """Tells whether the processor multiplies bfloat16 itself, and oneDNN may have it do so; else it is slow."""
    narrower = {"AVX512_CORE", "AVX512_CORE_VNNI"}
    return has_avx512() and not _limits() & narrower and bool({"avx512_bf16", "amx_bf16"} & _instructions())


def _limits() -> set[str]:
    """Returns what the environment limits oneDNN to, if anything."""
    return {os.environ.get(f"{library}_MAX_CPU_ISA", "").upper() for library in ("ONEDNN", "DNNL")}


def _instructions() -> set[str]:
    """Returns the instruction sets of this machine, as Linux names them."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
