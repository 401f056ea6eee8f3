"""The children of `benchmarks/accelerator.py`: each serves one contestant, whatever the row is.

The torch sides import neither JAX nor cvjax, and the others no torch.
"""

import dataclasses
import time
from typing import Any

from layer_sides import hello
from paired import Message, Unavailable, Work, serve

from on_device.rows import FLAGS, TORCH_SIDES


def serve_side(side: str) -> None:
    """Serves one contestant over the pipes of this process."""
    if side not in TORCH_SIDES:
        import jax

        # A program that is read from the cache has no time to compile.
        jax.config.update("jax_enable_compilation_cache", False)
    serve(hello("torch" if side in TORCH_SIDES else side), lambda work: prepare(work, work.get("side", side)))


def prepare(work: Message, side: str) -> Work:
    """What a side runs for a row; its facts are the seconds that preparing took, and the most memory since its start.

    Raises:
      Unavailable: the side has nothing for such a row.
    """
    start = time.perf_counter()
    prepared = _prepare_torch(work, side) if side in TORCH_SIDES else _prepare_jax(work, side)
    seconds, inner = time.perf_counter() - start, prepared.facts
    memory = torch_memory if side in TORCH_SIDES else jax_memory
    return dataclasses.replace(prepared, facts=lambda: {"prepare_s": seconds, **inner(), **memory()})


def _prepare_jax(work: Message, side: str) -> Work:
    if work["kind"] == "training":
        from on_device import training

        return training.prepare(work, {FLAGS[side]: True} if side in FLAGS else {})
    if work["kind"] == "lowering":
        from on_device import lowerings

        return lowerings.prepare_jax(work, side)
    import crf
    import nms

    return {"crf": crf, "nms": nms}[work["kind"]].prepare_cvjax(work["case"])


def _prepare_torch(work: Message, side: str) -> Work:
    if work["kind"] == "training":
        from on_device import torch_training

        return torch_training.prepare(work, side == "torch-compile")
    if work["kind"] == "lowering":
        from on_device import lowerings

        return lowerings.prepare_torch(work)
    if work["kind"] == "nms":
        import nms

        return nms.prepare_torchvision(work["case"])
    raise Unavailable(f"PyTorch has no {work['kind']}")


def jax_memory() -> dict[str, Any]:
    """Bytes of the device at the highest, or why they are not known."""
    import jax

    device = jax.devices()[0]
    said = device.memory_stats()
    if not said or "peak_bytes_in_use" not in said:
        return {"peak_bytes": None, "no_peak": f"JAX counts no memory on {device.platform}"}
    return {"peak_bytes": said["peak_bytes_in_use"]}


def torch_memory() -> dict[str, Any]:
    """Bytes of the device at the highest, or why they are not known."""
    import torch

    if not torch.cuda.is_available():
        return {"peak_bytes": None, "no_peak": "PyTorch counts no memory on CPU"}
    return {"peak_bytes": torch.cuda.max_memory_allocated()}
