"""Compiles programs with the options that make a platform faster, and decides which of them JAX stores."""

import functools
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar, cast

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

    vars(call).update(lower=program.lower, context=unstored)
    return call


class Programs:
    """Holds the programs of a function for arguments of several shapes, which can be compiled before they are called.

    Compiling lets other Python threads run, so a thread that compiles what is needed next costs little on two cores.

    Args:
      function: What `compiled` returned.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._made: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        """Calls the program for arguments of these shapes; one that was not compiled ahead is compiled now."""
        return self._made.get(_shapes(args), self._function)(*args)

    def ahead(self, *args: Any, runs: float = math.inf) -> None:
        """Compiles the program for arguments of these shapes, where there is none. Any thread may call this.

        Args:
          *args: Arguments that nothing is computed of.
          runs: Number of calls to come, see `expected_runs`.
        """
        shapes, program = _shapes(args), cast(Any, self._function)
        if shapes not in self._made:
            with expected_runs(runs), vars(program).get("context", nullcontext)():
                self._made[shapes] = program.lower(*args).compile()


def _shapes(args: Any) -> Any:
    leaves, structure = jax.tree.flatten(args)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


_EXPECTED = threading.local()


@contextmanager
def expected_runs(count: float) -> Iterator[None]:
    """States how often the programs that this thread compiles inside will run.

    What takes long to compile and little time to run does not pay in a program of a few runs, so operations may choose
    other forms there (`cvjax.ops.cpu.conv`). By default there is no end of runs, as in training.
    """
    before = runs()
    _EXPECTED.count = count
    try:
        yield
    finally:
        _EXPECTED.count = before


def runs() -> float:
    """Returns how often the program that this thread lowers is expected to run."""
    return getattr(_EXPECTED, "count", math.inf)


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
