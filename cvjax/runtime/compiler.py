"""Compiles programs with the options that make a platform faster, and decides which of them JAX stores."""

import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import jax

T = TypeVar("T")

# Each product by itself: joined with the operations around it, it was slower in most nets. Sums are faster with YNNPACK
# on jax 0.10, 0.11 and 0.12 alike (docs/lab.md).
_CPU = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
}
_CPU_ONCE = {"xla_backend_optimization_level": "0"}


def compiler_options(platform: str, *, once: bool = False) -> dict[str, str]:
    """Returns options for `jax.jit(..., compiler_options=...)` of a program that convolves.

    On CPU the XLA of jax 0.10 and later hands convolutions, matrix products and sums to YNNPACK. It is good at sums and
    products: a dense layer's gradient for a batch of 8 takes a tenth of XLA's time. Its convolutions took 1.2 to 4
    times as long as XLA's own (docs/results.md), so convolutions stay with XLA here.

    Args:
      platform: Platform as `jax.Device.platform` names it: "cpu", "cuda", "tpu" and so on.
      once: Whether the program runs only once, as the drawing of initial parameters does. Then optimizing it does not
        pay: a DeepLab's took 3.6 times as long to compile when optimized, and well below a second to run either way.

    Returns:
      Names and values; empty for other platforms than CPU, and where the installed jaxlib does not know them.
    """
    options = _CPU_ONCE if once else _CPU
    return dict(options) if platform == "cpu" and _known(tuple(options.items())) else {}


def compiled(function: Callable[..., T], platform: str | None = None, **options: Any) -> Callable[..., T]:
    """Compiles a function that convolves as `jax.jit` does, with the options of `compiler_options`.

    On CPU the program may call oneDNN. XLA cannot write such a program down, so JAX's persistent cache passes over it.
    The environment variable CVJAX_ONEDNN=0 keeps programs from calling it; then they are stored.

    Args:
      function: Function to compile.
      platform: Platform that it runs on; by default that of the first device.
      **options: Other options of `jax.jit`.
    """
    platform = platform or jax.devices()[0].platform
    program = jax.jit(function, compiler_options=compiler_options(platform), **options)
    if platform != "cpu" or not may_call_libraries():
        return program

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> T:
        with unstored():
            return program(*args, **kwargs)

    vars(call)["lower"] = program.lower
    return call


def may_call_libraries() -> bool:
    """Tells whether programs for CPU may call libraries: not with CVJAX_ONEDNN=0 in the environment."""
    return os.environ.get("CVJAX_ONEDNN") != "0"


@contextmanager
def unstored() -> Iterator[None]:
    """Keeps the programs that are compiled inside from JAX's persistent cache, so that they may call libraries.

    Other programs are stored and read as ever. Where JAX lacks the setting, these are too; then they call no library.
    """
    # JAX has this setting for a whole process in public, and for a thread in private alone.
    from jax._src import config

    settings: Any = config
    shortest = getattr(settings, "persistent_cache_min_compile_time_secs", lambda seconds: nullcontext())
    with shortest(math.inf):
        yield


def is_stored() -> bool:
    """Tells whether JAX's persistent cache takes the programs that are compiled here, if they are large enough."""
    config: Any = jax.config  # which has its fields from the time when JAX is imported
    if not (config.jax_enable_compilation_cache and config.jax_compilation_cache_dir):
        return False
    return config.jax_persistent_cache_min_compile_time_secs < math.inf


@functools.cache
def _known(options: tuple[tuple[str, str], ...]) -> bool:
    """Tells whether this jaxlib compiles with these options for CPU; the names are XLA's and may go."""
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
