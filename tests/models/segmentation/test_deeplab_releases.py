"""Options of structure in which public releases of DeepLab and FCN differ from ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.segmentation.aspp import ASPP
from cvjax.models.segmentation.heads import FCNHead
from cvjax.nn import SeparableConv

TINY = {"num_classes": 3, "backbone": {"width": 8, "stage_sizes": (1, 1, 1, 1)}, "norm": {"frozen": True}}
SMALL = TINY | {"aspp_features": 8}


def _images(*size):
    return np.random.default_rng(0).standard_normal((2, *size, 3), np.float32)


def _drawn(module, x):
    """Random variables; variances are near 1."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.8, 1.2, leaf.shape).astype(np.float32)
        return rng.standard_normal(leaf.shape, np.float32) * 0.3

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _along(x, axis, points):
    """Values of x at points between its entries along an axis; beyond the ends they are repeated."""
    x = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    flat = x.reshape(-1, x.shape[-1])
    found = np.stack([np.interp(points, np.arange(x.shape[-1]), row) for row in flat])
    return np.moveaxis(found.reshape(*x.shape[:-1], len(points)), -1, axis)


def _corners(x, size):
    points = (np.linspace(0, side - 1, wanted) for side, wanted in zip(x.shape[1:3], size))
    return _stretch(x, points)


def _edges(x, size):
    points = ((np.arange(wanted) + 0.5) * side / wanted - 0.5 for side, wanted in zip(x.shape[1:3], size))
    return _stretch(x, points)


def _stretch(x, points):
    rows, columns = points
    return _along(_along(x, 1, rows), 2, columns).astype(np.float32)


def _normalized(x, variables, *path):
    """BatchNorm in evaluation and ReLU, by hand."""
    params, stats = variables["params"], variables["batch_stats"]
    for part in path:
        params, stats = params[part], stats[part]
    y = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]
    return np.maximum(y, 0)


def _conv(x, kernel, groups=1, dilation=1):
    reach = dilation * (kernel.shape[0] // 2)
    return np.asarray(
        jax.lax.conv_general_dilated(
            jnp.asarray(x),
            jnp.asarray(kernel),
            (1, 1),
            [(reach, reach)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
    )


def _close(a, b):
    np.testing.assert_allclose(a, b, atol=2e-5 * float(np.abs(b).max()))


def test_separable_convolutions_with_one_batchnorm():
    x = np.random.default_rng(0).standard_normal((2, 7, 9, 4), np.float32)
    layer = SeparableConv(5, dilation=2, inner_norm=False)
    variables = _drawn(layer, x)
    params = variables["params"]
    assert set(params["depthwise"]) == {"kernel"}
    y = _conv(x, params["depthwise"]["kernel"], groups=4, dilation=2)
    y = _normalized(_conv(y, params["pointwise"]["conv"]["kernel"]), variables, "pointwise", "bn")
    _close(layer.apply(variables, x), y)
    assert set(jax.eval_shape(SeparableConv(5).init, jax.random.key(0), x)["params"]["depthwise"]) == {"conv", "bn"}


def test_the_kernel_of_aspps_projection():
    """A single tap left above the middle moves the map of a 1x1 kernel by a pixel."""
    x = np.random.default_rng(0).standard_normal((2, 7, 9, 4), np.float32)
    plain, wide = ASPP(5, rates=(1, 2)), ASPP(5, rates=(1, 2), project_kernel=3)
    variables = _drawn(plain, x)
    kernel = variables["params"]["project"]["conv"]["kernel"]
    assert kernel.shape == (1, 1, 20, 5)
    tap = np.zeros((3, 3, 20, 5), np.float32)
    tap[0, 0] = kernel[0, 0]
    params = variables["params"]
    moved = {**variables, "params": {**params, "project": {**params["project"], "conv": {"kernel": tap}}}}
    _close(wide.apply(moved, x)[:, 1:, 1:], plain.apply(variables, x)[:, :-1, :-1])
    with pytest.raises(ConfigError, match="odd side"):
        jax.eval_shape(ASPP(project_kernel=2).init, jax.random.key(0), x)


@pytest.mark.parametrize("join", [False, True])
def test_deeper_fcn_heads(join):
    x = np.random.default_rng(0).standard_normal((2, 7, 9, 8), np.float32)
    head = FCNHead(3, layers=2, join_input=join)
    variables = _drawn(head, x)
    params = variables["params"]
    assert set(params) == {"conv", "conv2", "classifier"} | ({"join"} if join else set())
    y = x
    for name in ("conv", "conv2"):
        y = _normalized(_conv(y, params[name]["conv"]["kernel"]), variables, name, "bn")
    if join:
        y = _conv(np.concatenate([x, y], axis=-1), params["join"]["conv"]["kernel"])
        y = _normalized(y, variables, "join", "bn")
    _close(head.apply(variables, x), _conv(y, params["classifier"]["kernel"]) + params["classifier"]["bias"])


def test_the_head_of_fcn_resnets():
    x = jnp.zeros((2, 9, 9, 3))
    options = TINY | {"head_layers": 3, "head_joins_input": True}
    trees = [
        jax.eval_shape(create_model("fcn_resnet50", **fields).init, jax.random.key(0), x) for fields in (TINY, options)
    ]
    plain, deep = (set(tree["params"]["head"]) for tree in trees)
    assert (plain, deep - plain) == ({"conv", "classifier"}, {"conv2", "conv3", "join"})
    assert trees[0]["params"]["aux_head"].keys() == trees[1]["params"]["aux_head"].keys()


PLUS = {"backbone", "aspp", "low_level", "refine_0", "refine_1", "classifier"}


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("deeplabv3plus_resnet50", {}, PLUS),
        ("deeplabv3plus_resnet50", {"decoder_layers": 1}, PLUS - {"refine_1"}),
        ("deeplabv3plus_resnet50", {"decoder_layers": 3}, PLUS | {"refine_2"}),
        ("deeplabv3plus_resnet50", {"conv_after_aspp": True}, PLUS | {"pyramid_conv"}),
        ("deeplabv3plus_resnet50", {"align_corners": True}, PLUS),
        ("deeplabv3_resnet50", {"aux": False}, {"backbone", "aspp", "head", "classifier"}),
        ("deeplabv3_resnet50", {"aux": False, "conv_after_aspp": False}, {"backbone", "aspp", "classifier"}),
    ],
)
def test_parts_of_a_net(name, options, parts):
    model = create_model(name, **SMALL, **options)
    assert set(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 9, 9, 3)))["params"]) == parts


def test_v3plus_as_segmentation_models_pytorch_has_it():
    """One separable convolution behind ASPP, one in the decoder, and corners on corners."""
    options = {"separable_aspp": True, "conv_after_aspp": True, "decoder_layers": 1, "inner_norm": False}
    model = create_model("deeplabv3plus_resnet18", align_corners=True, **SMALL, **options)
    images = _images(40, 56)
    variables = _drawn(model, images)
    net = model.bind(variables)
    assert not any(layer.inner_norm for layer in (net.aspp, net.pyramid_conv, net.refine[0]))
    maps = net.features(images)
    low = net.low_level(maps["stage1"])
    pyramid = _corners(net.pyramid_conv(net.aspp(maps["stage4"])), low.shape[1:3])
    scores = net.classifier(net.refine[0](jnp.concatenate([pyramid, low], axis=-1)))
    _close(model.apply(variables, images), _corners(scores, (40, 56)))


@pytest.mark.parametrize(("aligned", "stretch"), [(False, _edges), (True, _corners)])
def test_v3_without_its_last_convolution(aligned, stretch):
    options = {"conv_after_aspp": False, "aspp_project_kernel": 3, "align_corners": aligned}
    model = create_model("deeplabv3_resnet18", dropout=0.0, aux_dropout=0.0, **SMALL, **options)
    images = _images(33, 50)
    variables = _drawn(model, images)
    net = model.bind(variables)
    assert net.aspp.project_kernel == 3
    maps = net.features(images)
    logits, extra = model.apply(variables, images, train=True)
    _close(logits, stretch(net.classifier(net.aspp(maps["stage4"])), (33, 50)))
    _close(extra["aux"], stretch(net.aux_head(maps["stage3"]), (33, 50)))


@pytest.mark.parametrize(("aligned", "first"), [(True, True), (False, False), (False, True)])
def test_scales_are_fused_as_asked(aligned, first):
    scales, size = (1.0, 0.75, 0.5), (33, 50)
    options = TINY | {"aspp_rates": (1,), "align_corners": aligned, "fuse_first": first}
    model = create_model("deeplabv2_resnet18", scales=scales, **options)
    images = _images(*size)
    variables = _drawn(model, images)
    net = model.bind(variables)
    scores, steps = [], []
    for scale in scales:
        if aligned:
            sides = [round((side - 1) * scale) + 1 for side in size]
            scaled = _corners(images, sides)
        else:
            sides = [int(side * scale) for side in size]
            scaled = _stretch(images, ((np.arange(side) + 0.5) / scale - 0.5 for side in sides))
        scores.append(net.classifier[0](net.features(scaled)["stage4"]))
        steps.append([8 * (side - 1) / (small - 1) for side, small in zip(size, sides)])

    def enlarge(x, target, step):
        if not aligned:
            return _edges(x, target)
        return _stretch(x, (np.arange(wanted) / each for wanted, each in zip(target, step)))

    if first:
        grid = scores[0].shape[1:3]
        finer = [[each / 8 for each in step] for step in steps]
        fused = np.max([enlarge(x, grid, step) for x, step in zip(scores, finer)], axis=0)
        fused = enlarge(fused, size, steps[0])
    else:
        fused = np.max([enlarge(x, size, step) for x, step in zip(scores, steps)], axis=0)
    _close(model.apply(variables, images), fused)
    logits, extra = model.apply(variables, images, train=True)
    _close(logits, fused)
    _close(extra["scale0.5"], enlarge(scores[2], size, steps[2]))


@pytest.mark.parametrize(
    ("name", "options", "fix"),
    [
        ("deeplabv3plus_resnet50", {"decoder_layers": 0}, "decoder_layers is at least 1"),
        ("deeplabv3plus_resnet50", {"inner_norm": False, "separable_decoder": False}, "needs separable"),
        ("deeplabv3plus_resnet50", {"align_corners": True, "upsampling": "nearest"}, "upsampling=None"),
        ("deeplabv3_resnet50", {"aspp_project_kernel": 4}, "odd side"),
        ("fcn_resnet50", {"head_layers": 0}, "at least 1 convolution"),
    ],
)
def test_impossible_options(name, options, fix):
    model = create_model(name, **TINY, **options)
    with pytest.raises(ConfigError, match=fix):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 9, 9, 3)))
