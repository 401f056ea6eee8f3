"""One layer in one direction, as cvjax lowers it here, as XLA does, in cvjax's forms for CPU, and in PyTorch.

Forms for CPU are candidates: where one of them is the faster one on a GPU, cvjax should have it there too.
"""

from collections.abc import Callable
from typing import Any

import layer_sides
import numpy as np
from layer_sides import Layer
from paired import Message, Unavailable, Work

_COMPARED = 100_000  # Numbers of a result that are compared: all of them would take longer to write than to compute.


def prepare_jax(work: Message, side: str) -> Work:
    """The work of "cvjax", "flax" or "cvjax-cpu-forms"."""
    import flax.linen
    import jax
    import jax.numpy as jnp

    import cvjax.nn
    from cvjax.runtime.compiler import compiler_options

    layer, dtype, direction = Layer.from_json(work["layer"]), jnp.dtype(work["dtype"]), work["direction"]
    x, kernel = layer_sides.arrays(layer, work["batch"])
    x, kernel = jnp.asarray(x, dtype), None if kernel is None else jnp.asarray(kernel, dtype)
    stock = layer_sides.jax_function(layer, flax.linen, dtype)
    output = jax.eval_shape(stock, x, kernel)
    ct = None if direction == "forward" else jnp.asarray(layer_sides.cotangent(output.shape), dtype)
    if side == "cvjax-cpu-forms":
        function = _cpu_form(layer, direction)
    else:
        function = stock if side == "flax" else layer_sides.jax_function(layer, cvjax.nn, dtype)
        function = _directed(function, direction)
    # Options for CPU would change nothing elsewhere.
    run = jax.jit(function, compiler_options=compiler_options(jax.default_backend()))
    values = {direction: _compared(np.asarray(run(x, kernel, ct), np.float32))}
    return Work(lambda: run(x, kernel, ct), jax.block_until_ready, values, jax.default_backend() == "cpu")


def _directed(function: Callable[..., Any], direction: str) -> Callable[..., Any]:
    """(input, kernel, cotangent) -> the output, or one gradient alone."""
    import jax

    if direction == "forward":
        return lambda x, kernel, ct: function(x, kernel)
    if direction == "input gradient":
        return lambda x, kernel, ct: jax.vjp(lambda x: function(x, kernel), x)[1](ct)[0]
    return lambda x, kernel, ct: jax.vjp(lambda kernel: function(x, kernel), kernel)[1](ct)[0]


def _cpu_form(layer: Layer, direction: str) -> Callable[..., Any]:
    from cvjax.ops.cpu import conv, pool
    from cvjax.ops.geometry import Geometry

    spread = layer.kind == "conv_transpose"
    geometry = Geometry(
        layer.shape[:2],
        layer.window,
        (1, 1) if spread else layer.strides,
        layer.padding,
        layer.strides if spread else (1, 1),
        layer.dilation,
        layer.groups,
    )
    convolutions = {
        "forward": lambda x, kernel, ct: conv.convolve(x, kernel, geometry),
        "input gradient": lambda x, kernel, ct: conv.input_gradient(ct, kernel, geometry),
        "kernel gradient": lambda x, kernel, ct: conv.kernel_gradient(x, ct, geometry),
    }
    pools = {
        "forward": lambda x, kernel, ct: pool.maximum(x, geometry),
        "input gradient": lambda x, kernel, ct: pool.scatter(x, ct, geometry),
    }
    return (convolutions if layer.kernel_shape else pools)[direction]


def prepare_torch(work: Message) -> Work:
    """PyTorch, eager, channels_last; the forward pass of a gradient is not timed."""
    import torch

    layer, direction = Layer.from_json(work["layer"]), work["direction"]
    on_gpu = torch.cuda.is_available()
    device, dtype = "cuda" if on_gpu else "cpu", getattr(torch, work["dtype"])
    torch.backends.cudnn.benchmark = True
    function = layer_sides.torch_function(layer)

    def tensor(array: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype, memory_format=torch.channels_last)

    images, kernel = layer_sides.arrays(layer, work["batch"])
    x = tensor(images.transpose(0, 3, 1, 2))
    weight = None if kernel is None else tensor(layer_sides.torch_weight(layer, kernel))

    def wait(result: Any) -> None:
        if on_gpu:
            torch.cuda.synchronize()

    if direction == "forward":

        def run() -> Any:
            with torch.inference_mode():
                return function(x, weight)
    else:
        leaf = x if direction == "input gradient" else weight
        if leaf is None:
            raise Unavailable("a layer without a kernel has no gradient for it")
        leaf.requires_grad_()
        y = function(x, weight)
        given = layer_sides.cotangent(tuple(y.permute(0, 2, 3, 1).shape)).transpose(0, 3, 1, 2)
        given = tensor(given)

        def run() -> Any:
            return torch.autograd.grad(y, leaf, given, retain_graph=True)[0]

    result = run().detach().float().cpu().numpy()
    turned = layer_sides.flax_kernel(layer, result) if direction == "kernel gradient" else result.transpose(0, 2, 3, 1)
    return Work(run, wait, {direction: _compared(turned)}, not on_gpu)


def _compared(result: np.ndarray) -> np.ndarray:
    """The result, or always the same ones of its numbers, where it has many."""
    if result.size <= _COMPARED:
        return result
    places = np.random.default_rng(0).integers(result.size, size=_COMPARED)
    return np.ascontiguousarray(result).reshape(-1)[places]
