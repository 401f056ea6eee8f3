"""Regions of interest against torchvision's numbers, and bins computed by hand."""

import math
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.test_util import check_grads

from cvjax.ops.detection.roi import multilevel_roi_align, pyramid_level, roi_align, roi_pool

_GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "ops.npz")
_FEATURES, _BOXES = _GOLDEN["roi_features"], _GOLDEN["rois"][:, 1:]
_BATCH_INDEX = _GOLDEN["rois"][:, 0].astype(np.int32)


def _align_by_hand(image, box, output, samples, aligned):
    """The definition, one sample at a time: image [H, W], box in its pixels -> [h, w]."""
    height, width = image.shape
    x1, y1, x2, y2 = np.asarray(box, np.float64) - (0.5 if aligned else 0.0)
    sides = [y2 - y1, x2 - x1] if aligned else [max(y2 - y1, 1), max(x2 - x1, 1)]
    out = np.zeros((*output, samples, samples))
    for i, j, k, m in np.ndindex(out.shape):
        y = y1 + (i + (k + 0.5) / samples) * sides[0] / output[0]
        x = x1 + (j + (m + 0.5) / samples) * sides[1] / output[1]
        if -1 <= y <= height and -1 <= x <= width:
            y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
            for row in range(height):
                for column in range(width):
                    out[i, j, k, m] += image[row, column] * max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
    return out.mean((2, 3))


def _pool_by_hand(features, boxes, batch_index, output, scale):
    """Fast R-CNN's rule in torchvision's order of float32 operations."""

    def away(value):
        return int(math.copysign(math.floor(abs(value) + 0.5), value))

    out = np.zeros((len(boxes), *output, features.shape[-1]), np.float32)
    for r, i, j in np.ndindex(out.shape[:3]):
        x1, y1, x2, y2 = (away(float(np.float32(v) * np.float32(scale))) for v in boxes[r])
        edges = []
        for low, high, bins, k, length in (
            (y1, y2, output[0], i, features.shape[1]),
            (x1, x2, output[1], j, features.shape[2]),
        ):
            step = np.float32(max(high - low + 1, 1)) / np.float32(bins)
            begin = low + int(np.floor(np.float32(k) * step))
            end = low + int(np.ceil(np.float32(k + 1) * step))
            edges.append(slice(*np.clip([begin, end], 0, length)))
        part = features[batch_index[r], edges[0], edges[1]]
        if part.size:
            out[r, i, j] = part.max((0, 1))
    return out


@pytest.mark.parametrize("aligned", [False, True])
def test_align_equals_torchvision(aligned):
    align = jax.jit(partial(roi_align, output_size=(7, 7), spatial_scale=1 / 16, aligned=aligned))
    expected = _GOLDEN["roi_align_7_s2" + ("_aligned" if aligned else "")]
    np.testing.assert_allclose(align(_FEATURES, _BOXES, _BATCH_INDEX), expected, atol=1e-4)


def test_pool_equals_torchvision():
    pool = jax.jit(partial(roi_pool, output_size=(7, 7), spatial_scale=1 / 16))
    np.testing.assert_array_equal(pool(_FEATURES, _BOXES, _BATCH_INDEX), _GOLDEN["roi_pool_7"])


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", [(6, 9), (1, 5), (4, 1)])
def test_align_equals_bins_computed_by_hand(aligned, size):
    image = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    # Inside, over the border, far outside, empty, and inverted.
    boxes = np.asarray([[1, 1, 4, 3], [-3, -2, 12, 8], [20, 20, 30, 25], [2, 2, 2, 2], [4, 3, 1, 1]], np.float32)
    align = jax.jit(partial(roi_align, output_size=(2, 3), sampling_ratio=3, aligned=aligned))
    out = align(image[None, :, :, None], boxes, np.zeros(len(boxes), np.int32))
    expected = [_align_by_hand(image, box, (2, 3), 3, aligned) for box in boxes]
    np.testing.assert_allclose(out[..., 0], expected, atol=1e-5)


def test_pool_equals_bins_computed_by_hand():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 9, 12, 2)).astype(np.float32)
    # Corners on halves, where rounding decides; outside the map; inverted; and far larger than the map.
    boxes = rng.integers(-8, 40, (40, 4)).astype(np.float32) / 2
    boxes[-2:] = [[-500, -300, 700, 900], [100, 100, 120, 120]]
    index = rng.integers(0, 2, 40).astype(np.int32)
    for output in ((7, 7), (2, 3)):
        out = jax.jit(partial(roi_pool, output_size=output))(features, boxes, index)
        np.testing.assert_array_equal(out, _pool_by_hand(features, boxes, index, output, 1.0))
    # Sides of 31 and 57 pixels in 7 bins: here float32 and exact arithmetic differ by a pixel.
    wide = rng.standard_normal((1, 1, 64, 1)).astype(np.float32)
    boxes = np.asarray([[0, 0, 30, 0], [2, 0, 58, 0], [1, 0, 62, 0]], np.float32)
    out = jax.jit(partial(roi_pool, output_size=(1, 7)))(wide, boxes, np.zeros(3, np.int32))
    np.testing.assert_array_equal(out, _pool_by_hand(wide, boxes, [0, 0, 0], (1, 7), 1.0))


def test_pool_sends_the_gradient_to_the_first_largest_pixel():
    features = jnp.asarray([[0.0, 1, 2], [0, 2, 2]])[None, :, :, None]
    boxes, index = jnp.asarray([[0.0, 0, 2, 1], [5, 5, 9, 9]]), jnp.zeros(2, jnp.int32)

    def total(features, boxes):
        return roi_pool(features, boxes, index, (1, 1)).sum()

    by_features, by_boxes = jax.jit(jax.grad(total, (0, 1)))(features, boxes)
    np.testing.assert_array_equal(by_features[0, :, :, 0], [[0, 0, 1], [0, 0, 0]])
    assert not by_boxes.any()
    _, tangent = jax.jvp(lambda f: total(f, boxes), (features,), (features * 3,))
    np.testing.assert_allclose(tangent, 6.0)


def test_align_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        features = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 6, 2)))
        # No sample of these lies on a pixel, where the slope jumps.
        boxes = jnp.asarray([[0.37, 0.21, 3.63, 4.11], [-1.23, 1.4, 4.4, 7.31]])
        align = jax.jit(lambda f, b: roi_align(f, b, jnp.asarray([1, 0]), (2, 2), aligned=True))
        check_grads(align, (features, boxes), order=1, atol=1e-5, rtol=1e-5)


def test_pyramid_levels():
    squares = [1, 111, 112, 223.9, 224, 448]
    sides = np.asarray([*((side, side) for side in squares), (5000, 3000), (112, 448)])
    boxes = np.concatenate([np.full_like(sides, 7), 7 + sides], axis=1)
    np.testing.assert_array_equal(pyramid_level(boxes, 2, 5), [2, 2, 3, 3, 4, 5, 5, 4])
    np.testing.assert_array_equal(pyramid_level(boxes, 3, 4), [3, 3, 3, 3, 4, 4, 4, 4])
    np.testing.assert_array_equal(pyramid_level(jnp.zeros((2, 4)), 2, 5), [2, 2])
    assert pyramid_level(boxes, 2, 5, canonical_level=3, canonical_size=112)[1] == 2


def test_multilevel_reads_each_box_from_its_level():
    rng = np.random.default_rng(0)
    pyramid = [rng.standard_normal((2, *size, 3)).astype(np.float32) for size in ((20, 28), (10, 14), (5, 7), (3, 4))]
    low = rng.uniform(0, 60, (24, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 120, (24, 2))], axis=1).astype(np.float32)
    index = rng.integers(0, 2, 24).astype(np.int32)
    settings = {"canonical_size": 32.0, "sampling_ratio": 2, "aligned": True}
    out = jax.jit(partial(multilevel_roi_align, output_size=(2, 2), **settings))(pyramid, boxes, index)
    levels = np.asarray(pyramid_level(boxes, 2, 5, canonical_size=32.0))
    assert set(levels) == {2, 3, 4, 5}
    for level in range(2, 6):
        single = jax.jit(partial(roi_align, output_size=(2, 2), spatial_scale=2.0**-level, aligned=True))
        here = levels == level
        np.testing.assert_allclose(out[here], single(pyramid[level - 2], boxes, index)[here], atol=1e-5)


def test_vmap_over_images_and_bfloat16():
    boxes = jnp.stack([jnp.asarray(_BOXES[:5]), jnp.asarray(_BOXES[5:10])])
    nought = jnp.zeros(5, jnp.int32)
    for operator, tolerance in ((roi_align, 1e-5), (roi_pool, 0.0)):
        pool = partial(operator, output_size=(3, 3), spatial_scale=1 / 16)
        mapped = jax.jit(jax.vmap(lambda f, b, pool=pool: pool(f[None], b, nought)))(_FEATURES, boxes)
        index = jnp.repeat(jnp.arange(2), 5)
        expected = jax.jit(pool)(_FEATURES, boxes.reshape(10, 4), index).reshape(mapped.shape)
        np.testing.assert_allclose(mapped, expected, atol=tolerance)
        half = jax.jit(pool)(jnp.asarray(_FEATURES, jnp.bfloat16), boxes.reshape(10, 4), index)
        assert half.dtype == jnp.bfloat16
        np.testing.assert_allclose(half.astype(jnp.float32).reshape(mapped.shape), expected, atol=0.04)


def test_errors_name_the_fix():
    with pytest.raises(ValueError, match="at least 1"):
        roi_align(_FEATURES, _BOXES, _BATCH_INDEX, (7, 7), sampling_ratio=-1)
    with pytest.raises(ValueError, match="twice the"):
        multilevel_roi_align([_FEATURES] * 2, _BOXES, _BATCH_INDEX, (7, 7), strides=(4, 12))
    with pytest.raises(AssertionError):
        roi_pool(_FEATURES[0], _BOXES, _BATCH_INDEX, (7, 7))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_exports_for_accelerators(platform):
    def loss(pyramid, boxes, index):
        aligned = multilevel_roi_align(pyramid, boxes, index, (7, 7), strides=(8, 16))
        return (aligned**2).sum() + (roi_pool(pyramid[0], boxes, index, (7, 7)) ** 2).sum()

    shape = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    pyramid = [shape((2, 16, 20, 8)), shape((2, 8, 10, 8))]
    index = jax.ShapeDtypeStruct((10,), jnp.int32)
    exported = export.export(jax.jit(jax.grad(loss)), platforms=[platform])(pyramid, shape((10, 4)), index)
    assert [a.shape for a in exported.out_avals] == [(2, 16, 20, 8), (2, 8, 10, 8)]
