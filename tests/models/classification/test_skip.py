"""A net whose variables skip a block, against a net that was built without it."""

import jax
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.blocks.skip import block_names, skip_blocks

_IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)


def _drawn(model, seed=0):
    """Variables whose statistics and scales are not those of a fresh net."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), _IMAGES)
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: draw.uniform(0.1, 1.0, leaf.shape).astype(np.float32) - 0.3 * (leaf.ndim > 1), shapes
    )


@pytest.mark.parametrize("shortcut", ["A", "none"])
def test_a_skipped_block_is_a_block_less(shortcut):
    """The second block of each stage skipped is a net of one block a stage with the other variables."""
    deep, shallow = (
        create_model("resnet20_cifar", num_classes=3, width=2, blocks=n, shortcut=shortcut) for n in (2, 1)
    )
    variables = _drawn(deep)
    assert block_names(variables) == [f"stage{stage}_{place}" for stage in (1, 2, 3) for place in (0, 1)]
    seconds = ["stage1_1", "stage2_1", "stage3_1"]
    left = {kind: {k: v for k, v in tree.items() if k not in seconds} for kind, tree in variables.items()}
    before = jax.tree.map(np.copy, variables)
    apply = jax.jit(deep.apply)
    found = apply(skip_blocks(deep, variables, seconds), _IMAGES)
    np.testing.assert_allclose(found, jax.jit(shallow.apply)(left, _IMAGES), rtol=1e-5)
    assert np.abs(found - apply(variables, _IMAGES)).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_blocks_that_change_the_map_leave_the_shortcut_without_parameters():
    """Without its strided block, residual and plain net alike take every second pixel and add channels of zeros."""
    for shortcut in ("A", "none"):
        model = create_model("resnet20_cifar", num_classes=3, width=2, blocks=1, shortcut=shortcut)
        variables = skip_blocks(model, _drawn(model), ["stage2_0"])
        maps = jax.jit(lambda variables, model=model: model.bind(variables).features(_IMAGES))(variables)
        expected = np.pad(maps["stage1"][:, ::2, ::2], ((0, 0),) * 3 + ((0, 2),))
        np.testing.assert_allclose(maps["stage2"], expected, rtol=1e-5)


def test_a_skipped_bottleneck_is_its_shortcut():
    model = create_model("resnet50", num_classes=3, width=4, width_per_group=64, stage_sizes=(2, 1, 1, 1))
    variables = skip_blocks(model, _drawn(model), ["stage1_1"])
    apply = jax.jit(lambda tree: model.apply(tree, _IMAGES, capture_intermediates=True, mutable=["intermediates"]))
    _, got = apply(variables)
    first, second = (got["intermediates"][name]["__call__"][0] for name in ("stage1_0", "stage1_1"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("options", "name", "says"),
    [
        ({}, "stage4_0", "no block stage4_0; its blocks are stage1_0, stage2_0, stage3_0"),
        ({"norm_after": True}, "stage1_0", "norm_after=False"),
    ],
)
def test_what_cannot_be_skipped(options, name, says):
    model = create_model("resnet20_cifar", num_classes=3, width=2, blocks=1, **options)
    with pytest.raises(ConfigError, match=says):
        skip_blocks(model, _drawn(model), [name])


def test_plain_bottlenecks_cannot_be_skipped():
    model = create_model("plain50", num_classes=3, width=4, stage_sizes=(1, 1, 1, 1))
    with pytest.raises(ConfigError, match="use basic blocks"):
        skip_blocks(model, _drawn(model), ["stage1_0"])
