"""U-Nets: sizes, crops that stay aligned, options, and classifiers as encoders."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.nn import Upsampling
from cvjax.weights import load_backbone, to_torch

SIZES = [(1, 1), (1, 300), (2, 3), (31, 33), (97, 64), (255, 256), (511, 1023), (1025, 2049)]
TINY_ENCODERS = {
    "resnet18": {"width": 8, "stage_sizes": (1, 1, 1, 1)},
    "resnet50": {"width": 8, "stage_sizes": (1, 1, 1, 1)},
    "vgg16": {"widths": (4, 4, 8, 8, 8), "stage_sizes": (1, 1, 1, 1, 1)},
    "efficientnet_b0": {"width_coefficient": 0.25, "depth_coefficient": 0.3},
    "densenet121": {"block_sizes": (1, 1, 1, 1), "growth": 4},
    "googlenet": {},
    "resnet20_cifar": {},
}


def shapes_of(model, size, channels=3):
    images = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    return jax.eval_shape(model.init_with_output, jax.random.key(0), images)


def count(variables) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_the_published_net():
    model = create_model("unet_original", num_classes=2, in_channels=1)
    logits, variables = shapes_of(model, (572, 572), channels=1)
    assert logits.shape == (1, 388, 388, 2)
    assert count(variables) == 31_030_658
    assert (model.margin, model.step) == (92, 16)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_sizes_that_fit_are_those_that_the_net_can_take(depth):
    model = create_model("unet_original", num_classes=2, width=1, depth=depth)
    for wanted in (1, 5, 50, 388):
        size = model.input_size((wanted, wanted + 7))
        logits, _ = shapes_of(model, size)
        assert logits.shape[1:3] == model.output_size(size) == tuple(side - 2 * model.margin for side in size)
        assert all(0 <= have - want < model.step for have, want in zip(logits.shape[1:3], (wanted, wanted + 7)))
    smallest = model.input_size((1, 1))[0]
    with pytest.raises(ConfigError, match=f"nearest sizes that fit are {smallest}x{smallest}"):
        shapes_of(model, (smallest - 1, smallest))


def test_sizes_that_do_not_fit_name_their_neighbors():
    model = create_model("unet_original", num_classes=2)
    with pytest.raises(ConfigError, match="556x572 or 572x572"):
        model.output_size((570, 572))


def test_crops_of_the_skips_are_aligned():
    """The influence of one pixel of the image is centered on the logit that stands above it."""
    model = create_model("unet_original", num_classes=2, width=2, depth=2, dropout=0.0)
    images = jax.random.normal(jax.random.key(0), (1, *model.input_size((20, 20)), 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    # The shallowest skip alone: what comes from below is cut off, so that a logit sees 4 pixels on every side.
    variables["params"]["up1"] = jax.tree.map(jnp.zeros_like, variables["params"]["up1"])
    row, column = 9, 6
    seen = jax.jit(jax.grad(lambda x: model.apply(variables, x)[0, row, column].sum()))(images)
    rows, columns, _ = np.nonzero(seen[0])
    assert (rows.min(), rows.max()) == (row + model.margin - 4, row + model.margin + 4)
    assert (columns.min(), columns.max()) == (column + model.margin - 4, column + model.margin + 4)


def test_a_shift_by_a_step_shifts_the_logits():
    model = create_model("unet_original", num_classes=2, width=2, depth=2)
    height, width = model.input_size((20, 20))
    images = jax.random.normal(jax.random.key(0), (1, height + model.step, width, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images[:, :height])
    apply = jax.jit(model.apply)
    upper, lower = (apply(variables, images[:, top : top + height]) for top in (0, model.step))
    np.testing.assert_allclose(upper[:, model.step :], lower[:, : -model.step], atol=1e-5)


def test_dropout_is_at_the_end_of_the_contracting_path():
    model = create_model("unet_original", num_classes=2, width=4, depth=2)
    images = jnp.ones((1, *model.input_size((4, 4)), 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)

    @jax.jit
    def maps(key):
        return [model.apply(variables, images, t, method="features", rngs={"dropout": key}) for t in (False, True)]

    still, dropped = maps(jax.random.key(2))
    assert [bool((still[name] == dropped[name]).all()) for name in still] == [True, False, False]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["unet", "unet_resnet18"])
def test_any_size(name, size):
    model = create_model(name, num_classes=3)
    assert shapes_of(model, size)[0].shape == (1, *size, 3)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("method", get_args(Upsampling))
def test_upsampling_is_one_option(method, depth):
    model = create_model("unet", num_classes=3, width=4, depth=depth, upsampling=method)
    logits, variables = shapes_of(model, (19, 22))
    assert logits.shape == (1, 19, 22, 3)
    assert f"down_{depth}_0" in variables["params"]
    assert f"down_{depth + 1}_0" not in variables["params"]
    with pytest.raises(ConfigError, match="upsampling is transposed"):
        shapes_of(create_model("unet", num_classes=3, upsampling="cubic"), (16, 16))


def test_images_are_continued_by_mirroring():
    model = create_model("unet", num_classes=2, width=2, depth=1)
    images = jax.random.normal(jax.random.key(0), (1, 7, 9, 3))
    mirrored = jnp.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="reflect")
    variables = jax.jit(model.init)(jax.random.key(1), images)
    logits, expected = jax.jit(lambda *images: [model.apply(variables, x) for x in images])(images, mirrored)
    np.testing.assert_allclose(logits, expected[:, :7, :9], atol=1e-6)


@pytest.mark.parametrize("encoder", TINY_ENCODERS)
def test_encoders(encoder):
    model = create_model(
        "unet_resnet18",
        num_classes=3,
        backbone=create_model(encoder, num_classes=0, **TINY_ENCODERS[encoder]),
        decoder_widths=(6, 6, 5, 4, 4),
    )
    (logits, variables), (_, others) = (shapes_of(model, size) for size in ((65, 97), (130, 7)))
    assert logits.shape == (1, 65, 97, 3)
    assert jax.tree.map(lambda a: a.shape, variables) == jax.tree.map(lambda a: a.shape, others)
    alone = create_model(encoder, num_classes=0, **TINY_ENCODERS[encoder])
    _, expected = shapes_of(alone, (224, 224))
    expected["params"].pop("head", None)
    ours = jax.tree.map(lambda a: a.shape, variables["params"]["backbone"])
    assert ours == jax.tree.map(lambda a: a.shape, {k: expected["params"][k] for k in ours})


def test_skips_are_the_deepest_map_of_each_scale():
    """VGG's maps before the poolings join the decoder at strides 1 to 16; what it doubles is the last pooling's."""
    model = create_model(
        "unet_vgg16", num_classes=2, backbone=TINY_ENCODERS["vgg16"], decoder_widths=(10, 20, 30, 40, 50)
    )
    params = shapes_of(model, (64, 64))[1]["params"]
    inputs = [params[f"join_{i}_0"]["conv"]["kernel"].shape[2] for i in range(5)]
    assert inputs == [10 + 8, 20 + 8, 30 + 8, 40 + 4, 50 + 4]


def test_encoders_without_padding_say_what_they_need():
    model = create_model("unet_resnet18", num_classes=2, backbone=create_model("alexnet", num_classes=0))
    assert shapes_of(model, (200, 300))[0].shape == (1, 200, 300, 2)
    with pytest.raises(ConfigError, match="192x192"):
        shapes_of(model, (64, 64))
    assert create_model("unet_resnet18", num_classes=2, backbone="resnet50").backbone.bottleneck
    with pytest.raises(ConfigError, match="give 5 widths"):
        shapes_of(create_model("unet_resnet18", num_classes=2, decoder_widths=(8, 8)), (64, 64))


def test_imagenet_weights_reach_the_encoder():
    """Of VGG the dense layers stay behind."""
    options = {"widths": (2, 2, 2, 2, 2), "stage_sizes": (1, 1, 1, 1, 1)}
    classifier = create_model("vgg11", num_classes=5, hidden=3, **options)
    _, given = shapes_of(classifier, (64, 64))
    given = jax.tree.map(lambda a: np.full(a.shape, 0.5, np.float32), dict(given))
    model = create_model("unet_vgg16", num_classes=2, backbone=create_model("vgg11", num_classes=0, **options))
    variables = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), dict(shapes_of(model, (64, 64))[1]))
    state_dict = dict(to_torch("vgg11", given))
    loaded = load_backbone(variables, state_dict, "vgg11")["params"]
    assert all((leaf == 0.5).all() for leaf in jax.tree.leaves(loaded.pop("backbone")))
    assert not any(leaf.any() for leaf in jax.tree.leaves(loaded))
