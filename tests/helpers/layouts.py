"""What a compiled program sends between devices, and nets so small that a layout's whole step is a test."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.models import create_model

_KINDS = "all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter"
_CALL = re.compile(rf"= (.*?) ({_KINDS})(?:-start)?\(")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")


def collectives(compiled: Any) -> dict[str, list[int]]:
    """The numbers that each collective of a program sends or sums, by its kind; one of several arrays counts once."""
    found: dict[str, list[int]] = {}
    for line in compiled.as_text().splitlines():
        call = _CALL.search(line)
        if call:
            sizes = [math.prod(int(n) for n in dims.split(",") if n) for dims in _SHAPE.findall(call[1])]
            found.setdefault(call[2], []).append(sum(sizes))
    return found


NETS: dict[str, dict[str, Any]] = {
    "unet": {"width": 4, "depth": 2},
    "resnet50": {"width": 4, "stage_sizes": (1, 1, 1, 1)},
    "deeplabv3plus_resnet18": {
        "backbone": {"width": 4, "stage_sizes": (1, 1, 1, 1)},
        "aspp_features": 8,
        "low_level_features": 4,
    },
    "fcn8s_vgg16": {
        "alignment": "same",
        "backbone": {"widths": (4, 4, 8, 8, 8), "stage_sizes": (1, 1, 1, 1, 1), "hidden": 8},
    },
}
"""Narrow, short variants with all of the layers that the published nets have."""


def loss_and_gradients(name: str, strategy: Any, size: int, rows: int = 2) -> tuple[Any, Any]:
    """A loss, the net's outputs and the gradients by its parameters, as a strategy computes them, and the program."""
    model = create_model(name, num_classes=3, **NETS[name])
    rng = np.random.default_rng(0)
    images = rng.normal(size=(rows, size, size, 3)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    variables = jax.tree.map(
        lambda x: x + 0.02 * rng.normal(size=x.shape).astype(x.dtype), variables
    )  # nothing is zero
    compiled = loss_program(model, strategy, variables, images)
    params, others = _split(variables)
    at = strategy.batch_shardings({"image": images})["image"]
    with strategy.context():
        placed = strategy.place_state(params), strategy.place_state(others), jax.device_put(images, at)
        return jax.device_get(compiled(*placed)), compiled


def loss_program(model: Any, strategy: Any, variables: Any, images: Any) -> Any:
    """The compiled loss, outputs and gradients of a net, of arrays or their shapes."""

    def loss(params: Any, others: Any, images: jax.Array) -> Any:
        options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(1)}}
        outputs, _ = model.apply({**others, "params": params}, images, **options)
        return sum(jnp.square(x).mean() for x in jax.tree.leaves(outputs)), outputs

    everywhere, at = strategy.everywhere, strategy.batch_shardings({"image": images})["image"]
    program = jax.jit(jax.value_and_grad(loss, has_aux=True), in_shardings=(everywhere, everywhere, at))
    with strategy.context():
        return program.lower(*_split(variables), images).compile()


def _split(variables: Any) -> tuple[Any, Any]:
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}
