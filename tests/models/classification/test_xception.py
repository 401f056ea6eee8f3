"""Xception: dilated maps hold the strided ones, the maps before each stride, and what separating saves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.classification.xception import LONG, SHORT

TINY = {"num_classes": 0, "width_coefficient": 1 / 32, "middle_blocks": 0}
STRIDES = {"stem": 2, "stage1": 4, "stage2": 8, "stage3": 16, "stage4": 32}


def _shapes(name, size, **options):
    model = create_model(name, num_classes=0, **options)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return variables, jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)


def _drawn(shapes):
    """Variables without compiling the net's own initialization: He's kernels, BatchNorms that do nothing."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.ndim > 1:
            return rng.standard_normal(leaf.shape, np.float32) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize("output_stride", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_dilated_maps_hold_the_strided_ones(output_stride):
    strided, dilated = (create_model("xception41", output_stride=s, **TINY) for s in (32, output_stride))
    images = jax.random.normal(jax.random.key(0), (1, 64, 96, 3))
    variables = _drawn(jax.eval_shape(strided.init, jax.random.key(1), images))
    a, b = (jax.jit(lambda x, m=m: m.apply(variables, x, method="features"))(images) for m in (strided, dilated))
    for name, stride in STRIDES.items():
        step = stride // min(stride, output_stride)
        assert b[name].shape[1:3] == (64 // min(stride, output_stride), 96 // min(stride, output_stride))
        assert float(jnp.abs(a[name]).max()) > 0.1
        np.testing.assert_allclose(b[name][:, ::step, ::step], a[name], atol=1e-4 * float(jnp.abs(a[name]).max()))


@pytest.mark.parametrize(("name", "size"), [("xception41", (1, 1)), ("xception71", (33, 50))])
def test_maps_of_any_size(name, size):
    _, maps = _shapes(name, size)
    for (key, stride), channels in zip(STRIDES.items(), (128, 256, 728, 1024, 2048)):
        assert maps[key].shape == (1, -(-size[0] // stride), -(-size[1] // stride), channels)


def test_depths_are_those_of_the_names():
    """Convolutions in a row, the shortcuts' not counted; a separable one counts once, as in the paper's names."""
    for name, entry, middle, depth in (("41", SHORT, 8, 41), ("65", SHORT, 16, 65), ("71", LONG, 16, 71)):
        model = create_model(f"xception{name}", num_classes=0)
        assert (model.entry, model.middle_blocks) == (entry, middle)
        assert 2 + 3 * (len(entry) + middle + 2) == depth


def test_multi_grid_dilates_the_last_block_alone():
    dilations = {
        grid: [
            block.dilations
            for block in create_model("xception41", output_stride=16, multi_grid=grid, **TINY)
            .bind(_shapes("xception41", (8, 8), width_coefficient=1 / 32, middle_blocks=0)[0])
            .blocks
        ]
        for grid in ((1, 1, 1), (1, 2, 4))
    }
    assert dilations[1, 1, 1] == [(1, 1, 1)] * 4 + [(2, 2, 2)]
    assert dilations[1, 2, 4] == [(1, 1, 1)] * 4 + [(2, 4, 8)]


def test_a_separable_convolution_has_a_ninth_of_the_weights():
    variables, _ = _shapes("xception41", (8, 8), middle_blocks=1)
    layer = variables["params"]["blocks_3"]["separable1"]
    separable = layer["depthwise_conv"]["kernel"].size + layer["pointwise_conv"]["kernel"].size
    assert separable == 9 * 728 + 728**2
    assert 9 * 728**2 / separable == pytest.approx(9, rel=0.02)


def test_an_impossible_output_stride():
    with pytest.raises(ConfigError, match="8, 16 or 32"):
        _shapes("xception41", (8, 8), output_stride=4)
