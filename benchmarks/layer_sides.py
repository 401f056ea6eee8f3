"""The children of `benchmarks/layers.py`: one layer, forward or with its gradients, in JAX or in PyTorch.

    python benchmarks/layer_sides.py cvjax

serves one contestant over its pipes, as `benchmarks/paired.py` says. The torch side imports neither JAX nor cvjax.
"""

import argparse
import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from paired import Message, Unavailable, Work, processors, serve

Pair = tuple[int, int]
# Contestant: whose layers, and whether XLA gets `cvjax.runtime.compiler.compiler_options`.
JAX_SIDES = {
    "cvjax": ("cvjax", True),
    "cvjax-plain": ("cvjax", False),
    "flax": ("flax", False),
    "flax-options": ("flax", True),
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer without bias, in Flax's terms.

    Attributes:
      kind: "conv", "conv_transpose", "max_pool", "avg_pool" or "resize" (bilinear, half-pixel centers).
      shape: (H, W, C) of the input.
      features: output channels of a convolution.
      window: of the kernel or the pooling, in pixels; of a resize, the target's (height, width).
      strides: in pixels.
      padding: (before, after) for height and width; of a transposed convolution around the dilated input, as in Flax.
      dilation: of the kernel, in pixels.
      groups: of channels.
    """

    kind: str
    shape: tuple[int, int, int]
    features: int = 0
    window: Pair = (1, 1)
    strides: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def kernel_shape(self) -> tuple[int, int, int, int] | None:
        """HWIO; None for a layer without parameters."""
        if not self.kind.startswith("conv"):
            return None
        return (*self.window, self.shape[-1] // self.groups, self.features)

    @classmethod
    def from_json(cls, fields: Message) -> "Layer":
        """From what `dataclasses.asdict` gave, after JSON made lists of its tuples."""
        deep = {"padding": tuple(map(tuple, fields["padding"]))}
        shallow = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **shallow, **deep})


def arrays(layer: Layer, batch: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The input [B, H, W, C] and the kernel [kh, kw, I, O] that all contestants use; float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *layer.shape), np.float32)
    shape = layer.kernel_shape
    return x, None if shape is None else rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[:3]))


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """What the gradients start from, NHWC."""
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def jax_function(layer: Layer, namespace: ModuleType, dtype: Any) -> Callable[[Any, Any], Any]:
    """(input, kernel) -> output, with the layers of `namespace`: `flax.linen`, or `cvjax.nn` for ours."""
    import flax.linen
    import jax

    from cvjax.ops.resize import resize

    windows = {"strides": layer.strides, "padding": layer.padding}
    if layer.kind == "resize":
        if namespace is not flax.linen:
            return lambda x, kernel: resize(x, layer.window)
        target = (*layer.window, layer.shape[-1])
        return lambda x, kernel: jax.image.resize(x, (x.shape[0], *target), "bilinear", antialias=False)
    if layer.kind.endswith("pool"):
        pool = getattr(namespace, layer.kind)
        return lambda x, kernel: pool(x, layer.window, **windows)
    common = {"kernel_dilation": layer.dilation, "use_bias": False, "dtype": dtype, **windows}
    if layer.kind == "conv_transpose":
        module = namespace.ConvTranspose(layer.features, layer.window, **common)
    else:
        module = namespace.Conv(layer.features, layer.window, feature_group_count=layer.groups, **common)
    return lambda x, kernel: module.apply({"params": {"kernel": kernel}}, x)


def prepare_jax(case: Message, side: str) -> Work:
    """The work of one of `JAX_SIDES`."""
    import flax.linen
    import jax
    import jax.numpy as jnp

    import cvjax.nn
    from cvjax.runtime.compiler import compiler_options

    whose, with_options = JAX_SIDES[side]
    layer, dtype = Layer.from_json(case["layer"]), jnp.dtype(case["dtype"])
    function = jax_function(layer, cvjax.nn if whose == "cvjax" else flax.linen, dtype)
    x, kernel = arrays(layer, case["batch"])
    x, kernel = jnp.asarray(x, dtype), None if kernel is None else jnp.asarray(kernel)
    options = compiler_options(jax.default_backend()) if with_options else None
    if case["mode"] == "forward":
        arguments = (x, kernel)
        run = jax.jit(lambda x, kernel: (function(x, kernel),), compiler_options=options)
    else:

        def with_gradients(x: Any, kernel: Any, given: Any) -> tuple:
            y, pull = jax.vjp(function, x, kernel)
            return y, *jax.tree.leaves(pull(given))

        output = jax.eval_shape(function, x, kernel)
        arguments = (x, kernel, jnp.asarray(cotangent(output.shape), output.dtype))
        run = jax.jit(with_gradients, compiler_options=options)
    results = run(*arguments)
    names = ("output", "input gradient", "kernel gradient")
    values = {name: np.asarray(result, np.float32) for name, result in zip(names, results)}
    on_cpu = jax.default_backend() == "cpu"
    return Work(lambda: run(*arguments), jax.block_until_ready, values, wait_each=on_cpu)


def torch_function(layer: Layer) -> Callable[[Any, Any], Any]:
    """(input NCHW, weight as PyTorch has it) -> output NCHW."""
    import torch.nn.functional as F

    if layer.kind == "resize":
        return lambda x, weight: F.interpolate(x, layer.window, mode="bilinear", align_corners=False)
    if any(before != after for before, after in layer.padding):
        raise Unavailable(f"PyTorch pads both sides alike, not {layer.padding}")
    padding = tuple(before for before, _ in layer.padding)
    if layer.kind == "conv_transpose":
        padding = tuple(d * (k - 1) - p for d, k, p in zip(layer.dilation, layer.window, padding))
        return lambda x, weight: F.conv_transpose2d(x, weight, None, layer.strides, padding, dilation=layer.dilation)
    if layer.kind == "conv":
        return lambda x, weight: F.conv2d(x, weight, None, layer.strides, padding, layer.dilation, layer.groups)
    pool = {"max_pool": F.max_pool2d, "avg_pool": F.avg_pool2d}[layer.kind]
    return lambda x, weight: pool(x, layer.window, layer.strides, padding)


def torch_weight(layer: Layer, kernel: np.ndarray) -> np.ndarray:
    """HWIO -> OIHW, or for a transposed convolution, which PyTorch mirrors, IOHW."""
    if layer.kind == "conv_transpose":
        return kernel[::-1, ::-1].transpose(2, 3, 0, 1)
    return kernel.transpose(3, 2, 0, 1)


def flax_kernel(layer: Layer, weight: np.ndarray) -> np.ndarray:
    """The inverse of `torch_weight`."""
    if layer.kind == "conv_transpose":
        return weight.transpose(2, 3, 0, 1)[::-1, ::-1]
    return weight.transpose(2, 3, 1, 0)


def prepare_torch(case: Message) -> Work:
    """PyTorch, channels_last; on a GPU compiled, under autocast if the case asks for bfloat16."""
    import torch

    layer = Layer.from_json(case["layer"])
    on_gpu = torch.cuda.is_available()
    device, dtype = "cuda" if on_gpu else "cpu", getattr(torch, case["dtype"])
    function = torch_function(layer)
    if on_gpu:
        function = torch.compile(function)
    last = torch.channels_last

    def tensor(array: np.ndarray, like: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, like).to(memory_format=last)

    images, kernel = arrays(layer, case["batch"])
    x = tensor(images.transpose(0, 3, 1, 2), dtype)
    weight = None if kernel is None else tensor(torch_weight(layer, kernel), torch.float32)
    autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)
    if case["mode"] == "forward":

        def run() -> tuple:
            with torch.inference_mode(), autocast:
                return (function(x, weight),)
    else:
        leaves = [leaf.requires_grad_() for leaf in (x, weight) if leaf is not None]
        with torch.no_grad(), autocast:
            output = function(x, weight)
        given = cotangent(tuple(output.permute(0, 2, 3, 1).shape)).transpose(0, 3, 1, 2)
        given = tensor(given, output.dtype)

        def run() -> tuple:
            with autocast:
                y = function(x, weight)
            return y, *torch.autograd.grad(y, leaves, given)

    results = [result.detach().float().cpu().numpy() for result in run()]
    values = {"output": results[0].transpose(0, 2, 3, 1)}
    if len(results) > 1:
        values["input gradient"] = results[1].transpose(0, 2, 3, 1)
    if len(results) > 2:
        values["kernel gradient"] = flax_kernel(layer, results[2])
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    return Work(run, lambda result: wait(), values, wait_each=not on_gpu)


def hello(side: str) -> Message:
    """The versions and the device of this process; settles torch's threads."""
    if side == "torch":
        import torch

        torch.set_num_threads(processors())
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        return {"versions": {"torch": torch.__version__}, "device": device}
    import flax
    import jax

    device = jax.devices()[0]
    kind = "cpu" if device.platform == "cpu" else device.device_kind
    return {"versions": {"jax": jax.__version__, "flax": flax.__version__}, "device": kind}


def main() -> None:
    """Serve one contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=[*JAX_SIDES, "torch"])
    side = parser.parse_args().side
    serve(hello(side), prepare_torch if side == "torch" else lambda case: prepare_jax(case, side))


if __name__ == "__main__":
    main()
