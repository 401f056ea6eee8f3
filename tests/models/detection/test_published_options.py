"""Options with which our detectors compute what published ones do, against computations of their own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.detection.detector import Proposals, beside_images
from cvjax.models.detection.inclusive import clip_decoded, pooled_corners
from cvjax.models.detection.rpn import Level, Selection, propose
from cvjax.ops.detection.anchors import paper_cell_anchors
from cvjax.ops.detection.corner_align import corner_align

VGG = {"widths": (2, 2, 3, 3, 4), "hidden": 8, "stage_sizes": (1, 1, 1, 1, 1)}
FIVE = {"channels": (4, 4, 4, 4, 4), "hidden": 8}
TINY = {"num_classes": 3, "rpn_channels": 4, "rpn_post_nms_top_n": (8, 8)}


def _shapes(name, **options):
    model = create_model(name, **options)
    images = jnp.zeros((1, 96, 128, 3))
    made = jax.eval_shape(lambda: model.init(jax.random.key(0), images, **beside_images(model, images.shape)))
    return jax.tree.map(lambda leaf: leaf.shape, made)


@pytest.mark.parametrize(
    ("name", "plain", "changed"),
    [
        ("faster_rcnn_vgg16", TINY | {"backbone": VGG}, {"inclusive_boxes": True}),
        ("faster_rcnn_vgg16", TINY | {"backbone": VGG}, {"round_anchors": False, "floor_pools": True}),
        ("faster_rcnn_vgg16", TINY | {"backbone": VGG}, {"region_reader": "corner_align"}),
        ("fast_rcnn_vgg16", {"num_classes": 3, "backbone": VGG}, {"inclusive_boxes": True}),
        ("sppnet_zf5", {"num_classes": 3, "backbone": FIVE, "scales": (96,)}, {"map_start": 20.0}),
    ],
)
def test_options_leave_the_parameters(name, plain, changed):
    assert _shapes(name, **plain) == _shapes(name, **plain, **changed)


def test_anchors_are_not_rounded():
    cell = paper_cell_anchors(rounded=False)
    sides = cell[:, 2:] - cell[:, :2]
    np.testing.assert_allclose(sides[0], [128 * 2**0.5, 128 / 2**0.5], rtol=1e-6)
    np.testing.assert_allclose((cell[:, 2:] + cell[:, :2]) / 2, 8, atol=1e-4)
    np.testing.assert_allclose(np.prod(sides, axis=1), np.tile([128, 256, 512], 3) ** 2, rtol=1e-5)
    model = create_model("faster_rcnn_vgg16", round_anchors=False)
    np.testing.assert_array_equal(model.anchors((16, 16), [jnp.zeros((1, 1, 1, 1))])[0], cell)


def test_poolings_drop_the_last_row():
    images = jnp.zeros((1, 50, 70, 3))
    for floor, sides in ((False, (4, 5)), (True, (3, 4))):
        model = create_model("faster_rcnn_vgg16", **TINY, backbone=VGG, floor_pools=floor)
        made = jax.eval_shape(partial(model.init_with_output, method="features"), jax.random.key(0), images)
        assert made[0]["stage5"].shape[1:3] == sides


def test_corners_that_are_pixels():
    boxes = jnp.asarray([[[-3.0, 2, 30, 9], [4, 5, 6, 7]]])
    size = (jnp.asarray([[10]]), jnp.asarray([[20]]))
    # Caffe's corners after its decoding: x2 at most 19, y2 at most 9, and then the end of that pixel.
    np.testing.assert_array_equal(clip_decoded(boxes, size, True), [[[0, 2, 20, 10], [4, 5, 7, 8]]])
    np.testing.assert_array_equal(clip_decoded(boxes, size, False), [[[0, 2, 20, 9], [4, 5, 6, 7]]])
    np.testing.assert_array_equal(pooled_corners(boxes, True), boxes - np.float32([[[0, 0, 1, 1]]]))
    assert pooled_corners(boxes, False) is boxes


def test_proposals_as_py_faster_rcnn_computes_them():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (12, 2)).round()
    anchors = np.concatenate([corners, corners + rng.integers(8, 40, (12, 2))], axis=1)  # their last pixel belongs
    deltas, scores = rng.normal(0, 0.3, (12, 4)), rng.standard_normal(12)
    width, height = 64, 48
    sides = anchors[:, 2:] - anchors[:, :2] + 1
    centers = anchors[:, :2] + 0.5 * sides + deltas[:, :2] * sides
    grown = np.exp(deltas[:, 2:]) * sides
    theirs = np.concatenate([centers - 0.5 * grown, centers + 0.5 * grown], axis=1)
    theirs = np.clip(theirs, 0, [width - 1, height - 1, width - 1, height - 1])
    large = (theirs[:, 2:] - theirs[:, :2] + 1 >= 16).all(axis=1)
    kept = []
    for place in np.argsort(-scores):
        if large[place] and all(_overlap(theirs[place], theirs[other]) <= 0.5 for other in kept):
            kept.append(place)
    assert 2 < len(kept) < large.sum() < 12
    level = Level(
        jnp.asarray(scores[None], jnp.float32),
        jnp.asarray(deltas[None], jnp.float32),
        jnp.asarray(anchors + np.float64([0, 0, 1, 1]), jnp.float32),
    )
    found = propose([level], jnp.asarray([[height, width]]), Selection(12, 12, 0.5, 16.0, inclusive=True))
    np.testing.assert_allclose(found.boxes[0][found.valid[0]], theirs[kept] + [0, 0, 1, 1], atol=1e-4)


def _overlap(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0))
    areas = [np.prod(box[2:] - box[:2] + 1) for box in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.slow
def test_regions_are_read_by_their_last_pixels():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((1, 96, 128, 3)), jnp.float32)
    boxes = jnp.asarray([[[0, 0, 72, 56], [10, 20, 88, 72]]], jnp.float32)
    sizes = jnp.asarray([[96, 128]])
    proposals = Proposals(boxes, jnp.ones((1, 2), bool))
    plain = create_model("fast_rcnn_vgg16", num_classes=3, backbone=VGG)
    inclusive = create_model("fast_rcnn_vgg16", num_classes=3, backbone=VGG, inclusive_boxes=True)
    variables = plain.init(jax.random.key(0), images, sizes, proposals)
    maps = jnp.asarray(rng.standard_normal((1, 6, 8, 4)), jnp.float32)
    last = boxes - jnp.asarray([[[0, 0, 1, 1]]], jnp.float32)
    found = inclusive.apply(variables, maps, boxes, method="classify")
    for ours, theirs in zip(found, plain.apply(variables, maps, last, method="classify")):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(found[0], plain.apply(variables, maps, boxes, method="classify")[0])


def test_corner_align_samples_the_corners_of_bins():
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((2, 6, 7, 3)).astype(np.float32)
    boxes = np.float32([[3, 5, 60, 40], [0, 0, 111, 95], [70, 60, 140, 120]])
    index, bins = np.int32([0, 1, 1]), (3, 2)
    wanted = np.zeros((3, *bins, 3))
    for number, (x1, y1, x2, y2) in enumerate(boxes / 16):
        samples = np.zeros((bins[0] + 1, bins[1] + 1, 3))
        for i in range(bins[0] + 1):
            for j in range(bins[1] + 1):
                y, x = y1 + i * (y2 - y1 + 1) / bins[0], x1 + j * (x2 - x1 + 1) / bins[1]
                if y < 6 and x < 7:
                    top, left = min(int(y), 4), min(int(x), 5)
                    rows = maps[index[number], top : top + 2, left : left + 2]
                    by_row, by_column = np.float64([1 - (y - top), y - top]), np.float64([1 - (x - left), x - left])
                    samples[i, j] = np.einsum("i,j,ijc->c", by_row, by_column, rows)
        for i in range(bins[0]):
            for j in range(bins[1]):
                wanted[number, i, j] = samples[i : i + 2, j : j + 2].mean(axis=(0, 1))
    found = corner_align(jnp.asarray(maps), jnp.asarray(boxes), jnp.asarray(index), bins, spatial_scale=1 / 16)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    with pytest.raises(ValueError, match="at least 2 x 2"):
        corner_align(jnp.zeros((1, 1, 4, 2)), jnp.asarray(boxes), jnp.asarray(index), bins)


@pytest.mark.slow
def test_a_detector_reads_regions_by_corner_align():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((1, 96, 128, 3)), jnp.float32)
    model = create_model("faster_rcnn_vgg16", **TINY, backbone=VGG, region_reader="corner_align", inclusive_boxes=True)
    variables = model.init(jax.random.key(0), images)
    boxes = jnp.asarray([[[8, 8, 73, 57]]], jnp.float32)

    def read(model, images, boxes):
        maps = model._maps(images, False)
        return maps[0], model._pool(maps, boxes[0])

    maps, pooled = model.apply(variables, images, boxes, method=read)
    last = boxes[0] - jnp.asarray([[0, 0, 1, 1]], jnp.float32)
    wanted = corner_align(maps, last, jnp.zeros(1, jnp.int32), (7, 7), spatial_scale=1 / 16)
    np.testing.assert_array_equal(pooled, wanted)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("faster_rcnn_zf", {"floor_pools": True}, "floor_pools is for a VGG"),
        ("faster_rcnn_zf", {"region_reader": "crop"}, "region_reader is 'roi_pool' or 'corner_align'"),
        ("fasterrcnn_resnet18_fpn", {"inclusive_boxes": True}, "without a pyramid"),
        ("fasterrcnn_resnet18_fpn", {"round_anchors": False}, "without a pyramid"),
    ],
)
def test_values_that_cannot_be(name, options, match):
    with pytest.raises(ConfigError, match=match):
        _shapes(name, **options)


def test_windows_start_where_the_map_does():
    """The center of SPP_net's first pixel of conv5, by its receptive field, is what `map_start` says."""
    model = create_model(
        "zfnet_spp", num_classes=2, channels=(1, 1, 1, 1, 1), paddings=(1, 0), pool_padding=0, ceil_mode=True
    )
    center, step = 0.0, 1
    for side, stride, pad in ((7, 2, 1), (3, 2, 0), (5, 2, 0), (3, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1)):
        center += step * ((side - 1) / 2 - pad)
        step *= stride
    assert (center, step) == (20, 16)
    maps, _ = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), method="features")
    )
    assert maps["conv5"].shape[1:3] == (13, 13)
