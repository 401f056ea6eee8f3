"""R-CNN: windows with their surroundings, and that waiting in line changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_variables import drawn_variables

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.detection.rcnn import warp_windows

warp = jax.jit(warp_windows, static_argnames=("size", "context"))
NARROW = {"channels": (4, 4, 4, 4, 4), "hidden": 8}


def test_a_window_shows_its_box_and_the_context_around():
    """On an image whose values are its coordinates, interpolation is exact, so places can be read off."""
    y, x = np.meshgrid(np.arange(90) + 0.5, np.arange(110) + 0.5, indexing="ij")
    image = jnp.asarray(np.stack([x, y], -1), jnp.float32)[None]
    box = np.asarray([30.0, 20, 70, 60])
    window = warp(image, jnp.asarray([[90, 110]]), jnp.asarray(box)[None, None], size=24, context=4)[0, 0]
    # 16 pixels of the window are 40 of the image.
    places = (np.arange(24) + 0.5 - 4) / 16
    np.testing.assert_allclose(window[..., 0], np.broadcast_to(30 + 40 * places, (24, 24)), atol=1e-3)
    np.testing.assert_allclose(window[..., 1], np.broadcast_to((20 + 40 * places)[:, None], (24, 24)), atol=1e-3)


def test_proportions_are_ignored_and_nothing_is_seen_beyond_the_image():
    images = jnp.ones((1, 60, 80, 1))
    box = jnp.asarray([[[0.0, 0, 40, 20], [60, 60, 70, 70]]])
    windows = warp(images, jnp.asarray([[40, 50]]), box, size=20, context=5)[0, :, :, :, 0]
    np.testing.assert_allclose(windows[0, 6:14, 6:14], 1)
    np.testing.assert_allclose(windows[0, :4], 0)
    np.testing.assert_allclose(windows[0, :, :4], 0)
    np.testing.assert_allclose(
        windows[0, 15:, 6:17], 1
    )  # 4 columns and 2 rows of the image for one, from -20 and -10 on
    np.testing.assert_allclose(windows[0, 6:, 18:], 0)
    np.testing.assert_allclose(windows[1], 0)  # on the padding


def test_windows_in_line_are_as_windows_at_once():
    images = jax.random.normal(jax.random.key(0), (2, 70, 80, 3))
    sizes = jnp.asarray([[70, 80], [60, 50]])
    corners = jax.random.uniform(jax.random.key(1), (2, 7, 2, 2)) * 60
    boxes = jnp.concatenate([corners.min(2), corners.max(2) + 5], -1)
    model = create_model("rcnn_alexnet", num_classes=2, backbone=NARROW, window_size=63, windows_at_once=3)
    variables = drawn_variables(model, images, sizes, boxes, method="describe")
    in_line = jax.jit(lambda v: model.apply(v, images, sizes, boxes, method="describe"))(variables)
    rngs = {"dropout": jax.random.key(0)}
    dry = model.clone(dropout=0.0)
    at_once = jax.jit(lambda v: dry.apply(v, images, sizes, boxes, True, method="describe", rngs=rngs))(variables)
    assert float(jnp.abs(in_line.hidden).max()) > 0
    for a, b in zip(in_line, at_once):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_errors_name_the_fix():
    images = jnp.zeros((1, 70, 80, 3))
    with pytest.raises(ConfigError, match="no room for 16 of context"):
        create_model("rcnn_alexnet", num_classes=2, window_size=32).bind({"params": {}}).features(images)
    with pytest.raises(ConfigError, match="scorer is 'svm' or 'softmax'"):
        create_model("rcnn_alexnet", num_classes=2, scorer="tree").bind({"params": {}}).features(images)
