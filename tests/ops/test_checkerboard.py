"""The measure of checkerboards, and what has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.nn import ConvTranspose, ResizeConv
from cvjax.ops.checkerboard import checkerboard_energy


def _inside(layer, stride):
    """A layer's answer to a constant image, without the pixels that its border reaches."""
    y, _ = layer.init_with_output(jax.random.key(1), jnp.ones((1, 12, 12, 3)))
    return y[:, 2 * stride : -2 * stride, 2 * stride : -2 * stride]


def test_transposed_convolution_has_it_and_resize_convolution_does_not():
    assert checkerboard_energy(_inside(ConvTranspose(8, (3, 3), (2, 2)), 2), 2).min() > 0.05
    for method in ("nearest", "bilinear"):
        assert checkerboard_energy(_inside(ResizeConv(8, method=method), 2), 2).max() < 1e-10


def test_a_kernel_of_equal_weights_has_it_only_if_no_multiple_of_the_stride():
    ones = jax.nn.initializers.ones
    uneven = _inside(ConvTranspose(1, (3, 3), (2, 2), kernel_init=ones), 2)
    # 1, 2, 2 and 4 taps fall on the phases: mean 2.25, mean square 6.25.
    np.testing.assert_allclose(checkerboard_energy(uneven, 2), (6.25 - 2.25**2) / 6.25, rtol=1e-5)
    even = _inside(ConvTranspose(1, (4, 4), (2, 2), kernel_init=ones), 2)
    np.testing.assert_allclose(checkerboard_energy(even, 2), 0.0, atol=1e-10)


def test_it_is_the_energy_of_the_patterns_frequencies():
    """Against the Fourier transform: multiples of 1 / 3 along both axes, without the mean."""
    maps = np.random.default_rng(0).standard_normal((2, 12, 18, 4)) + 0.3
    spectrum = np.abs(np.fft.fft2(maps, axes=(1, 2))) ** 2
    pattern = spectrum[:, ::4, ::6].sum((1, 2)) - spectrum[:, 0, 0]
    np.testing.assert_allclose(checkerboard_energy(maps, 3), pattern / spectrum.sum((1, 2)), rtol=1e-4)


def test_bounds():
    board = (jnp.indices((9, 11), dtype=float).sum(0) % 2 * 2 - 1)[None, :, :, None]
    np.testing.assert_allclose(checkerboard_energy(1e-3 * board, 2), 1.0, rtol=1e-5)
    for constant in (0.0, 5.0):
        assert checkerboard_energy(jnp.full((1, 9, 11, 1), constant), 2) == 0
    ramp = jnp.broadcast_to(jnp.arange(24.0)[None, :, None, None] - 11.5, (1, 24, 24, 1))
    np.testing.assert_allclose(checkerboard_energy(ramp, 2), (2**2 - 1) / (24**2 - 1), rtol=1e-4)


@pytest.mark.parametrize("period", [1, 10])
def test_periods_that_no_map_can_have(period):
    with pytest.raises(ValueError, match="9x11"):
        checkerboard_energy(jnp.zeros((1, 9, 11, 1)), period)
