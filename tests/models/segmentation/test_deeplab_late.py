"""DeepLab v3's cascade, v3+ on Xception and the decoder's upsampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.weights import load_backbone, to_torch

TINY = {"num_classes": 3, "backbone": {"stage_sizes": (1, 1, 1, 3), "width": 8}}
SMALL_XCEPTION = {"width_coefficient": 1 / 32, "middle_blocks": 1}
TINY_XCEPTION = {"num_classes": 3, "backbone": SMALL_XCEPTION, "aspp_features": 8}


def _shapes(model, *size):
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images), images


def _bound(model):
    return model.bind(_shapes(model, 9, 9)[0])


def _drawn(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: np.abs(rng.standard_normal(leaf.shape, np.float32)), shapes)


@pytest.mark.parametrize(("stride", "last", "grid"), [(8, 4, (1, 2, 1)), (16, 2, (1, 2, 4)), (32, 1, (2,))])
def test_each_copy_has_twice_the_rate_of_the_one_before(stride, last, grid):
    net = _bound(create_model("deeplabv3_cascade_resnet50", output_stride=stride, multi_grid=grid, **TINY))
    factors = [grid[i % len(grid)] for i in range(3)]
    stages = [net.backbone.stage4, net.block5, net.block6, net.block7]
    for copy, stage in enumerate(stages):
        assert [block.dilations[0] for block in stage] == [last * 2**copy * factor for factor in factors]
        assert stage is net.backbone.stage4 or all(block.stride == 1 for block in stage)


def test_a_copy_without_multi_grid_is_dilated_as_a_whole():
    net = _bound(create_model("deeplabv3_cascade_resnet50", output_stride=16, multi_grid=(1, 1, 1), copies=1, **TINY))
    assert [block.dilations for block in net.block5] == [(4, 4)] * 3
    assert not hasattr(net, "block6")


def test_cascades_have_the_parts_that_the_table_counts():
    variables, _ = _shapes(create_model("deeplabv3_cascade_resnet50", num_classes=21), 33, 33)
    counts = {key: sum(leaf.size for leaf in jax.tree.leaves(tree)) for key, tree in variables["params"].items()}
    copies = {f"block{b}_{i}": 4_462_592 for b in (5, 6, 7) for i in range(3)}
    assert counts == copies | {"backbone": 25_557_032 - 2_049_000, "classifier": 2049 * 21}


def test_an_impossible_cascade():
    with pytest.raises(ConfigError, match="at least 1 copy"):
        _shapes(create_model("deeplabv3_cascade_resnet50", copies=0, **TINY), 9, 9)


@pytest.mark.parametrize(
    ("name", "options"), [("deeplabv3_cascade_resnet50", TINY), ("deeplabv3plus_xception65", TINY_XCEPTION)]
)
def test_output_stride_changes_no_parameter_and_any_size_comes_out(name, options):
    shapes = set()
    for stride in (8, 16, 32):
        model = create_model(name, output_stride=stride, **options)
        variables, images = _shapes(model, 33, 50)
        shapes.add(str(jax.tree.map(jnp.shape, variables)))
        assert jax.eval_shape(model.apply, variables, images).shape == (2, 33, 50, 3)
    one = jax.ShapeDtypeStruct((2, 1, 1, 3), jnp.float32)
    assert jax.eval_shape(model.apply, variables, one).shape == (2, 1, 1, 3)
    assert len(shapes) == 1


def test_v3plus_takes_any_size():
    model = create_model("deeplabv3plus_resnet50", num_classes=21)
    variables = _shapes(model, 65, 65)[0]
    for size in ((1, 1), (1, 2049), (224, 225), (1025, 2049)):
        images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
        logits = jax.eval_shape(model.apply, variables, images)
        assert (logits.shape, logits.dtype) == ((1, *size, 21), jnp.float32)


def test_every_3x3_convolution_behind_xceptions_stem_is_separable():
    """Depthwise kernels have one input channel; atrous ones in the backbone, in ASPP and in the decoder."""
    # A width with which the stem has more than one channel.
    options = TINY_XCEPTION | {"backbone": SMALL_XCEPTION | {"width_coefficient": 1 / 16}}
    model = create_model("deeplabv3plus_xception65", output_stride=8, **options)
    params = _shapes(model, 9, 9)[0]["params"]
    wide = {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if leaf.ndim == 4 and leaf.shape[0] == 3 and leaf.shape[2] > 1
    }
    assert sorted(wide) == ["['backbone']['stem_conv_0']['kernel']", "['backbone']['stem_conv_1']['kernel']"]
    net = _bound(model)
    assert net.aspp.separable
    assert net.aspp.rates == (12, 24, 36)
    assert [block.dilations[0] for block in net.backbone.blocks] == [1, 1, 1, 2, 2, 4]


def test_xceptions_multi_grid_and_the_map_that_the_decoder_joins():
    model = create_model("deeplabv3plus_xception65", multi_grid=(1, 2, 4), **TINY_XCEPTION)
    assert _bound(model).backbone.blocks[-1].dilations == (2, 4, 8)
    assert _shapes(model, 9, 9)[0]["params"]["low_level"]["conv"]["kernel"].shape == (1, 1, 256 // 32, 48)


def test_imagenet_weights_of_xception_fill_the_backbone():
    options = {"width_coefficient": 1 / 32}
    classifier = _drawn(_shapes(create_model("xception65", num_classes=5, **options), 9, 9)[0])
    model = create_model("deeplabv3plus_xception65", num_classes=3, aspp_features=8, backbone=options)
    variables = _drawn(_shapes(model, 9, 9)[0])
    loaded = load_backbone(variables, to_torch("xception65", classifier), "xception65")
    del classifier["params"]["head"]
    for collection in ("params", "batch_stats"):
        assert jax.tree.all(jax.tree.map(np.array_equal, loaded[collection]["backbone"], classifier[collection]))


V3PLUS = {"num_classes": 3, "backbone": {"width": 8, "stage_sizes": (1, 1, 1, 1)}, "aspp_features": 16}


@pytest.mark.parametrize("upsampling", ["transposed", "transposed_fixed", "nearest", "bilinear"])
def test_the_decoder_upsamples_as_asked(upsampling):
    plain = _shapes(create_model("deeplabv3plus_resnet18", **V3PLUS), 33, 33)[0]["params"]
    for stride in (8, 32):
        model = create_model("deeplabv3plus_resnet18", upsampling=upsampling, output_stride=stride, **V3PLUS)
        variables, _ = _shapes(model, 33, 33)
        added = {key: jax.tree.leaves(tree) for key, tree in variables["params"].items() if key not in plain}
        side = 3 if upsampling in ("nearest", "bilinear") else 2 * stride // 4
        expected = {"up_pyramid": (side, side, 16, 16), "up_image": (8 if side != 3 else 3,) * 2 + (3, 3)}
        assert {key: leaves[0].shape for key, leaves in added.items()} == (
            {} if upsampling == "transposed_fixed" else expected
        )
        for size in ((1, 1), (33, 50), (64, 66)):
            images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
            assert jax.eval_shape(model.apply, variables, images).shape == (2, *size, 3)


def test_bilinear_upsampling_starts_as_the_plain_decoder():
    """On sides that halve evenly both interpolate between the same pixels."""
    plain, learnt = (create_model("deeplabv3plus_resnet18", upsampling=u, **V3PLUS) for u in (None, "bilinear"))
    variables = _drawn(_shapes(learnt, 32, 64)[0])
    for name, channels in (("up_pyramid", 16), ("up_image", 3)):
        kernel = np.zeros((3, 3, channels, channels), np.float32)
        kernel[1, 1] = np.eye(channels)
        variables["params"][name]["conv"]["kernel"] = kernel
    images = jax.random.normal(jax.random.key(0), (1, 32, 64, 3))
    a = jax.jit(learnt.apply)(variables, images)
    params = {key: tree for key, tree in variables["params"].items() if not key.startswith("up_")}
    b = jax.jit(plain.apply)({**variables, "params": params}, images)
    np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(b).max()))
