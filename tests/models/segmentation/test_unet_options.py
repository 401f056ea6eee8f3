"""Options of U-Nets that public releases need: each does what it says, as plain NumPy computes it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.segmentation.doubling import any_doubling, doubled
from cvjax.nn import BatchNormOptions

RESNET = {"width": 4, "stage_sizes": (1, 1, 1, 1)}
WIDTHS = (5, 4, 4, 3, 3)


def built(name, size=(7, 9), **options):
    """(model, drawn variables with uneven statistics, images)."""
    model = create_model(name, num_classes=2, **options)
    images = jax.random.normal(jax.random.key(0), (2, *size, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(1), images)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        value = rng.uniform(0.5, 1.5, leaf.shape) if path[-1].key in ("var", "scale") else rng.normal(size=leaf.shape)
        return np.float32(value / (np.sqrt(np.prod(leaf.shape[:-1])) if path[-1].key == "kernel" else 1))

    return model, jax.tree_util.tree_map_with_path(draw, dict(shapes)), np.asarray(images)


def conv(x, params):
    kernel = np.float64(params["kernel"])
    side = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    return np.einsum("bhwcij,ijcf->bhwf", windows, kernel) + params.get("bias", 0)


def normalized(x, params, statistics, epsilon=1e-5):
    x = (x - statistics["mean"]) / np.sqrt(statistics["var"] + epsilon) * params["scale"] + params["bias"]
    return np.maximum(x, 0)


class Plain:
    """The layers of a net by name, in NumPy."""

    def __init__(self, variables):
        self.params, self.statistics = variables["params"], variables["batch_stats"]

    def layer(self, x, *path):
        params, statistics = self.params, self.statistics
        for name in path:
            params, statistics = params[name], statistics[name]
        return normalized(conv(x, params["conv"]), params["bn"], statistics["bn"])

    def pair(self, x, name):
        return self.layer(self.layer(x, f"{name}_0"), f"{name}_1")


def transposed(x, params):
    kernel = np.float64(params["kernel"])[::-1, ::-1]  # ours is a convolution of the spread map
    y = np.einsum("bhwc,ijcf->bhiwjf", x, kernel)
    return y.reshape(len(x), 2 * x.shape[1], 2 * x.shape[2], -1) + params["bias"]


def interpolated(x, places):
    """Linear interpolation of both sides at the places that a function gives for a side."""
    for axis in (1, 2):
        at = places(x.shape[axis])
        x = np.apply_along_axis(lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, x)
    return x


def corners(x):
    return interpolated(x, lambda side: np.linspace(0, side - 1, 2 * side))


def centers(x):
    return interpolated(x, lambda side: (np.arange(2 * side) + 0.5) / 2 - 0.5)


def repeated(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def run(model, variables, images, **how):
    return np.asarray(jax.jit(lambda v, x: model.apply(v, x, **how))(variables, images))


def paths(variables):
    found = jax.tree_util.tree_leaves_with_path(variables["params"])
    return {"/".join(part.key for part in path[:-1]) for path, _ in found}


def test_defaults_have_the_parameters_that_checkpoints_hold():
    layers = [f"{part}/{kind}" for part in ("down_0_0", "down_0_1", "down_1_0", "down_1_1") for kind in ("conv", "bn")]
    layers += [f"join_0_{i}/{kind}" for i in (0, 1) for kind in ("conv", "bn")]
    _, variables, _ = built("unet", width=2, depth=1)
    assert paths(variables) == {*layers, "up_0/conv", "classifier"}
    _, variables, _ = built("unet_original", (28, 28), width=2, depth=1)
    pairs = {f"{part}_conv{i}" for part in ("down1", "down2", "join1") for i in (1, 2)}
    assert paths(variables) == {*pairs, "up1/conv", "classifier"}
    assert variables["params"]["join1_conv1"]["kernel"].shape == (3, 3, 4, 2)
    _, variables, _ = built("unet_resnet18", backbone=RESNET, decoder_widths=WIDTHS)
    decoder = {f"join_{i}_{j}/{kind}" for i in range(5) for j in (0, 1) for kind in ("conv", "bn")}
    ups = {f"up_{i}/conv" for i in range(5)}
    assert {path for path in paths(variables) if "backbone" not in path} == {*decoder, *ups, "classifier"}
    assert variables["params"]["classifier"]["kernel"].shape == (1, 1, 3, 2)


@pytest.mark.parametrize("odd_sides", ["zeros", "crop"])
@pytest.mark.parametrize("size", [(7, 9), (8, 8), (6, 11)])
def test_borders_of_zeros_and_without(size, odd_sides):
    """What does not halve is dropped on the way down, and zero on the way up, or is absent from there too."""
    model, variables, images = built("unet", size, width=2, depth=2, odd_sides=odd_sides)
    plain = Plain(variables)
    maps = [plain.pair(images, "down_0")]
    for level in (1, 2):
        x = maps[-1][:, : maps[-1].shape[1] // 2 * 2, : maps[-1].shape[2] // 2 * 2]
        pooled = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max(axis=(2, 4))
        maps.append(plain.pair(pooled, f"down_{level}"))
    x = maps[2]
    for level in (1, 0):
        up, skip = transposed(x, variables["params"][f"up_{level}"]["conv"]), maps[level]
        if odd_sides == "zeros":
            up = np.pad(up, ((0, 0), *((0, have - want) for have, want in zip(skip.shape[1:3], up.shape[1:3])), (0, 0)))
        skip = skip[:, : up.shape[1], : up.shape[2]]
        x = plain.pair(np.concatenate([skip, up], axis=-1), f"join_{level}")
    expected = conv(x, variables["params"]["classifier"])
    rows, columns = (np.minimum(np.arange(side), have - 1) for side, have in zip(size, expected.shape[1:3]))
    expected = expected[:, rows][:, :, columns]
    np.testing.assert_allclose(run(model, variables, images), expected, rtol=1e-4, atol=1e-4)


def test_narrow_levels_need_no_layer_to_double():
    """The bottom and each level on the way up end in the channels of the level above."""
    model, variables, images = built("unet", (8, 12), width=2, depth=2, narrow=True, upsampling="corners_bare")
    kernels = {name: tree["conv"]["kernel"].shape[2:] for name, tree in variables["params"].items() if "_" in name}
    assert kernels["down_2_0"] == kernels["down_2_1"] == (4, 4)
    assert (kernels["join_1_0"], kernels["join_1_1"]) == ((8, 4), (4, 2))
    assert (kernels["join_0_0"], kernels["join_0_1"]) == ((4, 2), (2, 2))
    assert not any(name.startswith("up") for name in variables["params"])
    maps = [np.float64(x) for x in jax.jit(lambda v, x: model.apply(v, x, method="decoded"))(variables, images)]
    skip = run(model, variables, images, method=lambda net, x: net.features(x)["level2"])
    expected = Plain(variables).pair(np.concatenate([skip, corners(maps[0])], axis=-1), "join_1")
    np.testing.assert_allclose(maps[1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("way", "enlarged"), [("nearest_bare", repeated), ("corners_bare", corners), ("bilinear_pointwise", centers)]
)
def test_ways_to_double(way, enlarged):
    layer = any_doubling(3, way, jnp.float32, BatchNormOptions())
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    double = nn.init_with_output(lambda layer, x: doubled(layer, x, False), layer)
    found, variables = jax.tree.map(np.asarray, jax.jit(double)(jax.random.key(0), x))
    expected = enlarged(x)
    if way == "bilinear_pointwise":
        assert paths(variables) == {"project/conv", "project/bn"}
        expected = Plain(variables).layer(expected, "project")
    else:
        assert not variables
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_heads_of_a_convolution_more():
    options = {"width": 4, "depth": 2, "head_width": 5, "aux": True, "head_dropout": 0.0, "norm": {"frozen": True}}
    model, variables, images = built("unet", (7, 9), **options)
    maps = [np.float64(x) for x in jax.jit(lambda v, x: model.apply(v, x, method="decoded"))(variables, images)]
    plain = Plain(variables)
    expected = conv(plain.layer(maps[-1], "head", "conv"), variables["params"]["head"]["classifier"])
    auxiliary = conv(plain.layer(maps[-2], "aux_head", "conv"), variables["params"]["aux_head"]["classifier"])
    (logits, extra), _ = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(variables, images)
    np.testing.assert_allclose(logits, expected[:, :7, :9], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(extra["aux"], centers(auxiliary)[:, :7, :9], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run(model, variables, images), expected[:, :7, :9], rtol=1e-4, atol=1e-4)


def test_named_skips_a_center_and_a_larger_head():
    """The decoder of segmentation_models_pytorch: no skip at stride 1, two layers in the middle, a 3x3 head."""
    skips = ("stem", "stage1", "stage2", "stage3", "stage4")
    options = {"skips": skips, "center_widths": (6, 7), "head_size": 3, "upsampling": "nearest_bare"}
    model, variables, images = built("unet_resnet18", (32, 64), backbone=RESNET, decoder_widths=WIDTHS, **options)
    maps = jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, images)
    assert maps["stage4"].shape[1:3] == (1, 2)  # 32 pixels stay 32
    plain, x = Plain(variables), np.float64(maps["stage4"])
    for place in (0, 1):
        x = plain.layer(x, f"center_{place}")
    for block, name in enumerate(("stage3", "stage2", "stage1", "stem", None)):
        parts = [np.float64(maps[name])] if name else []
        x = plain.pair(np.concatenate([*parts, repeated(x)], axis=-1), f"join_{block}")
    expected = conv(x, variables["params"]["classifier"])
    np.testing.assert_allclose(run(model, variables, images), expected, rtol=1e-3, atol=1e-3)


def test_the_released_unpadded_net_rectifies_a_wider_up_convolution():
    options = {"width": 2, "depth": 1, "dropout": 0.0, "last_up_width": 5, "up_relu": True}
    model, variables, images = built("unet_original", (28, 32), **options)
    params = variables["params"]
    assert params["up1"]["conv"]["kernel"].shape == (2, 2, 4, 5)
    assert params["join1_conv1"]["kernel"].shape == (3, 3, 2 + 5, 2)
    maps = jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, images)
    skip, x = map(np.float64, maps.values())
    up = np.maximum(transposed(x, params["up1"]["conv"]), 0)
    top, left = ((have - want) // 2 for have, want in zip(skip.shape[1:3], up.shape[1:3]))
    x = np.concatenate([skip[:, top : top + up.shape[1], left : left + up.shape[2]], up], axis=-1)
    for number in (1, 2):
        x = np.maximum(conv(x, params[f"join1_conv{number}"])[:, 1:-1, 1:-1], 0)
    np.testing.assert_allclose(run(model, variables, images), conv(x, params["classifier"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("unet", {"odd_sides": "wrap"}, "odd_sides is mirror, zeros, crop"),
        ("unet", {"odd_sides": "zeros"}, "16x16"),
        ("unet", {"head_width": 0}, "head_width is None or at least 1"),
        ("unet", {"upsampling": "bare"}, "nearest_bare, corners_bare, bilinear_pointwise"),
        ("unet_original", {"last_up_width": 0}, "last_up_width is None or at least 1"),
        ("unet_resnet18", {"head_size": 2}, "head_size is an odd number"),
        ("unet_resnet18", {"skips": ()}, "stem, stage1, stage2, stage3, stage4"),
        ("unet_resnet18", {"skips": ("stem", "pool5")}, "pool5"),
        ("unet_resnet18", {"skips": ("stage2", "stage1")}, "have 8, 4"),
    ],
)
def test_values_that_cannot_be(name, options, fault):
    model = create_model(name, num_classes=2, **options)
    with pytest.raises(ConfigError, match=fault):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
