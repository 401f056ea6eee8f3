"""Deformable convolution against torchvision's numbers, the plain convolution, and finite differences."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads

from cvjax.ops.deform_conv import deform_conv2d

_GOLDEN = np.load(pathlib.Path(__file__).parent.parent / "golden" / "ops.npz")


def _plain(x, kernel, strides=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _random(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(("case", "stride", "dilation"), [("g1_d1_s1", 1, 1), ("g2_d1_s2", 2, 1), ("g1_d2_s1", 1, 2)])
def test_equals_torchvision(case, stride, dilation):
    x, kernel = _GOLDEN[f"deform_{case}_x"], _GOLDEN[f"deform_{case}_w_oihw"].transpose(2, 3, 1, 0)
    offset, mask = (_GOLDEN[f"deform_{case}_{k}_nchw"].transpose(0, 2, 3, 1) for k in ("offset", "mask"))
    conv = jax.jit(
        partial(
            deform_conv2d,
            strides=(stride, stride),
            padding=((dilation, dilation), (dilation, dilation)),
            dilation=(dilation, dilation),
        )
    )
    for version, arrays in (("v1", (offset,)), ("v2", (offset, mask))):
        expected = _GOLDEN[f"deform_{case}_{version}"]
        np.testing.assert_allclose(conv(x, kernel, *arrays), expected, atol=1e-4)


_SETTINGS = [
    {"padding": ((1, 1), (1, 1))},
    {"strides": (2, 1), "padding": ((0, 1), (2, 0)), "dilation": (1, 2)},
    {"padding": ((1, 1), (1, 1)), "groups": 2},
    {"groups": 4, "strides": (2, 2)},
]


@pytest.mark.parametrize("settings", _SETTINGS)
@pytest.mark.parametrize("offset_groups", [1, 2])
def test_without_offsets_equals_the_plain_convolution(settings, offset_groups):
    x, kernel = _random((2, 7, 9, 4)), _random((3, 2, 4 // settings.get("groups", 1), 8), 1)
    expected, pull = jax.vjp(partial(_plain, **settings), x, kernel)
    offset = jnp.zeros((*expected.shape[:3], offset_groups * 12))
    y, ours = jax.vjp(jax.jit(lambda x, k: deform_conv2d(x, k, offset, **settings)), x, kernel)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for mine, theirs in zip(ours(expected), pull(expected)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-4)


def test_offsets_of_whole_pixels_shift_the_map_and_far_ones_read_zero():
    x, kernel = _random((1, 8, 9, 4)), _random((3, 3, 4, 2), 1)
    conv = jax.jit(partial(deform_conv2d, padding=((1, 1), (1, 1))))
    for dy, dx in ((2, -1), (-3, 4)):
        # Padding moved by the offset: the taps read rows from dy - 1 and columns from dx - 1 on.
        pads = ((1 - dy, 1 + dy), (1 - dx, 1 + dx))
        expected = _plain(x, kernel, padding=pads)
        offset = jnp.tile(jnp.asarray([dy, dx], jnp.float32), (1, 8, 9, 9))
        np.testing.assert_allclose(conv(x, kernel, offset), expected, atol=1e-5)
    for far in (-11.0, 11.0, 1e9, jnp.inf):
        assert not conv(x, kernel, jnp.full((1, 8, 9, 18), far)).any()


def test_each_offset_group_and_tap_has_its_place_in_the_channels():
    x = _random((1, 6, 6, 4))
    kernel = jnp.zeros((3, 1, 4, 1)).at[2, 0].set(1.0)  # the last row of taps alone
    offset = np.zeros((1, 4, 6, 2, 3, 1, 2), np.float32)
    offset[..., 1, 2, 0, :] = [-1, 0.5]  # second group, last tap: a row up, half a pixel to the right
    offset[..., 0, :2, 0, :] = 3  # taps whose weights are zero
    y = deform_conv2d(x, kernel, offset.reshape(1, 4, 6, 12))
    right = jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))[:, :, 1:]
    expected = x[:, 2:, :, :2].sum(-1) + ((x + right) / 2)[:, 1:5, :, 2:].sum(-1)
    np.testing.assert_allclose(y[..., 0], expected, atol=1e-5)


def test_a_constant_mask_scales_and_the_mask_belongs_to_its_tap():
    x, kernel, offset = _random((2, 5, 6, 4)), _random((3, 3, 4, 2), 1), _random((2, 3, 4, 36), 2)
    conv = jax.jit(deform_conv2d)
    expected = conv(x, kernel, offset)
    np.testing.assert_allclose(conv(x, kernel, offset, jnp.full((2, 3, 4, 18), 0.25)), expected / 4, atol=1e-5)
    mask = jnp.ones((2, 3, 4, 2, 9)).at[..., 4].set(0.0).reshape(2, 3, 4, 18)
    without = conv(x, kernel.at[1, 1].set(0.0), offset)
    np.testing.assert_allclose(conv(x, kernel, offset, mask), without, atol=1e-5)


def test_gradients_equal_finite_differences_in_both_modes():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(rng.standard_normal((1, 4, 5, 4))), jnp.asarray(rng.standard_normal((2, 2, 2, 2)))
        # Between pixels, where the interpolation is smooth; some read beyond the border.
        offset = jnp.asarray(rng.integers(-3, 3, (1, 2, 3, 16)) + rng.uniform(0.1, 0.9, (1, 2, 3, 16)))
        mask = jnp.asarray(rng.uniform(0, 2, (1, 2, 3, 8)))
        conv = jax.jit(partial(deform_conv2d, strides=(2, 2), padding=((0, 1), (1, 0)), groups=2))
        check_grads(conv, (x, kernel, offset, mask), order=1, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_vmap_and_bfloat16():
    x, kernel, offset = _random((3, 2, 5, 5, 4)), _random((3, 3, 4, 2), 1), _random((3, 2, 3, 3, 18), 2)
    expected = deform_conv2d(x.reshape(6, 5, 5, 4), kernel, offset.reshape(6, 3, 3, 18)).reshape(3, 2, 3, 3, 2)
    mapped = jax.jit(jax.vmap(deform_conv2d, (0, None, 0)))(x, kernel, offset)
    np.testing.assert_allclose(mapped, expected, atol=1e-5)
    half = jax.jit(deform_conv2d)(x[0].astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), offset[0])
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), expected[0], atol=0.15)


def test_a_sharded_batch_stays_on_its_devices():
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2], axis_types=(jax.sharding.AxisType.Auto,))
    arrays = _random((2, 6, 6, 4)), _random((3, 3, 4, 2), 1), _random((2, 4, 4, 18), 2)
    specs = PartitionSpec("data"), PartitionSpec(), PartitionSpec("data")
    placed = [jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip(arrays, specs)]
    step = jax.jit(jax.grad(lambda *a: (deform_conv2d(*a) ** 2).sum(), (0, 1, 2)))
    text = step.lower(*placed).compile().as_text()
    assert "all-gather" not in text
    assert "all-reduce" in text  # the kernel's gradient
    for sharded, alone in zip(step(*placed), step(*arrays)):
        np.testing.assert_allclose(sharded, alone, rtol=1e-4, atol=1e-4)


def test_memory_does_not_grow_with_the_taps():
    def temporaries(side):
        x, kernel = jax.ShapeDtypeStruct((1, 32, 32, 64), jnp.float32), jnp.zeros((side, side, 64, 8))
        pads = ((side // 2, side // 2),) * 2
        offset = jax.ShapeDtypeStruct((1, 32, 32, 2 * side * side), jnp.float32)
        loss = jax.jit(jax.grad(lambda *a: deform_conv2d(*a, padding=pads).sum(), (0, 1, 2)))
        return loss.lower(x, kernel, offset).compile().memory_analysis().temp_size_in_bytes

    # All taps of the 5 x 5 kernel together are 25 * 32 * 32 * 64 floats, and their four corners four times that.
    assert temporaries(5) < 25 * 32 * 32 * 64 * 4


def test_errors_name_the_fix():
    x, kernel = jnp.zeros((1, 5, 5, 4)), jnp.zeros((3, 3, 4, 2))
    with pytest.raises(ValueError, match="needs 18 for each"):
        deform_conv2d(x, kernel, jnp.zeros((1, 3, 3, 9)))
    with pytest.raises(ValueError, match="divides 4"):
        deform_conv2d(x, kernel, jnp.zeros((1, 3, 3, 54)))
    with pytest.raises(AssertionError):
        deform_conv2d(x, kernel, jnp.zeros((1, 5, 5, 18)))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_exports_for_accelerators(platform):
    shape = partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    step = jax.jit(jax.grad(lambda *a: (deform_conv2d(*a) ** 2).sum(), (0, 1, 2)))
    arrays = shape((2, 8, 8, 16)), shape((3, 3, 16, 8)), shape((2, 6, 6, 18))
    text = export.export(step, platforms=[platform])(*arrays).mlir_module()
    assert "stablehlo.gather" in text
    assert "stablehlo.dot_general" in text
