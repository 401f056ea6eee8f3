"""Upsampling onto any part of the fine grid, against a whole transposed convolution that is cropped."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvjax.nn.initializers import bilinear
from cvjax.ops.resize import resize
from cvjax.ops.upsample import transposed_window, upsample

X = np.random.default_rng(0).standard_normal((2, 4, 6, 3), np.float32)


def _whole(x, stride, around):
    """The bilinear transposed convolution of a map with zeros around it, from pixel -around * stride on."""
    side = 2 * stride - stride % 2
    x = jnp.pad(jnp.asarray(x), ((0, 0), (around, around), (around, around), (0, 0)))
    kernel = bilinear()(None, (side, side, x.shape[-1], x.shape[-1]))
    y = jax.lax.conv_transpose(x, kernel, (stride, stride), "VALID")
    first = (side - stride) // 2
    return np.asarray(y)[:, first:, first:]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_transposed_is_a_crop_of_the_transposed_convolution(stride):
    whole = _whole(X, stride, around=6)
    for size, offset in (((3, 5), (-2, 1)), ((1, 1), (7, 4)), ((4 * stride + 1, 9), (0, -stride))):
        top, left = (6 * stride + o for o in offset)
        expected = whole[:, top : top + size[0], left : left + size[1]]
        np.testing.assert_allclose(upsample(X, stride, size, offset, "transposed"), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_whole_grid_is_a_resize(method, stride):
    expected = resize(X, (4 * stride, 6 * stride), method)
    np.testing.assert_allclose(upsample(X, stride, method=method), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_parts_of_the_grid_are_crops_and_the_border_goes_on(method):
    continued = np.pad(X, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    whole = np.asarray(resize(continued, (32, 40), method))
    part = upsample(X, 4, (21, 13), (-3, 5), method)
    np.testing.assert_allclose(part, whole[:, 5:26, 13:26], atol=1e-5)


def test_types_and_mistakes():
    assert upsample(jnp.asarray(X, jnp.bfloat16), 2).dtype == jnp.bfloat16
    labels = np.arange(6).reshape(2, 3)
    enlarged = upsample(jnp.asarray(labels)[None, :, :, None], 2, method="nearest")[0, :, :, 0]
    assert enlarged.tolist() == np.kron(labels, np.ones((2, 2))).tolist()
    with pytest.raises(ValueError, match="at least 1"):
        upsample(X, 2, (0, 3))
    with pytest.raises(ValueError, match="'cubic'"):
        upsample(X, 2, method="cubic")


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 7), st.integers(1, 30), st.integers(1, 5), st.integers(1, 9), st.integers(-20, 40))
def test_windows_hold_what_reaches_the_result(source, target, stride, kernel, offset):
    """The taps of every pixel that the window leaves are those of the whole map, counted one by one."""
    kept, (before, after) = transposed_window(source, target, stride, kernel, offset)
    assert 0 <= kept.start < kept.stop <= source
    spread = (kept.stop - kept.start - 1) * stride + 1
    assert spread + before + after - kernel + 1 == target
    reached = False
    for pixel in range(target):
        position, here = offset + pixel + (kernel - stride) // 2, pixel + kernel - 1 - before
        taps = {j for j in range(source) if 0 <= position - stride * j < kernel}
        assert {j for j in range(kept.start, kept.stop) if 0 <= here - stride * (j - kept.start) < kernel} == taps
        reached |= bool(taps)
    assert not reached or min(before, after) >= 0


def test_filter_is_flaxs_transposed_convolution_of_a_ramp():
    """Away from the border interpolation of a ramp is the ramp."""
    ramp = jnp.broadcast_to(jnp.arange(6.0)[None, :, None, None], (1, 6, 6, 1))
    layer = linen.ConvTranspose(1, (4, 4), (2, 2), use_bias=False, kernel_init=bilinear())
    y = layer.init_with_output(jax.random.key(0), ramp)[0][0, 2:-2, 4, 0]
    np.testing.assert_allclose(y, (np.arange(12) + 0.5)[2:-2] / 2 - 0.5, atol=1e-6)
    np.testing.assert_allclose(upsample(ramp, 2, method="transposed")[0, 2:-2, 4, 0], y, atol=1e-6)
