"""What XLA's compiler is told beside the lowerings: options that a platform is faster with."""

import functools

import jax

_CPU = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def compiler_options(platform: str) -> dict[str, str]:
    """Options for `jax.jit(..., compiler_options=...)` of a program that convolves.

    On CPU the XLA of jax 0.10 hands convolutions, matrix products and sums to YNNPACK. It is good at sums; its
    convolutions took 1.2 to 4 times as long as XLA's own (docs/results.md), so they stay with those here.

    Args:
      platform: "cpu", "cuda", "tpu" and so on, as `jax.Device.platform` has it.

    Returns:
      Names and values; empty for other platforms than CPU, and where the installed jaxlib does not know them.
    """
    return dict(_CPU) if platform == "cpu" and _known(tuple(_CPU.items())) else {}


@functools.cache
def _known(options: tuple[tuple[str, str], ...]) -> bool:
    """Whether this jaxlib compiles with these options for CPU; the names are XLA's and may go."""
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
