"""Chooses options for XLA's compiler that make a platform faster, beside the lowerings."""

import functools

import jax

# Each product by itself: joined with the operations around it, it was slower in most nets (docs/lab.md).
_CPU = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
}
_CPU_ONCE = {"xla_backend_optimization_level": "0"}


def compiler_options(platform: str, *, once: bool = False) -> dict[str, str]:
    """Returns options for `jax.jit(..., compiler_options=...)` of a program that convolves.

    On CPU the XLA of jax 0.10 hands convolutions, matrix products and sums to YNNPACK. It is good at sums and products:
    a dense layer's gradient for a batch of 8 takes a tenth of XLA's time. Its convolutions took 1.2 to 4 times as long
    as XLA's own (docs/results.md), so convolutions stay with XLA here.

    Args:
      platform: Platform as `jax.Device.platform` names it: "cpu", "cuda", "tpu" and so on.
      once: Whether the program runs only once, as the drawing of initial parameters does. Then optimizing it does not
        pay: a DeepLab's took 3.6 times as long to compile when optimized, and well below a second to run either way.

    Returns:
      Names and values; empty for other platforms than CPU, and where the installed jaxlib does not know them.
    """
    options = _CPU_ONCE if once else _CPU
    return dict(options) if platform == "cpu" and _known(tuple(options.items())) else {}


@functools.cache
def _known(options: tuple[tuple[str, str], ...]) -> bool:
    """Tells whether this jaxlib compiles with these options for CPU; the names are XLA's and may go."""
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
