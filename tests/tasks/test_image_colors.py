"""Exposure and saturation of HSV against the standard library's colors."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import classification

from cvjax.errors import ConfigError
from cvjax.tasks.colors import scale_hsv

COLORS = np.concatenate(
    [
        np.random.default_rng(0).uniform(0, 255, (40, 3)),
        [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0], [0, 255, 255], [0, 0, 1], [250, 250, 249]],
    ]
).astype(np.float32)
RECOLOR = jax.jit(scale_hsv)


@pytest.mark.parametrize(
    "factors", [(1.0, 1.0), (1.5, 1.0), (0.7, 1.0), (1.0, 1.5), (1.0, 0.0), (1.3, 1.4), (0.0, 2.0)]
)
def test_factors_on_value_and_saturation_are_those_of_colorsys(factors):
    exposure, saturation = factors
    expected = []
    for color in COLORS:
        h, s, v = colorsys.rgb_to_hsv(*(float(level) / 255 for level in color))
        expected.append([255 * level for level in colorsys.hsv_to_rgb(h, min(1, s * saturation), min(1, v * exposure))])
    np.testing.assert_allclose(RECOLOR(COLORS, exposure, saturation), expected, atol=2e-3)


def _exposures(task, index, train=True):
    images = jnp.full((len(index), 1, 1, 3), 100.0)
    return np.asarray(task.images({"image": images, "index": jnp.asarray(index)}, jax.random.key(0) if train else None))


@pytest.mark.slow
def test_training_draws_factors_between_a_divisor_and_a_factor_for_each_example():
    task = classification(("a",), mean=(0, 0, 0), std=(1, 1, 1), exposure=1.5)
    index = np.arange(200)
    levels = _exposures(task, index)[:, 0, 0, 0]
    assert levels.min() >= 100 / 1.5 - 1e-3
    assert levels.max() <= 150 + 1e-3
    # As many are darker as are brighter, and both reach far.
    assert 70 <= (levels < 100).sum() <= 130
    assert levels.min() < 70
    assert levels.max() > 145
    np.testing.assert_allclose(_exposures(task, index[5:8])[:, 0, 0, 0], levels[5:8], rtol=1e-6)
    assert (_exposures(task, index, train=False) == 100).all()


def test_factors_below_one_are_refused():
    with pytest.raises(ConfigError, match="1 or more"):
        _exposures(classification(("a",), exposure=0.5), [0])
