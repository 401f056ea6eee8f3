"""The models of cvjax on stock Flax layers, and the list of layers that a model consists of.

A fair opponent computes the same function from the same parameters, so `stock_layers` takes the models as they are
and puts `flax.linen`'s layers into the places of ours: every module of cvjax that refers to one of our layers refers
to Flax's while the context lasts. The package itself has no such switch.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from layer_sides import Layer

import cvjax
import cvjax.nn
from cvjax.models.detection.detector import beside_images

_POOLS = {"reduce_window_max": "max_pool", "reduce_window_sum": "avg_pool"}


def _stock_pool(
    pool: Callable[..., jax.Array],
    x: jax.Array,
    window_shape: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    ceil_mode: bool = False,
    **options: Any,
) -> jax.Array:
    """Flax's pooling, where ours takes a number for both sides, and rounds sizes up if asked."""
    window, strides = ((side, side) if isinstance(side, int) else side for side in (window_shape, strides))
    padding = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    if ceil_mode:
        sizes = zip(x.shape[1:3], padding, window, strides)
        padding = tuple((low, high + (side - n - low - high) % step) for n, (low, high), side, step in sizes)
    return pool(x, window, strides, padding, **options)


def _stock_norm(*args: Any, frozen: bool = False, **fields: Any) -> flax.linen.BatchNorm:
    """Flax's normalization, which cannot be frozen."""
    if frozen:
        raise NotImplementedError("stock layers have no frozen BatchNorm")
    return flax.linen.BatchNorm(*args, **fields)


@contextlib.contextmanager
def stock_layers() -> Iterator[None]:
    """Inside, models and layers of cvjax are made of `flax.linen`'s convolutions, pools and batch normalization.

    Affects the whole process. Names, parameters and values are the same; only how they are computed differs.
    """
    for name in cvjax.list_models():
        cvjax.model_options(name)  # Imports the architectures, so that their references are found.
    # Ours are Flax's convolution with another function inside; None is Flax's own.
    convolutions = (cvjax.nn.Conv, cvjax.nn.TorchConv)
    pairs = [(ours, functools.partial(ours, conv_general_dilated=None)) for ours in convolutions]
    for name in ("avg_pool", "max_pool"):
        pairs.append((getattr(cvjax.nn, name), functools.partial(_stock_pool, getattr(flax.linen, name))))
    pairs += [(cvjax.nn.ConvTranspose, flax.linen.ConvTranspose), (cvjax.nn.BatchNorm, _stock_norm)]
    swapped: list[tuple[Any, str, Any]] = []
    for module_name, module in list(sys.modules.items()):
        if module_name.split(".")[0] != "cvjax":
            continue
        for name, value in list(vars(module).items()):
            for ours, stock in pairs:
                if value is ours:
                    swapped.append((module, name, ours))
                    setattr(module, name, stock)
    try:
        yield
    finally:
        for module, name, ours in swapped:
            setattr(module, name, ours)


def layers_of(function: Callable[..., Any], *arguments: Any) -> list[Layer]:
    """The distinct convolutions and pools of a function, in the order in which they run.

    Args:
      function: made of stock layers, so that each is one operation of XLA's.
      *arguments: arrays, or their shapes.
    """
    found: dict[Layer, None] = {}
    for equation in _equations(jax.make_jaxpr(function)(*arguments)):
        if equation.primitive.name == "conv_general_dilated":
            found[_convolution(equation)] = None
        elif equation.primitive.name in _POOLS:
            found[_pool(equation)] = None
    return list(found)


def layers_of_model(name: str, size: int) -> list[Layer]:
    """The distinct convolutions and pools of a registered model: of training, of a detector those of inference.

    Args:
      name: one of `cvjax.list_models()`.
      size: side of the square images, in pixels.
    """
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    with stock_layers():
        model = cvjax.create_model(name, num_classes=cvjax.model_info(name).params_classes)
        beside = beside_images(model, images.shape)
        variables = jax.eval_shape(lambda key, x: model.init(key, x, **beside), jax.random.key(0), images)

        def forward(variables: Any, images: jax.Array) -> Any:
            rngs, train = {"dropout": jax.random.key(0)}, not beside
            return model.apply(variables, images, train=train, mutable=["batch_stats"], rngs=rngs, **beside)

        return layers_of(forward, variables, images)


def _equations(jaxpr: Jaxpr | ClosedJaxpr) -> Iterator[JaxprEqn]:
    for equation in jaxpr.eqns:
        yield equation
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
                if isinstance(inner, (Jaxpr, ClosedJaxpr)):
                    yield from _equations(inner)


def _convolution(equation: JaxprEqn) -> Layer:
    image, kernel = (variable.aval.shape for variable in equation.invars)
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    if numbers.lhs_spec != (0, 3, 1, 2) or numbers.rhs_spec != (3, 2, 0, 1) or parameters["batch_group_count"] != 1:
        raise NotImplementedError(f"a convolution that is not of NHWC images and an HWIO kernel: {parameters}")
    strides, spread = tuple(parameters["window_strides"]), tuple(parameters["lhs_dilation"])
    transposed = spread != (1, 1)
    if transposed and strides != (1, 1):
        raise NotImplementedError("a convolution with strides and input dilation both")
    return Layer(
        "conv_transpose" if transposed else "conv",
        image[1:],
        kernel[-1],
        kernel[:2],
        spread if transposed else strides,
        tuple(map(tuple, parameters["padding"])),
        tuple(parameters["rhs_dilation"]),
        parameters["feature_group_count"],
    )


def _pool(equation: JaxprEqn) -> Layer:
    parameters = equation.params
    return Layer(
        _POOLS[equation.primitive.name],
        equation.invars[0].aval.shape[1:],
        window=tuple(parameters["window_dimensions"][1:3]),
        strides=tuple(parameters["window_strides"][1:3]),
        padding=tuple(map(tuple, parameters["padding"][1:3])),
    )
