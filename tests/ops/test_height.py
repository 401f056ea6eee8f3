"""Maps whose rows are split over devices: the same values and gradients, and no device collects a map."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from layouts import collectives

from cvjax.ops.conv import conv2d
from cvjax.ops.conv_transpose import conv_transpose
from cvjax.ops.height import HEIGHT_AXIS, height_mesh
from cvjax.ops.pool import avg_pool, global_avg_pool, max_pool
from cvjax.ops.resize import rescale, resize
from cvjax.ops.upsample import upsample

ONE = ((1, 1), (1, 1))
KERNELS = {
    "1x1": (partial(conv2d), (1, 1, 8, 6)),
    "3x3": (partial(conv2d, padding=ONE), (3, 3, 8, 6)),
    "7x7, strided": (partial(conv2d, padding=((3, 3), (3, 3)), strides=(2, 2)), (7, 7, 8, 6)),
    "dilated": (partial(conv2d, padding=((6, 6), (6, 6)), dilation=(6, 6)), (3, 3, 8, 6)),
    "depthwise": (partial(conv2d, padding=ONE, groups=8), (3, 3, 1, 16)),
    "grouped": (partial(conv2d, padding=ONE, groups=2, strides=(2, 2)), (3, 3, 4, 8)),
    "transposed 2x2": (partial(conv_transpose, strides=(2, 2), padding="SAME"), (2, 2, 8, 6)),
    "transposed 16x16": (partial(conv_transpose, strides=(8, 8), padding="SAME"), (16, 16, 8, 3)),
}
MAPS = {
    "max 2x2": partial(max_pool, window_shape=2, strides=2),
    "max 3x3": partial(max_pool, window_shape=3, strides=2, padding=1),
    "average": partial(avg_pool, window_shape=3, strides=2, padding=1, count_include_pad=False),
    "global average": global_avg_pool,
    "corners aligned": partial(resize, size=(128, 32), align_corners=True),
    "halved": partial(resize, size=(16, 8)),
    "by a factor": partial(rescale, factor=1.5),
    "nearest": partial(resize, size=(64, 32), method="nearest"),
    "upsampled, as transposed": partial(upsample, stride=4, offset=(1, 1), method="transposed"),
}


def _mesh(height):
    devices = np.asarray(jax.devices()).reshape(-1, height)
    return jax.sharding.Mesh(devices, ("data", HEIGHT_AXIS), axis_types=(AxisType.Auto,) * 2)


def _values(function, *shapes):
    """The function's values and gradients on one device and on eight that split maps in four; collectives of those."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    weights = rng.normal(size=jax.eval_shape(function, *arrays).shape).astype(np.float32)

    def both(*arrays):
        return jax.vjp(function, *arrays)[0], jax.grad(
            lambda *a: (function(*a) * weights).sum(), tuple(range(len(arrays)))
        )(*arrays)

    mesh = _mesh(4)
    split, whole = NamedSharding(mesh, P("data", HEIGHT_AXIS)), NamedSharding(mesh, P())
    with jax.set_mesh(mesh):
        # A function of its own: JAX would take what it traced without a mesh.
        program = jax.jit(lambda *a: both(*a), in_shardings=(split, *[whole] * (len(arrays) - 1)))
        compiled = program.lower(*arrays).compile()
        found = compiled(*(jax.device_put(a, s) for a, s in zip(arrays, (split, *[whole] * len(arrays)))))
    return jax.jit(both)(*arrays), found, collectives(compiled)


@pytest.mark.parametrize("name", [*KERNELS, *MAPS])
def test_only_borders_are_exchanged(name):
    function, kernel = KERNELS.get(name) or (MAPS[name], None)
    want, got, kinds = _values(function, (2, 32, 16, 8), *([kernel] if kernel else []))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)
    part = max(2 * 32 * 16 * 8, want[0].size) // 8  # of the larger of the two maps, a device's
    limits = {"collective-permute": part, "all-reduce": max(part, math.prod(kernel or ()))}
    assert all(size < 1.01 * limits.get(kind, 0) for kind, sizes in kinds.items() for size in sizes)


def _below(x, height):
    return jnp.pad(x, ((0, 0), (0, height - x.shape[1]), (0, 0), (0, 0)))


@pytest.mark.parametrize(("height", "ceil_mode"), [(54, False), (55, True), (55, False), (61, True)])
def test_windows_on_heights_that_are_not_shared_evenly(height, ceil_mode):
    """No device collects a map, neither for the maxima nor for the gradient."""

    def pooled(x):
        y = max_pool(_below(x, height), 2, 2, 0, ceil_mode=ceil_mode)
        return _below(y, 32)  # what comes out of a program must be shared evenly

    want, got, kinds = _values(pooled, (2, 48, 17, 8))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert set(kinds) == {"collective-permute"}, kinds
    assert max(kinds["collective-permute"]) <= 48 * 17 * 8 // 4


@pytest.mark.parametrize(("source", "target"), [(33, 64), (3, 64), (64, 6)])
def test_heights_that_are_not_shared_evenly_are_resized_all_the_same(source, target):
    x = np.random.default_rng(0).normal(size=(2, source, 8, 3)).astype(np.float32)

    def both(x):
        y, back = jax.vjp(lambda x: resize(x, (target, 16)), x)
        return y, back(y)

    with jax.set_mesh(_mesh(4)):
        got = jax.jit(lambda x: both(x))(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, both(jnp.asarray(x)))


def test_other_meshes_split_no_height():
    assert height_mesh() is None
    with jax.set_mesh(_mesh(1)):
        assert height_mesh() is None
    with jax.set_mesh(_mesh(2)):
        assert height_mesh().shape[HEIGHT_AXIS] == 2
