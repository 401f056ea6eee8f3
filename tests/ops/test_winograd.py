"""Convolution with fewer multiplications: its matrices, its values and gradients, and where it is chosen."""

import contextlib
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from cvjax.ops.conv import conv2d
from cvjax.ops.conv_transpose import conv_transpose
from cvjax.ops.cpu import winograd
from cvjax.ops.geometry import Geometry


@pytest.mark.parametrize("taps", [2, 3, 5])
def test_matrices_correlate(taps):
    rng = np.random.default_rng(taps)
    pixels, kernel = rng.standard_normal(6), rng.standard_normal(taps)
    by = winograd.transforms(taps)
    got = by.to_outputs @ ((by.kernel @ kernel) * (by.tile @ pixels))
    np.testing.assert_allclose(got, np.correlate(pixels, kernel, "valid"), rtol=1e-12)


def _seen(x, padding, side, rates):
    """What each tap of a square kernel sees for all outputs, in float64."""
    padded = np.pad(np.float64(x), ((0, 0), *padding, (0, 0)))
    rows, columns = (n - (side - 1) * rate for n, rate in zip(padded.shape[1:3], rates))
    return [
        padded[:, i * rates[0] : i * rates[0] + rows, j * rates[1] : j * rates[1] + columns]
        for i, j in np.ndindex(side, side)
    ]


def _by_hand(x, kernel, padding, rates=(1, 1)):
    """What a convolution is: a sum over taps."""
    taps = np.float64(kernel).reshape(-1, *kernel.shape[2:])
    return sum(seen @ tap for seen, tap in zip(_seen(x, padding, len(kernel), rates), taps))


def _gradient_by_hand(x, ct, padding, side, rates=(1, 1)):
    taps = [np.einsum("bhwc,bhwf->cf", seen, np.float64(ct)) for seen in _seen(x, padding, side, rates)]
    return np.stack(taps).reshape(side, side, x.shape[-1], -1)


def _assert_close(got, right, part=1e-5):
    assert got.shape == right.shape
    assert got.dtype == np.float32
    assert np.abs(np.asarray(got) - right).max() < part * right.std()


SHAPES = {
    "whole tiles": ((2, 8, 12), 3, ((1, 1), (1, 1))),
    "rate 2": ((2, 12, 16), 3, ((2, 2), (2, 2)), (2, 2)),
    "rates that leave a rest": ((2, 11, 7), 3, ((3, 1), (2, 0)), (3, 2)),
    "5x5 with a rate": ((1, 9, 11), 5, ((4, 4), (2, 2)), (2, 1)),
    "rest of a tile": ((3, 7, 9), 3, ((1, 1), (1, 1))),
    "no padding": ((2, 9, 6), 3, ((0, 0), (0, 0))),
    "uneven padding": ((2, 5, 11), 3, ((2, 0), (0, 1))),
    "one output": ((4, 3, 3), 3, ((0, 0), (0, 0))),
    "one row": ((4, 1, 21), 3, ((1, 1), (1, 1))),
    "many rows": ((1, 53, 3), 3, ((1, 1), (1, 1))),
    "2x2": ((2, 9, 7), 2, ((1, 0), (0, 1))),
    "2x2, uneven": ((2, 11, 4), 2, ((1, 1), (0, 0))),
    "5x5": ((2, 9, 7), 5, ((2, 2), (2, 2))),
    "5x5, uneven": ((2, 6, 8), 5, ((3, 0), (1, 2))),
}


@pytest.mark.parametrize("block", [0, 40_000, 2**21])
@pytest.mark.parametrize("case", SHAPES)
def test_values_and_gradients(case, block):
    """Also where the work is divided into rows of tiles, and images."""
    (batch, height, width), side, padding, *rates = SHAPES[case]
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(s).astype(np.float32) for s in ((batch, height, width, 4), (side, side, 4, 6)))
    dilation = rates[0] if rates else (1, 1)
    geometry = Geometry((height, width), (side, side), padding=padding, kernel_dilation=dilation)
    ct = rng.standard_normal((batch, *geometry.output_size, 6)).astype(np.float32)
    with mock.patch.object(winograd, "_BLOCK", block):
        y = jax.jit(partial(winograd.convolve, geometry=geometry))(x, kernel)
        gradient = jax.jit(partial(winograd.kernel_gradient, geometry=geometry))(x, ct)
    _assert_close(y, _by_hand(x, kernel, padding, *rates))
    _assert_close(gradient, _gradient_by_hand(x, ct, padding, side, *rates))


@pytest.mark.parametrize("block", [0, 60_000, 2**21])
@pytest.mark.parametrize(
    ("groups", "inside", "outside", "size"), [(8, 4, 6, (9, 6)), (4, 16, 8, (5, 11)), (2, 40, 3, (6, 6))]
)
def test_gradients_of_grouped_kernels(groups, inside, outside, size, block):
    """With several groups a product, and one."""
    rng = np.random.default_rng(0)
    padding = ((1, 1), (1, 0))
    geometry = Geometry(size, (3, 3), padding=padding, groups=groups)
    x = rng.standard_normal((2, *size, groups * inside)).astype(np.float32)
    ct = rng.standard_normal((2, *geometry.output_size, groups * outside)).astype(np.float32)
    with mock.patch.object(winograd, "_BLOCK", block):
        gradient = jax.jit(partial(winograd.kernel_gradient, geometry=geometry))(x, ct)
    for group in range(groups):
        its, theirs = (slice(group * n, (group + 1) * n) for n in (inside, outside))
        right = _gradient_by_hand(x[..., its], ct[..., theirs], padding, 3)
        _assert_close(gradient[..., theirs], right)


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("batch", [6, 7])
def test_blocks_cover_every_tile_once(case, batch):
    (_, height, width), side, padding, *_ = SHAPES[case]
    geometry = Geometry((height, width), (side, side), padding=padding)
    step = 7 - side
    rows = -(-geometry.output_size[0] // step)
    for limit in (0, 3000, 10_000, 50_000, 10**6):
        with mock.patch.object(winograd, "_BLOCK", limit):
            blocks = winograd._Blocks.of(batch, geometry, 1, 1)
        starts = [blocks.start(i, step)[:2] for i in range(blocks.number)]
        seen = [
            (image, row // step + r)
            for first, row in starts
            for image in range(first, first + blocks.images)
            for r in range(blocks.rows)
        ]
        assert len(set(seen)) == len(seen)
        assert set(seen) >= {(image, row) for image in range(batch) for row in range(rows)}
        assert len(seen) <= batch * (rows + blocks.down)  # hardly more than there are


def test_rounding_is_a_few_times_that_of_a_plain_sum():
    """As far as the docs promise: 256 channels, positive maps as behind a ReLU, errors in root mean square."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((2, 16, 16, 256)), 0).astype(np.float32)
    kernel = (rng.standard_normal((3, 3, 256, 32)) / 48).astype(np.float32)
    padding = ((1, 1), (1, 1))
    right = _by_hand(x, kernel, padding)
    plain = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    ours = winograd.convolve(x, kernel, Geometry((16, 16), (3, 3), padding=padding))
    error, least = (np.sqrt(((np.asarray(y) - right) ** 2).mean()) / right.std() for y in (ours, plain))
    assert error < 2e-6
    assert error < 8 * least


def _program(precision=None, strides=(1, 1), channels=64, features=64, batch=4):
    """The text of a convolution and its gradients, as lowered for this process."""
    x, kernel = jnp.ones((batch, 16, 16, channels)), jnp.ones((3, 3, channels, features))

    def run(x, kernel):
        y, pull = jax.vjp(lambda x, k: conv2d(x, k, strides=strides, padding=((1, 1), (1, 1))), x, kernel)
        return y, pull(y * 2)

    with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
        return jax.jit(run).lower(x, kernel).as_text()


def _tiles_in(text):
    return "36x" in text


@pytest.mark.usefixtures("stored_and_local")
def test_it_is_chosen_for_wide_kernels_of_programs_of_this_process(request):
    local = request.node.callspec.params["stored_and_local"] == "local"
    assert _tiles_in(_program()) == local
    assert not _tiles_in(_program(channels=8))
    assert not _tiles_in(_program(strides=(2, 2)))
    assert not _tiles_in(_program(batch=1, channels=1024, features=512))  # a kernel of 75 MB for 16 tiles
    for exact in ("highest", "float32"):
        assert not _tiles_in(_program(exact))
    assert _tiles_in(_program("default")) == local


@pytest.mark.usefixtures("stored_and_local")
def test_faces_of_a_convolution_agree_with_float64():
    rng = np.random.default_rng(0)
    padding = ((1, 1), (1, 1))
    x, ct = (rng.standard_normal((2, 13, 14, n)).astype(np.float32) for n in (32, 48))
    kernel = rng.standard_normal((3, 3, 32, 48)).astype(np.float32)
    y, pull = jax.vjp(jax.jit(partial(conv2d, padding=padding)), x, kernel)
    back, gradient = pull(jnp.asarray(ct))
    _assert_close(y, _by_hand(x, kernel, padding))
    _assert_close(back, _by_hand(ct, kernel[::-1, ::-1].swapaxes(2, 3), padding))
    _assert_close(gradient, _gradient_by_hand(x, ct, padding, 3))


@pytest.mark.usefixtures("stored_and_local")
def test_faces_of_a_transposed_convolution_agree_with_float64(request):
    """4x4 taps at stride 2, whose phases are one convolution of 2x2 taps."""
    rng = np.random.default_rng(0)
    padding = ((2, 2), (2, 2))
    x = rng.standard_normal((2, 14, 14, 64)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, 64, 64)).astype(np.float32)
    ct = rng.standard_normal((2, 28, 28, 64)).astype(np.float32)
    spread = np.zeros((2, 27, 27, 64), np.float32)
    spread[:, ::2, ::2] = x
    run = jax.jit(partial(conv_transpose, strides=(2, 2), padding=padding))
    y, pull = jax.vjp(run, x, kernel)
    back, gradient = pull(jnp.asarray(ct))
    _assert_close(y, _by_hand(spread, kernel, padding), 2e-5)
    own = _by_hand(ct, kernel[::-1, ::-1].swapaxes(2, 3), ((1, 1), (1, 1)))[:, ::2, ::2]
    _assert_close(back, own)
    _assert_close(gradient, _gradient_by_hand(spread, ct, padding, 4))
    assert _tiles_in(run.lower(x, kernel).as_text()) == (request.node.callspec.params["stored_and_local"] == "local")


@pytest.mark.usefixtures("stored_and_local")
def test_devices_that_each_have_their_images_sum_the_gradient():
    """Each device's program loops over blocks of its own, whose sum starts at zero on all of them."""
    rng = np.random.default_rng(0)
    padding = ((1, 1), (1, 1))
    x = rng.standard_normal((4, 16, 16, 32)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 32, 32)).astype(np.float32)

    def loss(kernel, x):
        return jax.lax.psum((conv2d(x, kernel, padding=padding) ** 2).sum(), "data")

    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    with mock.patch.object(winograd, "_BLOCK", 2**17):
        spread = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
        got = jax.jit(spread)(kernel, x)
    right = _gradient_by_hand(x, 2 * _by_hand(x, kernel, padding), padding, 3)
    _assert_close(got, right)


@pytest.mark.parametrize("rate", [1, 2])
@pytest.mark.usefixtures("stored_and_local")
def test_a_deeper_net_needs_no_more_memory_than_its_maps(rate):
    """XLA makes early what depends on kernels alone, or on nothing, and would keep it for each layer."""
    options = {"padding": ((rate, rate),) * 2, "dilation": (rate, rate)}

    def temporaries(layers):
        def net(x, kernels):
            for kernel in kernels:
                x = jax.nn.relu(conv2d(x, kernel, **options))
            return x

        kernels = [jnp.ones((3, 3, 64, 64)) for _ in range(layers)]
        program = jax.jit(net).lower(jnp.ones((4, 16, 16, 64)), kernels).compile()
        return program.memory_analysis().temp_size_in_bytes

    with mock.patch.object(winograd, "_BLOCK", 2**17):
        assert temporaries(8) <= temporaries(4) + 64 * 8 * 4  # flags, a cache line each
