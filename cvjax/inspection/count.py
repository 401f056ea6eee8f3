"""Counts the multiply-adds of a jaxpr's equations, and names the equations for a person."""

import math
from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from cvjax.inspection.field import Constant, Known, array_of
from cvjax.ops.geometry import Geometry


def multiply_adds(equation: JaxprEqn, inputs: Sequence[Known]) -> int:
    """Returns the multiply-adds of a convolution or of a matrix product, and 0 for everything else.

    The count is that of torchvision, timm and fvcore. A convolution has one multiply-add for every output and every tap
    of its kernel, padding included. A transposed convolution has one for every input and every tap. Products with
    constants are not counted: they are how maps are resized.
    """
    name = equation.primitive.name
    if name not in ("conv2d", "conv_general_dilated", "dot_general", "dense"):
        return 0
    first, second = (array_of(v) for v in equation.invars)
    (out,) = (array_of(v) for v in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        resampling = any(isinstance(known, Constant) for known in inputs)
        return 0 if resampling else out.size * math.prod(first.shape[i] for i in contracted)
    if name == "dense":
        return out.size * first.shape[1]
    if name == "conv2d":
        geometry: Geometry = equation.params["geometry"]
        channels, features, groups, spread = *second.shape[2:], geometry.groups, geometry.input_dilation
    else:
        p = equation.params
        # The kernel's numbers begin with the dimensions of output and input features.
        features, channels = (second.shape[i] for i in p["dimension_numbers"][1][:2])
        groups, spread = p["feature_group_count"] * p["batch_group_count"], p["lhs_dilation"]
    taps = second.size // (channels * features)
    if set(spread) - {1}:
        return first.size * taps * features // groups
    return out.size * taps * channels


def describe(equation: JaxprEqn) -> str | None:
    """Returns a name such as `Conv 3x3/2 dilation 2 groups 32`, `MaxPool 3x3/2` or `Dense`.

    The name is None for an equation that is neither a product nor a pool.
    """
    name, p = equation.primitive.name, equation.params
    if name in ("dot_general", "dense"):
        return "Dense"
    if name == "conv_general_dilated":
        kernel = p["dimension_numbers"][1]
        sizes = [array_of(equation.invars[1]).shape[i] for i in kernel[2:]]
        dilation, spread, groups = p["rhs_dilation"], p["lhs_dilation"], p["feature_group_count"]
        return _window("Conv", sizes, p["window_strides"], dilation, spread, groups)
    if name in ("conv2d", "max_pool", "sum_pool"):
        g: Geometry = p["geometry"]
        kind = {"conv2d": "Conv", "max_pool": "MaxPool", "sum_pool": "AvgPool"}[name]
        return _window(kind, g.kernel_size, g.strides, g.kernel_dilation, g.input_dilation, g.groups)
    if name in ("reduce_window_max", "reduce_window_sum"):
        kind = "MaxPool" if name == "reduce_window_max" else "AvgPool"
        places = [i for i, n in enumerate(p["window_dimensions"]) if n > 1]
        sizes, strides = ([p[key][i] for i in places] for key in ("window_dimensions", "window_strides"))
        return _window(kind, sizes, strides)
    return None


def describe_global_pool(equation: JaxprEqn, inputs: Sequence[Known]) -> str | None:
    """Returns `GlobalAvgPool` or `GlobalMaxPool` for a reduction over both axes of a map, otherwise None."""
    kinds = {"reduce_sum": "GlobalAvgPool", "reduce_max": "GlobalMaxPool"}
    kind = kinds.get(equation.primitive.name)
    if kind is None or inputs[0] is None or isinstance(inputs[0], Constant):
        return None
    return kind if all(s.dim in equation.params["axes"] for s in inputs[0].spans) else None


def _window(
    kind: str,
    sizes: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int] = (1,),
    spread: Sequence[int] = (1,),
    groups: int = 1,
) -> str:
    text = f"{kind} {_by(sizes, square=True)}"
    if set(spread) != {1}:
        text = f"ConvTranspose {_by(sizes, square=True)}*{_by(spread)}"
    if set(strides) != {1}:
        text += f"/{_by(strides)}"
    if set(dilation) != {1}:
        text += f" dilation {_by(dilation)}"
    return text + (f" groups {groups}" if groups > 1 else "")


def _by(numbers: Sequence[int], square: bool = False) -> str:
    """Returns a text such as `3x3`; equal numbers give one number alone, unless `square`."""
    return str(numbers[0]) if len(set(numbers)) == 1 and not square else "x".join(map(str, numbers))
