"""SPPnet: windows on maps by the paper's rule, pyramids over them, and the scale that suits each; its classifier."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_variables import drawn_variables

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.detection.sppnet import nearest_scale, project_windows, pyramid_pool
from cvjax.nn import SpatialPyramidPool

NARROW = {"channels": (4, 4, 4, 4, 4), "hidden": 8}


def test_projection_by_hand():
    boxes = jnp.asarray(
        [
            [0.0, 0, 224, 224],  # pixels 0 to 223: floor(0 / 16) + 1 to ceil(223 / 16) - 1
            [17, 33, 81, 65],  # 17 to 80, 33 to 64
            [20, 20, 28, 28],  # around pixel 23.5, nearest to map pixel 1
            [500, -90, 900, -20],  # beyond the image
        ]
    )
    found = project_windows(boxes, 16, jnp.full((4, 2), 14))
    np.testing.assert_array_equal(found, [[1, 1, 13, 13], [2, 3, 4, 3], [1, 1, 1, 1], [13, 0, 13, 0]])


def test_centers_of_projected_pixels_lie_within_their_box():
    corners = np.sort(np.random.default_rng(0).uniform(0, 300, (200, 2, 2)), axis=1)
    boxes = corners.reshape(-1, 4)
    left, top, right, bottom = np.asarray(project_windows(jnp.asarray(boxes), 16, jnp.full((200, 2), 20))).T
    wide, high = boxes[:, 2] - boxes[:, 0] > 33, boxes[:, 3] - boxes[:, 1] > 33
    for near, far, low, end, large in ((left, right, 0, 2, wide), (top, bottom, 1, 3, high)):
        assert (far >= near).all()
        assert large.any()
        assert (16 * near >= boxes[:, low])[large].all()
        assert (16 * far <= boxes[:, end])[large].all()


def _pyramid_by_hand(part, levels):
    rows = []
    for level in levels:
        edges = [[(i * n // level, -(-(i + 1) * n // level)) for i in range(level)] for n in part.shape[:2]]
        rows += [part[slice(*down), slice(*right)].max((0, 1)) for down in edges[0] for right in edges[1]]
    return np.concatenate(rows)


@pytest.mark.parametrize("levels", [(6, 3, 2, 1), (4, 3), (2,)])
def test_a_windows_pyramid_is_that_of_the_map_cut_out(levels):
    maps = jax.random.normal(jax.random.key(0), (2, 13, 17, 3))
    windows = np.asarray([[0, 0, 16, 12], [2, 3, 9, 8], [5, 5, 5, 5], [1, 11, 14, 12]])
    index = np.asarray([1, 0, 1, 0])
    found = jax.jit(partial(pyramid_pool, levels=levels))(maps, jnp.asarray(windows), jnp.asarray(index))
    for row, (left, top, right, bottom), image in zip(found, windows, index):
        part = np.asarray(maps[image, top : bottom + 1, left : right + 1])
        np.testing.assert_array_equal(row, _pyramid_by_hand(part, levels))


def test_the_pyramid_of_a_window_that_is_the_map_is_the_layers():
    maps = jax.random.normal(jax.random.key(0), (1, 13, 13, 2))
    window = jnp.asarray([[0, 0, 12, 12]])
    found = jax.jit(partial(pyramid_pool, levels=(6, 3, 2, 1)))(maps, window, jnp.zeros(1, jnp.int32))
    np.testing.assert_array_equal(found, jax.jit(SpatialPyramidPool((6, 3, 2, 1)))(maps))


def test_the_scale_is_the_one_of_nearest_area():
    factors = jnp.asarray([[s] * 4 for s in (1.0, 1.5, 3.0)])
    boxes = jnp.asarray([[0.0, 0, 224, 224], [0, 0, 150, 150], [0, 0, 30, 100], [0, 0, 600, 600], [0, 0, 0, 0]])
    np.testing.assert_array_equal(nearest_scale(boxes, factors), [0, 1, 2, 0, 0])


def test_a_window_is_described_as_the_classifier_describes_its_part_of_the_map():
    images = jax.random.normal(jax.random.key(0), (1, 64, 96, 3))
    sizes, boxes = jnp.asarray([[64, 96]]), jnp.asarray([[[1.0, 2, 50, 60], [30, 10, 90, 50], [0, 0, 20, 20]]])
    model = create_model("sppnet_zf5", num_classes=2, backbone=NARROW, scales=(64, 128), canonical_size=50.0)
    variables = drawn_variables(model, images, sizes, boxes, method="describe")
    pooled, hidden = jax.jit(lambda v: model.apply(v, images, sizes, boxes, method="describe"))(variables)
    assert pooled.shape == (1, 3, 50 * 4)
    backbone = create_model("zfnet_spp", num_classes=0, **NARROW)
    features = jax.jit(lambda v: backbone.apply(v, images, method="features"))
    maps = features({"params": variables["params"]["backbone"]})["conv5"]
    # The first box has an area nearest to 50 x 50 as it is: pixels 1 to 49 and 2 to 59.
    part = np.asarray(maps[0, 1 : 3 + 1, 1 : 3 + 1])
    np.testing.assert_allclose(pooled[0, 0], _pyramid_by_hand(part, (6, 3, 2, 1)), atol=1e-5)
    assert hidden.shape == (1, 3, 8)


def test_convolutions_stay_as_they_are_unless_asked_for():
    images = jax.random.normal(jax.random.key(0), (1, 64, 96, 3))
    sizes, boxes = jnp.asarray([[64, 96]]), jnp.asarray([[[1.0, 2, 50, 60], [30, 10, 90, 50]]])
    for train in (False, True):
        options = {"backbone": NARROW, "scales": (64,), "train_convolutions": train}
        model = create_model("sppnet_zf5", num_classes=2, **options)
        variables = drawn_variables(model, images, sizes, boxes, method="describe")
        slope = jax.jit(jax.grad(lambda v, m=model: m.apply(v, images, sizes, boxes, method="describe").hidden.sum()))(
            variables
        )["params"]["backbone"]
        assert bool(jnp.any(slope["conv_4"]["kernel"] != 0)) == train
        assert jnp.any(slope["head"]["fc6"]["kernel"] != 0)


def test_classifiers_maps_lie_where_detectors_want_them():
    """With every window padded by half its side, 16 * n + 1 pixels leave n + 1, from border to border."""
    for name, options in (("zfnet", {}), ("alexnet", {"stem_padding": 5, "pool_padding": 1})):
        net = create_model(name, num_classes=0, **NARROW, **options)
        maps = jax.eval_shape(
            lambda net=net: net.init_with_output(
                jax.random.key(0), jnp.zeros((1, 16 * 8 + 1, 16 * 6 + 1, 3)), method="features"
            )[0]
        )
        assert maps["conv5"].shape[1:3] == (9, 7), name
    shapes = jax.eval_shape(
        lambda: create_model("zfnet", num_classes=0).init_with_output(
            jax.random.key(0), jnp.zeros((1, 224, 224, 3)), method="features"
        )[0]
    )
    assert shapes["conv5"].shape == (1, 14, 14, 256)
    assert shapes["pool5"].shape == (1, 6, 6, 256)


def test_errors_name_the_fix():
    images = jnp.zeros((1, 70, 80, 3))
    with pytest.raises(ConfigError, match="zfnet_spp"):
        create_model("sppnet_zf5", num_classes=2, backbone="zfnet").bind({"params": {}}).features(images)
    with pytest.raises(ConfigError, match="scales are lengths"):
        create_model("sppnet_zf5", num_classes=2, scales=()).bind({"params": {}}).features(images)
