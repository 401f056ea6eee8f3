"""Geometric augmentation, against plain resizing and cropping."""

import pickle
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import train_transform

from cvjax.errors import ConfigError, DataError
from cvjax.tasks.scale_crop import (
    EvalTransform,
    ScaleAndCropData,
    TrainTransform,
    nearest_window,
    resize_pair,
    resized_window,
    scaled_size,
)


def noise(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, the hardest image to resample: neighboring pixels have nothing in common."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(0, 21, (height, width), np.uint8)


def position_pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and a mask that both hold the column's number, so that each can be checked by the other."""
    mask = np.tile(np.arange(width, dtype=np.uint8), (height, 1))
    return np.repeat(mask[..., None], 3, axis=2), mask


def still(crop: tuple[int, int], scale: float = 1.0, **options) -> TrainTransform:
    """A transform of one scale that never mirrors."""
    return train_transform(crop, **({"min_scale": scale, "max_scale": scale, "flip": 0.0} | options))


scales = st.one_of(
    st.integers(2, 8).map(lambda quarters: Fraction(quarters, 4)),
    st.integers(16, 160).map(lambda parts: Fraction(parts, 64)),
    st.integers(5, 20).map(lambda tenths: Fraction(tenths, 10)),
)


@given(data=st.data(), height=st.integers(8, 150), width=st.integers(8, 150), scale=scales)
@settings(max_examples=150, deadline=None)
def test_a_window_equals_the_same_cut_from_the_whole(data, height, width, scale):
    image, mask = noise(height, width, seed=height * 1000 + width)
    full = scaled_size((height, width), scale)
    corner = tuple(data.draw(st.integers(0, extent - 1)) for extent in full)
    size = tuple(data.draw(st.integers(1, extent - first)) for extent, first in zip(full, corner))
    cut = tuple(slice(first, first + count) for first, count in zip(corner, size))

    whole = cv2.resize(image, None, fx=float(scale), fy=float(scale), interpolation=cv2.INTER_LINEAR)
    window = resized_window(image, scale, corner, size)
    assert window.shape == (*size, 3)
    assert np.abs(window.astype(int) - whole[cut]).max() <= 1

    rows, columns = (np.floor((np.arange(extent) + 0.5) / float(scale) + 1e-9).astype(int) for extent in full)
    np.testing.assert_array_equal(nearest_window(mask, scale, corner, size), mask[np.ix_(rows, columns)][cut])


@pytest.mark.parametrize("quarters", [2, 3, 5, 6, 7, 8])
def test_a_training_crop_is_nearly_always_the_plain_one_to_the_last_bit(quarters):
    image, mask = noise(375, 500)
    scale = quarters / 4
    whole = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    crop = (150, 180)
    cut, _ = still(crop, scale)(image, mask, np.random.default_rng(3))
    top, left = _corner(scaled_size(mask.shape, Fraction(quarters, 4)), crop, seed=3)
    difference = np.abs(cut.astype(int) - whole[top : top + crop[0], left : left + crop[1]])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005


def _corner(full: tuple[int, int], crop: tuple[int, int], seed: int) -> tuple[int, int]:
    """What a transform of one scale draws: the scale, then top and left."""
    rng = np.random.default_rng(seed)
    rng.integers(1)
    return tuple(int(rng.integers(0, have - want + 1)) for have, want in zip(full, crop))


def test_scale_one_copies_pixels():
    image, mask = noise(40, 50)
    cut_image, cut_mask = still((30, 20))(image, mask, np.random.default_rng(1))
    top, left = _corner((40, 50), (30, 20), seed=1)
    np.testing.assert_array_equal(cut_image, image[top : top + 30, left : left + 20])
    np.testing.assert_array_equal(cut_mask, mask[top : top + 30, left : left + 20])


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 1.75, 2.0])
def test_mask_stays_in_register_with_the_image(scale):
    image, mask = position_pair(60, 100)
    for seed in range(8):
        transform = still((32, 40), scale, flip=0.5)
        cut_image, cut_mask = transform(image, mask, np.random.default_rng(seed))
        inside = cut_mask != 255
        # Half a source pixel is the most that rounding to a pixel may cost, and linear weights another level.
        assert np.abs(cut_image[..., 0].astype(int) - cut_mask)[inside].max() <= 1
        bias = (cut_image[..., 0].astype(float) - cut_mask)[inside].mean()
        assert abs(bias) < 0.51 if scale == 0.5 else abs(bias) < 0.3


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_padding_holds_the_mean_and_ignore(flip):
    image, mask = noise(20, 30)
    transform = still((32, 48), fill=(1, 2, 3), flip=flip)
    padded_image, padded_mask = transform(image, mask, np.random.default_rng(0))
    assert padded_image.shape == (32, 48, 3)
    if flip:
        padded_image, padded_mask = padded_image[:, ::-1], padded_mask[:, ::-1]
    np.testing.assert_array_equal(padded_image[:20, :30], image)
    np.testing.assert_array_equal(padded_mask[:20, :30], mask)
    outside = np.ones((32, 48), bool)
    outside[:20, :30] = False
    assert (padded_image[outside] == (1, 2, 3)).all()
    assert (padded_mask[outside] == 255).all()


def test_mirroring_moves_both():
    image, mask = noise(24, 24)
    plain = still((16, 16), flip=0.0)(image, mask, np.random.default_rng(5))
    mirrored = still((16, 16), flip=1.0)(image, mask, np.random.default_rng(5))
    np.testing.assert_array_equal(mirrored[0], plain[0][:, ::-1])
    np.testing.assert_array_equal(mirrored[1], plain[1][:, ::-1])


@given(
    seed=st.integers(0, 2**32),
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    step=st.sampled_from([0.0, 0.1, 0.25, 1 / 3]),
)
@settings(max_examples=60, deadline=None)
def test_any_draw_gives_the_crop(seed, height, width, step):
    transform = train_transform((41, 57), scale_step=step)
    image, mask = transform(*noise(height, width), np.random.default_rng(seed))
    assert (image.shape, mask.shape) == ((41, 57, 3), (41, 57))
    assert image.dtype == mask.dtype == np.uint8
    again = transform(*noise(height, width), np.random.default_rng(seed))
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(mask, again[1])


def test_every_scale_of_the_range_is_drawn():
    rng = np.random.default_rng(0)
    stepped = {train_transform((8, 8))._draw_scale(rng) for _ in range(300)}
    assert stepped == {Fraction(quarters, 4) for quarters in range(2, 9)}
    tenths = {train_transform((8, 8), scale_step=0.1)._draw_scale(rng) for _ in range(600)}
    assert tenths == {Fraction(tenth, 10) for tenth in range(5, 21)}
    free = [float(train_transform((8, 8), scale_step=0)._draw_scale(rng)) for _ in range(300)]
    assert 0.5 <= min(free) < 0.6
    assert 1.9 < max(free) <= 2.0


def test_fixed_resize_comes_first():
    image, mask = noise(360, 480)
    small_image, small_mask = resize_pair(image, mask, (180, 240))
    trained = still((180, 240), resize=(180, 240))(image, mask, np.random.default_rng(0))
    evaluated = EvalTransform((192, 256), resize=(180, 240))(image, mask)
    for pair in (trained, [part[:180, :240] for part in evaluated[:2]]):
        np.testing.assert_array_equal(pair[0], small_image)
        np.testing.assert_array_equal(pair[1], small_mask)
    assert evaluated[2] == (180, 240)
    assert small_image.shape == (180, 240, 3)
    assert set(np.unique(small_mask)) <= set(np.unique(mask))


def test_evaluation_pads_at_the_bottom_and_right():
    image, mask = noise(20, 30)
    padded_image, padded_mask, size = EvalTransform((24, 40), fill=(9, 8, 7))(image, mask)
    assert size == (20, 30)
    np.testing.assert_array_equal(padded_image[:20, :30], image)
    np.testing.assert_array_equal(padded_mask[:20, :30], mask)
    assert (padded_image[20:] == (9, 8, 7)).all()
    assert (padded_image[:, 30:] == (9, 8, 7)).all()
    assert (padded_mask[20:] == 255).all()
    assert (padded_mask[:, 30:] == 255).all()


def test_evaluation_refuses_a_larger_image():
    with pytest.raises(DataError, match=r"voc/2007_000032 is 20x30 .* 24x29: raise the evaluation size"):
        EvalTransform((24, 29))(*noise(20, 30), "voc/2007_000032")


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5,), (5, 5, 5), (5.0, 5), 5, None])
@pytest.mark.parametrize("transform", [lambda size: ScaleAndCropData(crop=size), EvalTransform])
def test_sizes_are_checked(transform, size):
    with pytest.raises(ConfigError, match="two positive whole numbers"):
        transform(size)


@pytest.mark.parametrize(
    "options",
    [
        {"min_scale": 0.0},
        {"min_scale": 2.0, "max_scale": 1.0},
        {"scale_step": -0.25},
        {"flip": 1.5},
        {"fill": (0, 0, 256)},
        {"fill": (0, 0)},
        {"ignore": 256},
        {"resize": (0, 4)},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(ConfigError):
        train_transform((8, 8), **options)


def test_evaluation_resize_must_fit():
    with pytest.raises(ConfigError, match="exceeds size"):
        EvalTransform((8, 8), resize=(8, 9))


@pytest.mark.parametrize("transform", [train_transform((8, 9)), EvalTransform((8, 9))])
def test_transforms_pickle(transform):
    assert pickle.loads(pickle.dumps(transform)) == transform
