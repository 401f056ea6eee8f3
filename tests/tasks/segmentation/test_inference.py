"""Test-time inference: scales, mirror images, windows and pictures of any size."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.ops.resize import resize
from cvjax.tasks.segmentation import inference

KERNEL = jax.random.normal(jax.random.key(0), (3, 3, 3, 4))


def convolve(images: jax.Array, kernel: jax.Array = KERNEL) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pixelwise(images: jax.Array) -> jax.Array:
    return images @ KERNEL[1, 1]


def pictures(height: int = 12, width: int = 17, batch: int = 2) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (batch, height, width, 3))


def segment(model, images: jax.Array, **options) -> jax.Array:
    """`inference.segment` under jit: one compilation instead of one for every operation."""
    return jax.jit(lambda x: inference.segment(model, x, **options))(images)


def test_one_scale_is_plain_softmax():
    x = pictures()
    probabilities = segment(convolve, x)
    chex.assert_shape(probabilities, (2, 12, 17, 4))
    chex.assert_trees_all_close(probabilities, jax.nn.softmax(convolve(x)), rtol=1e-6)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)


def test_flip_makes_any_model_flip_equivariant():
    x = pictures()
    plain, mirrored = (segment(convolve, x, flip=True) for x in (x, x[:, :, ::-1]))
    chex.assert_trees_all_close(plain, mirrored[:, :, ::-1], atol=1e-6)
    assert np.abs(plain - segment(convolve, x)).max() > 0.01  # the kernel itself is not symmetric


def test_flip_changes_nothing_for_an_equivariant_model():
    symmetric = KERNEL + KERNEL[:, ::-1]
    x = pictures()
    flipped = segment(lambda x: convolve(x, symmetric), x, flip=True)
    chex.assert_trees_all_close(flipped, segment(lambda x: convolve(x, symmetric), x), atol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_scales_average_as_by_hand(flip):
    x = pictures()
    shapes = []

    def model(x: jax.Array) -> jax.Array:
        shapes.append(x.shape[1:3])
        return convolve(x)

    got = segment(model, x, scales=(0.5, 1.0, 1.5), flip=flip)
    assert set(shapes) == {(6, 9), (12, 17), (18, 26)}

    @jax.jit
    def by_hand(x: jax.Array) -> jax.Array:
        expected = []
        for size in ((6, 9), (12, 17), (18, 26)):
            scaled = resize(x, size)
            expected.append(jax.nn.softmax(resize(convolve(scaled), (12, 17))))
            if flip:
                mirrored = resize(convolve(scaled[:, :, ::-1]), (12, 17))
                expected.append(jax.nn.softmax(mirrored)[:, :, ::-1])
        return sum(expected) / len(expected)

    chex.assert_trees_all_close(got, by_hand(x), atol=1e-5)


@pytest.mark.parametrize("window", [(12, 17), (100, 100), (12, 1000)])
def test_a_window_as_large_as_the_image_is_the_plain_model(window):
    x = pictures()
    chex.assert_trees_all_close(segment(convolve, x, window=window), segment(convolve, x), atol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 1 / 3, 0.75])
def test_windows_of_a_pixelwise_model_change_nothing(overlap):
    x = pictures(23, 31)
    got = segment(pixelwise, x, window=(7, 9), overlap=overlap)
    chex.assert_trees_all_close(got, segment(pixelwise, x), atol=1e-6)


def test_windows_of_a_constant_model():
    def constant(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.array([0.0, 1.0, 2.0]), (*x.shape[:3], 3))

    got = segment(constant, pictures(23, 31), window=(8, 8), flip=True, scales=(0.5, 1.0))
    chex.assert_trees_all_close(got, jnp.broadcast_to(jax.nn.softmax(jnp.arange(3.0)), got.shape), atol=1e-6)


def test_overlapping_logits_are_averaged():
    # Each window answers with the number of the column at which it starts, so the mean is known by hand.
    x = jnp.broadcast_to(jnp.arange(6.0)[:, None], (1, 2, 6, 3))

    def first_column(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x[:, :, :1, :1], (*x.shape[:3], 1))

    logits = inference.sliding_logits(first_column, x, (2, 4), overlap=0.5)
    np.testing.assert_allclose(logits[0, 0, :, 0], [0, 0, 1, 1, 2, 2])


def test_windows_hold_one_copy_of_the_model():
    traces = []

    def model(x: jax.Array) -> jax.Array:
        traces.append(x.shape)
        return pixelwise(x)

    text = str(jax.make_jaxpr(lambda x: inference.segment(model, x, window=(4, 4), flip=True))(pictures(40, 40)))
    assert text.count("dot_general[") == 1
    assert set(traces) == {(2, 4, 4, 3)}


@hypothesis.given(st.integers(1, 400), st.integers(1, 200), st.floats(0, 0.99))
def test_windows_cover_every_pixel(size, window, overlap):
    starts = inference.window_starts(size, window, overlap)
    window = min(window, size)
    covered = np.zeros(size, int)
    for start in starts:
        assert 0 <= start <= size - window
        covered[start : start + window] += 1
    assert covered.min() >= 1
    assert len(set(starts)) == len(starts)


def test_published_windows():
    assert inference.window_starts(2048, 769, 1 / 3) == (0, 513, 1026, 1279)
    assert inference.window_starts(513, 513) == (0,)


@pytest.mark.parametrize(
    "options",
    [
        {"scales": ()},
        {"scales": (0.0,)},
        {"scales": (float("nan"),)},
        {"window": (0, 4)},
        {"window": (4, 4), "overlap": 1.0},
        {"window": (4, 4), "overlap": -0.1},
    ],
)
def test_options_that_mean_nothing(options):
    with pytest.raises(ConfigError, match=r"scales|window|overlap"):
        inference.segment(pixelwise, pictures(), **options)


def test_images_must_be_float_and_logits_of_the_same_size():
    with pytest.raises(AssertionError):
        segment(pixelwise, jnp.zeros((1, 4, 4, 3), jnp.uint8))
    with pytest.raises(AssertionError):
        segment(lambda x: pixelwise(x)[:, ::2], pictures())
