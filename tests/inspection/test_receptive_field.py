"""Receptive fields from the jaxpr against those that gradients show, and against published ones."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from field_gradients import Measured, theoretical
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

import cvjax
from cvjax.errors import ConfigError
from cvjax.inspection import inspect_model
from cvjax.nn import adaptive_avg_pool, avg_pool, max_pool, mirror_pad, resize
from cvjax.ops.conv import conv2d
from cvjax.ops.conv_transpose import conv_transpose

SIZE = (56, 60)


def ones(kernel: tuple[int, int], features: int = 1, channels: int = 1) -> jax.Array:
    return jnp.full((*kernel, channels, features), 1 / (kernel[0] * kernel[1]))


def intervals(field, *place: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """What the theory says about one element: place is its index along the dimensions after the first."""
    at = [0 if s.dim is None else place[s.dim - 1] for s in field.spans]
    found = tuple((int(s.low[i]), int(s.high[i])) for s, i in zip(field.spans, at))
    return found if all(first <= last for first, last in found) else None


def inside(found) -> bool:
    """Whether intervals lie on the image; what hangs over its border sees less than the theory says."""
    return found is None or all(first >= 0 and last < n for (first, last), n in zip(found, SIZE))


class Layer(NamedTuple):
    """A layer that grows with every pixel; all of it (height, width)."""

    kind: str
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.kind == "conv":
            options = {"strides": self.strides, "padding": self.padding, "dilation": self.dilation}
            return conv2d(x, ones(self.kernel), **options)
        if self.kind == "stock_conv":
            options = {"rhs_dilation": self.dilation, "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
            return jax.lax.conv_general_dilated(x, ones(self.kernel), self.strides, self.padding, **options)
        pool = {"max": max_pool, "avg": avg_pool, "stock_max": nn.max_pool}[self.kind]
        padding = tuple(tuple(min(p, k // 2) for p in pads) for pads, k in zip(self.padding, self.kernel))
        return pool(x, self.kernel, self.strides, padding)


def _pairs(first: int, down: int, right: int):
    return st.tuples(st.integers(first, down), st.integers(first, right))


# Odd and even kernels, uneven along the axes.
LAYERS = st.builds(
    Layer,
    st.sampled_from(["conv", "stock_conv", "max", "avg", "stock_max"]),
    kernel=_pairs(1, 5, 4),
    strides=_pairs(1, 2, 3),
    dilation=_pairs(1, 2, 3),
    padding=st.tuples(_pairs(0, 3, 3), _pairs(0, 3, 3)),
)
STACKS = st.lists(LAYERS, min_size=1, max_size=3)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(layers=STACKS, shortcut=st.booleans())
def test_stacks_agree_with_gradients(layers, shortcut):
    agree(layers, shortcut)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(layers=STACKS, shortcut=st.booleans())
def test_many_stacks_agree_with_gradients(layers, shortcut):
    agree(layers, shortcut)


def agree(layers: list[Layer], shortcut: bool) -> None:
    def stack(x):
        for layer in layers:
            y = layer(x)
            x = x + y if shortcut and x.shape == y.shape else jax.nn.relu(y)
        return x

    try:
        field = theoretical(stack, SIZE)
    except ConfigError:
        reject()  # a kernel larger than its map
    center = [len(s.low) // 2 for s in field.spans]
    found = intervals(field, *center)
    assume(inside(found))
    assert Measured(stack, SIZE)(*center, 0) == found


FUNCTIONS = {
    "bilinear": lambda x: resize(max_pool(x, 3, 2), (31, 47)),
    "bilinear, corners": lambda x: resize(max_pool(x, 2, 2), SIZE, align_corners=True),
    "nearest": lambda x: resize(avg_pool(x, 4, 4), (24, 33), method="nearest"),
    "transposed": lambda x: conv_transpose(conv2d(x, ones((3, 3)), strides=(2, 2)), ones((4, 5)), (2, 3), "SAME"),
    "transposed, sparse": lambda x: conv_transpose(x, ones((1, 2)), (2, 2), "VALID"),
    "adaptive": lambda x: adaptive_avg_pool(max_pool(x, 2, 2), (5, 6)),
    "adaptive, flat": lambda x: adaptive_avg_pool(max_pool(x, 2, 2), (5, 6)).reshape(1, -1),
    "mirrored": lambda x: conv2d(mirror_pad(x, 2), ones((5, 5))),
    "mean of columns": lambda x: max_pool(x, 3).mean(axis=2, keepdims=True),
    "space to depth": lambda x: (
        x.reshape(1, SIZE[0] // 2, 2, SIZE[1] // 2, 2).transpose(0, 1, 3, 2, 4).reshape(1, 28, 30, 4).sum(-1)
    ),
    "matrix product": lambda x: (avg_pool(x, 3, 2).reshape(-1, 1) @ jnp.ones((1, 2))).reshape(1, 27, 29, 2),
    "turned": lambda x: max_pool(x, (2, 3), (2, 1))[:, ::-1].transpose(0, 2, 1, 3)[:, 3:-2:2],
    "tiles": lambda x: jnp.concatenate([x[:, :9], jnp.zeros((1, 3, SIZE[1], 1)), avg_pool(x, (3, 1))[:, 20:]], axis=1),
    "split": lambda x: sum(jnp.split(avg_pool(x, 2, 2), [7, 14, 21], axis=1)),
    "stacked": lambda x: jnp.stack([max_pool(x, 3), x[:, 1:-1, 1:-1]], axis=1).sum(1),
    "spread": lambda x: jax.lax.pad(x, 0.0, ((0, 0, 0), (2, 1, 1), (0, -3, 2), (0, 0, 0))),
    "remat": lambda x: jax.checkpoint(lambda y: conv2d(y, ones((3, 3)), dilation=(2, 1)))(x),
    "mapped": lambda x: jax.vmap(lambda y: conv2d(y[None], ones((2, 3)), strides=(1, 2))[0])(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_agree_with_gradients(name):
    function = FUNCTIONS[name]
    shape = jax.eval_shape(function, jax.ShapeDtypeStruct((1, *SIZE, 1), jnp.float32)).shape[1:]
    rng = np.random.default_rng(0)
    places = {tuple(n // 2 for n in shape), tuple(int(n * 0.3) for n in shape)}
    places |= {tuple(int(rng.integers(n)) for n in shape) for _ in range(4)}
    field, measured = theoretical(function, SIZE), Measured(function, SIZE)
    checked = 0
    for place in sorted(places):
        found = intervals(field, *place)
        if inside(found):
            checked += 1
            assert measured(*place) == found, place
    assert checked


def test_resnet18_stage_by_stage():
    size = 448
    model = cvjax.create_model("resnet18", num_classes=0, width=8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))

    def grow(path, leaf):
        """Positive kernels, and BatchNorms that do nothing: every map grows with every pixel."""
        value = leaf.shape[-1] / leaf.size if leaf.ndim == 4 else path[-1].key in ("scale", "var")
        return np.full(leaf.shape, value, np.float32)

    variables = jax.tree_util.tree_map_with_path(grow, shapes)

    def centers(images):
        maps = model.apply(variables, images, method="features")
        return jnp.stack([m[:, m.shape[1] // 2, m.shape[2] // 2, 0] for m in maps.values()], axis=1)

    measured = Measured(centers, (size, size), 3)
    found = inspect_model(model, image_size=size)
    layers = {layer.name: layer for layer in (*found.layers, *found.blocks)}
    ends = ("stem_conv_0", "stage1_1", "stage2_1", "stage3_1", "stage4_1")
    # By hand: a 3x3 convolution adds twice the stride of the map that it reads.
    for i, (name, expected, stride) in enumerate(zip(ends, (7, 43, 99, 211, 435), (2, 4, 8, 16, 32))):
        (first, last), columns = measured(i)
        assert columns == (first, last)
        assert layers[name].receptive_field == (last - first + 1,) * 2 == (expected, expected)
        assert layers[name].stride == (stride, stride)
