"""DeepLab v1 and v2: published sizes, alignment, summed branches, fused scales, and weights from VGG's dense layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model, model_info
from cvjax.models.segmentation.atrous_vgg import rates_at
from cvjax.weights import load_backbone, to_torch

TINY = {"num_classes": 3, "hidden": 7, "backbone": {"stage_sizes": (1, 1, 1, 1, 1), "widths": (2, 3, 4, 5, 6)}}
TINY_RESNET = {"num_classes": 3, "backbone": {"stage_sizes": (1, 1, 1, 1), "width": 8}}
NETS = {
    "deeplabv1_largefov_vgg16": TINY,
    "deeplabv2_vgg16": TINY,
    "deeplabv2_resnet18": TINY_RESNET,
}


def _count(name, **options):
    model = create_model(name, num_classes=21, **options)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _drawn(model, images):
    """Variables without compiling the net's initialization: random kernels and biases, BatchNorms that do nothing."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        fan = max(1, np.prod(leaf.shape[:-1]))
        return rng.standard_normal(leaf.shape, np.float32) * np.float32(np.sqrt(2 / fan) if leaf.ndim > 1 else 0.1)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0), images))


def _images(*size):
    return jax.random.normal(jax.random.key(0), (1, *size, 3))


def test_parameters_as_the_paper_publishes_them():
    """1412.7062, table 1: 134.3M, 65.1M, 65.1M and 20.5M."""
    name = "deeplabv1_largefov_vgg16"
    assert round(model_info(name).params / 1e6, 1) == 20.5
    for kernel_size, rate, millions in ((7, 4, 134.3), (4, 4, 65.1), (4, 8, 65.1)):
        count = _count(name, aspp_rates=(rate,), kernel_size=kernel_size, hidden=4096)
        assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("name", NETS)
def test_any_size_at_every_output_stride_with_the_same_parameters(name):
    shapes = set()
    for stride in (8, 16, 32):
        model = create_model(name, output_stride=stride, **NETS[name])
        variables = jax.eval_shape(model.init, jax.random.key(0), _images(33, 33))
        shapes.add(str(jax.tree.map(jnp.shape, variables)))
        for size in ((1, 1), (33, 50), (1025, 2049)) if stride == 8 else ((1, 90),):
            images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
            logits = jax.eval_shape(model.apply, variables, images)
            assert (logits.shape, logits.dtype) == ((2, *size, 3), jnp.float32)
    assert len(shapes) == 1


def test_rates_are_those_of_output_stride_8():
    assert [rates_at(stride, (6, 12)) for stride in (8, 16, 32)] == [(6, 12), (3, 6), (1, 3)]
    with pytest.raises(ConfigError, match="8, 16 or 32"):
        rates_at(4, (6,))
    with pytest.raises(ConfigError, match="at least 1"):
        rates_at(8, ())


@pytest.mark.parametrize(("stride", "rate"), [(8, 2), (16, 1)])
def test_largefov_is_the_authors_stack_of_layers(stride, rate):
    """By hand: pooling in windows of 3, dilation where it does not stride, fc6 with holes, scores on a grid of 8."""
    model = create_model("deeplabv1_largefov_vgg16", output_stride=stride, aspp_rates=(4,), **TINY)
    images = _images(33, 49)
    variables = _drawn(model, images)
    backbone = variables["params"]["backbone"]

    def conv(x, layer, dilation):
        reach = dilation * (layer["kernel"].shape[0] // 2)
        y = jax.lax.conv_general_dilated(
            x,
            layer["kernel"],
            (1, 1),
            [(reach, reach)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + layer["bias"][None, None, None] if "bias" in layer else y

    def pool(x, step):
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, step, step, 1), pads)

    x = images
    for stage, step in zip(range(1, 6), (2, 2, 2, 2 if stride == 16 else 1, 1)):
        x = pool(jax.nn.relu(conv(x, backbone[f"conv{stage}_1"], rate if stage == 5 else 1)), step)
    ninth = {"kernel": jnp.eye(x.shape[-1])[None, None].repeat(3, 0).repeat(3, 1) / 9}
    x = jax.nn.relu(conv(conv(x, ninth, 1), backbone["branch_0"]["fc6"], 4 * 8 // stride))
    x = conv(jax.nn.relu(conv(x, backbone["branch_0"]["fc7"], 1)), variables["params"]["classifier_0"], 1)
    logits = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(logits[:, ::stride, ::stride], x, atol=1e-4 * float(jnp.abs(x).max()))
    half = stride // 2  # and between two of them, their mean
    np.testing.assert_allclose(logits[:, half::stride, ::stride], (x[:, 1:] + x[:, :-1]) / 2, atol=1e-4)


@pytest.mark.parametrize("name", ["deeplabv2_vgg16", "deeplabv2_resnet18"])
def test_branches_add_up(name):
    """Each branch's classifier alone, the others' zero."""
    model = create_model(name, **NETS[name] | {"scales": (1.0,), "aspp_rates": (1, 2)})
    images = _images(17, 17)
    variables = _drawn(model, images)
    apply = jax.jit(model.apply)
    total = 0.0
    for kept in ("classifier_0", "classifier_1"):
        params = {
            key: jax.tree.map(np.zeros_like, tree) if key.startswith("classifier") and key != kept else tree
            for key, tree in variables["params"].items()
        }
        total += apply({**variables, "params": params}, images)
    np.testing.assert_allclose(apply(variables, images), total, atol=1e-4)


def test_aspp_small_and_large_differ_by_rates_alone():
    for rates in ((6, 12, 18, 24), (2, 4, 8, 12)):
        model = create_model("deeplabv2_vgg16", num_classes=3, aspp_rates=rates)
        images = jax.ShapeDtypeStruct((1, 9, 9, 3), jnp.float32)
        bound = model.bind(jax.eval_shape(model.init, jax.random.key(0), images))
        assert bound.backbone.rates == rates
    assert _count("deeplabv2_vgg16") == _count("deeplabv2_vgg16", aspp_rates=(2, 4, 8, 12)) == 37_877_652


def test_scales_share_weights_and_the_largest_score_wins():
    options = TINY_RESNET | {"aspp_rates": (1,)}
    model = create_model("deeplabv2_resnet18", norm={"frozen": True}, scales=(1.0, 0.5), **options)
    images = _images(33, 17)
    variables = _drawn(model, images)
    (fused, scales), _ = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))(variables)
    assert sorted(scales) == ["scale0.5", "scale1"]
    np.testing.assert_array_equal(fused, jnp.maximum(scales["scale1"], scales["scale0.5"]))
    assert 0.05 < float((fused == scales["scale1"]).mean()) < 0.95  # neither always wins
    alone = create_model("deeplabv2_resnet18", scales=(0.5,), **options)
    np.testing.assert_allclose(jax.jit(alone.apply)(variables, images), scales["scale0.5"], atol=1e-4)


def test_a_smaller_scale_stays_in_place():
    """Half the scale: its score map's pixel j lies on pixel 16 * j of the image, where the corners are."""
    model = create_model("deeplabv2_vgg16", **TINY | {"scales": (0.5,), "aspp_rates": (1,)})
    images = _images(33, 65)
    variables = _drawn(model, images)
    half = images[:, ::2, ::2]  # what interpolation with corners on corners takes
    alone = create_model("deeplabv2_vgg16", **TINY | {"scales": (1.0,), "aspp_rates": (1,)})
    scores = jax.jit(alone.apply)(variables, half)[:, ::8, ::8]
    logits = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(logits[:, ::16, ::16], scores, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "fix"),
    [
        ("deeplabv2_vgg16", {"scales": ()}, "above 0"),
        ("deeplabv2_vgg16", {"scales": (1.0, 1.0)}, "different"),
        ("deeplabv1_largefov_vgg16", {"kernel_size": 0}, "at least 1"),
        ("deeplabv1_largefov_vgg16", {"in_channels": 1}, "in_channels=3"),
        ("deeplabv2_resnet18", {"output_stride": 4}, "8, 16 or 32"),
    ],
)
def test_impossible_options(name, options, fix):
    with pytest.raises(ConfigError, match=fix):
        jax.eval_shape(create_model(name, **NETS[name] | options).init, jax.random.key(0), _images(9, 9))


# VGG-16 with few channels, and dense layers that are four times as wide as the atrous ones.
SMALL_VGG16 = {"stage_sizes": (2, 2, 3, 3, 3), "widths": (2, 3, 4, 5, 6)}


def _vgg16(**options):
    classifier = create_model("vgg16", num_classes=5, **SMALL_VGG16, **options)
    return _drawn(classifier, _images(32, 32))


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
@pytest.mark.parametrize(("name", "branches"), [("deeplabv1_largefov_vgg16", 1), ("deeplabv2_vgg16", 4)])
def test_dense_layers_are_subsampled_into_every_branch(name, branches, layout):
    weights = _vgg16(hidden=28)
    model = create_model(name, num_classes=3, hidden=7, backbone=SMALL_VGG16)
    variables = _drawn(model, _images(17, 17))
    loaded = load_backbone(variables, to_torch("vgg16", weights, layout=layout), "vgg16")["params"]
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded["classifier_0"], variables["params"]["classifier_0"]))
    backbone, theirs = loaded["backbone"], weights["params"]
    assert np.array_equal(backbone["conv5_3"]["kernel"], theirs["conv5_3"]["kernel"])
    dense = theirs["head"]
    window = dense["fc6"]["kernel"].reshape(7, 7, 6, 28)
    assert sorted(key for key in backbone if key.startswith("branch")) == [f"branch_{i}" for i in range(branches)]
    for i in range(branches):
        taken = backbone[f"branch_{i}"]
        np.testing.assert_array_equal(taken["fc6"]["kernel"], window[::3, ::3, :, ::4])
        np.testing.assert_array_equal(taken["fc7"]["kernel"][0, 0], dense["fc7"]["kernel"][::4, ::4])
        for layer in ("fc6", "fc7"):
            np.testing.assert_array_equal(taken[layer]["bias"], dense[layer]["bias"][::4])


def test_kernels_of_other_sizes_take_evenly_spaced_taps():
    weights = _vgg16(hidden=4)
    window = weights["params"]["head"]["fc6"]["kernel"].reshape(7, 7, 6, 4)
    for side, taps in ((7, range(7)), (4, (0, 2, 4, 6)), (1, (3,))):
        options = {"hidden": 4, "kernel_size": side, "backbone": SMALL_VGG16}
        model = create_model("deeplabv1_largefov_vgg16", num_classes=3, **options)
        loaded = load_backbone(_drawn(model, _images(9, 9)), to_torch("vgg16", weights), "vgg16")
        fc6 = loaded["params"]["backbone"]["branch_0"]["fc6"]["kernel"]
        np.testing.assert_array_equal(fc6, window[np.ix_(taps, taps)])


def test_dense_layers_that_cannot_be_subsampled():
    model = create_model("deeplabv1_largefov_vgg16", num_classes=3, hidden=8, backbone=SMALL_VGG16)
    variables = _drawn(model, _images(9, 9))
    with pytest.raises(CheckpointError, match="lower the model's"):
        load_backbone(variables, to_torch("vgg16", _vgg16(hidden=4)), "vgg16")
    weights = {k: v for k, v in to_torch("vgg16", _vgg16(hidden=8)).items() if not k.startswith("classifier.0")}
    with pytest.raises(CheckpointError, match=r"classifier\.0\.weight.*with the classifier"):
        load_backbone(variables, weights, "vgg16")
