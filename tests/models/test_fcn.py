"""FCN on VGG-16 and on ResNets: crops, skips, sizes, and how a finer net starts from a coarser one."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cvjax
from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model
from cvjax.weights import load_backbone, to_torch, warm_start

NAMES = ["fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16"]
SMALL = {"stage_sizes": (1, 1, 1, 1, 1), "widths": (2, 3, 4, 5, 6), "hidden": 7}
TINY = {"num_classes": 3, "backbone": SMALL}


def _images(height, width):
    return jax.random.normal(jax.random.key(0), (1, height, width, 3))


def _random(variables):
    """Every parameter drawn, so that nothing is zero."""
    leaves, structure = jax.tree.flatten(variables)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(structure, [rng.standard_normal(leaf.shape, np.float32) * 0.3 for leaf in leaves])


def _init(name, *size, **options):
    model = create_model(name, **TINY, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), _images(*size))
    return model, _random(shapes)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alignment", ["paper", "same"])
def test_any_size_comes_out_as_it_went_in(name, alignment):
    for upsampling in ("transposed", "nearest"):
        model = create_model(name, **TINY, alignment=alignment, upsampling=upsampling)
        variables = jax.eval_shape(model.init, jax.random.key(0), _images(32, 32))
        for size in ((1, 1), (1, 90), (33, 50), (64, 65), (1025, 2049)):
            images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
            logits = jax.eval_shape(model.apply, variables, images)
            assert (logits.shape, logits.dtype) == ((2, *size, 3), jnp.float32)


def test_published_parameters():
    assert round(cvjax.model_info("fcn8s_vgg16").params / 1e6, 1) == 134.5
    assert cvjax.model_info("fcn_resnet50").params == 35_322_218  # torchvision's, with the auxiliary head
    assert cvjax.model_info("fcn_resnet101").params == 54_314_346


def _score(x, layer):
    return x @ layer["kernel"][0, 0] + layer["bias"][None, None, None]


def _upscore(x, kernel, stride):
    """Caffe's deconvolution: all that the copies of the kernel reach."""
    return jax.lax.conv_transpose(x, kernel, (stride, stride), "VALID")


def test_8s_is_the_papers_sum_with_its_crops():
    """By hand: 2x, add the fourth pooling's from pixel 5 on, 2x, the third's from 9, 8x, the image from 31."""
    height, width = 41, 70
    model, variables = _init("fcn8s_vgg16", height, width)
    images = _images(height, width)
    maps = model.apply(variables, images, method="features")
    params = variables["params"]

    def score(name, map_name):
        return _score(maps[map_name], params[name])

    def cropped(x, first, like):
        return x[:, first : first + like.shape[1], first : first + like.shape[2]]

    x = _upscore(score("score", "fc7"), params["up_pool4"]["conv"]["kernel"], 2)
    x = x + cropped(score("score_pool4", "pool4"), 5, x)
    x = _upscore(x, params["up_pool3"]["conv"]["kernel"], 2)
    x = x + cropped(score("score_pool3", "pool3"), 9, x)
    x = cropped(_upscore(x, params["up_image8"]["conv"]["kernel"], 8), 31, images)
    logits = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(logits, x, atol=1e-4 * float(jnp.abs(x).max()))


@pytest.mark.parametrize(("name", "last", "crops"), [(NAMES[0], 32, (19,)), (NAMES[1], 16, (5, 27))])
def test_coarser_nets_have_the_papers_crops(name, last, crops):
    model, variables = _init(name, 33, 34)
    maps = model.apply(variables, _images(33, 34), method="features")
    params = variables["params"]
    x = _score(maps["fc7"], params["score"])
    if last == 16:
        x = _upscore(x, params["up_pool4"]["conv"]["kernel"], 2)
        skip = _score(maps["pool4"], params["score_pool4"])
        x += skip[:, crops[0] : crops[0] + x.shape[1], crops[0] : crops[0] + x.shape[2]]
    x = _upscore(x, params[f"up_image{last}"]["conv"]["kernel"], last)[:, crops[-1] :, crops[-1] :][:, :33, :34]
    logits = model.apply(variables, _images(33, 34))
    np.testing.assert_allclose(logits, x, atol=1e-4 * float(jnp.abs(x).max()))


def test_the_papers_padding_is_100_zeros_before_the_first_convolution():
    model, variables = _init("fcn32s_vgg16", 9, 9)
    first = variables["params"]["backbone"]["conv1_1"]
    images = _images(9, 9)
    expected = linen.relu(linen.Conv(2, (3, 3), padding=100).apply({"params": first}, images))
    np.testing.assert_allclose(model.apply(variables, images, method="features")["stage1"], expected, atol=1e-5)


def test_same_padding_adds_skips_on_the_maps_own_grids():
    model, variables = _init("fcn8s_vgg16", 64, 96, alignment="same", upsampling="nearest", skip_scales=(0.5, 0.25))
    for name in ("up_pool4", "up_pool3", "up_image8"):  # back to what they start as
        kernel = variables["params"][name]["conv"]["kernel"]
        variables["params"][name]["conv"]["kernel"] = np.zeros_like(kernel)
        variables["params"][name]["conv"]["kernel"][1, 1] = np.eye(3)
    images = _images(64, 96)
    maps = model.apply(variables, images, method="features")
    expected = 0.0
    for name, map_name, scale, stride in (
        ("", "fc7", 1, 32),
        ("_pool4", "pool4", 0.5, 16),
        ("_pool3", "pool3", 0.25, 8),
    ):
        scores = _score(scale * maps[map_name], variables["params"][f"score{name}"])
        expected = expected + scores.repeat(stride, 1).repeat(stride, 2)
    logits = model.apply(variables, images)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("finer", [1, 2])
def test_a_finer_net_starts_as_what_the_coarser_one_computes(finer, caplog):
    """Exactly so with the nearest pixel, as twice and 16 times is 32 times."""
    options = {"alignment": "same", "upsampling": "nearest", "last_upsampling": "nearest"}
    coarse, learnt = _init(NAMES[finer - 1], 40, 70, **options)
    last = f"up_image{64 >> finer}"
    kernel = np.zeros_like(learnt["params"][last]["conv"]["kernel"])
    kernel[1, 1] = np.eye(3)
    learnt["params"][last]["conv"]["kernel"] = kernel
    fine = create_model(NAMES[finer], **TINY, **options)
    images = _images(40, 70)
    fresh = jax.jit(fine.init)(jax.random.key(1), images)
    assert not fine.apply(fresh, images).any()
    started = warm_start(fresh, learnt)
    logits = coarse.apply(learnt, images)
    np.testing.assert_allclose(fine.apply(started, images), logits, atol=1e-4 * float(jnp.abs(logits).max()))
    skip = "pool4" if finer == 1 else "pool3"
    assert f"start anew: score_{skip}, up_image{32 >> finer}/conv, up_{skip}/conv" in caplog.text
    assert f"are left out: {last}/conv" in caplog.text


def test_what_is_inherited():
    shapes = {name: _init(name, 32, 32)[1] for name in NAMES}
    fresh = jax.tree.map(np.zeros_like, shapes["fcn16s_vgg16"])
    wider = create_model(NAMES[0], **TINY | {"num_classes": 5})
    other = _random(jax.eval_shape(wider.init, jax.random.key(0), _images(32, 32)))
    taken = warm_start(fresh, other)["params"]
    assert jax.tree.all(jax.tree.map(np.array_equal, taken.pop("backbone"), other["params"]["backbone"]))
    assert not any(leaf.any() for leaf in jax.tree.leaves(taken))
    classifier = {"params": other["params"]["backbone"] | {"head": dict(other["params"]["backbone"]["head"], head={})}}
    again = warm_start(fresh, classifier)["params"]["backbone"]
    assert jax.tree.all(jax.tree.map(np.array_equal, again, other["params"]["backbone"]))
    del other["params"]["backbone"]["conv3_1"]["bias"]
    with pytest.raises(CheckpointError, match="backbone/conv3_1/bias"):
        warm_start(fresh, other)
    with pytest.raises(CheckpointError, match="another net"):
        warm_start({"params": {"head": fresh["params"]["score"]}}, {"params": {"fc": fresh["params"]["score"]}})


def test_imagenet_weights_of_vgg16_fill_the_backbone():
    options = SMALL | {"stage_sizes": (2, 2, 3, 3, 3)}
    classifier = create_model("vgg16", num_classes=3, **options)
    weights = _random(jax.eval_shape(classifier.init, jax.random.key(0), _images(32, 32)))
    model = create_model("fcn8s_vgg16", num_classes=4, backbone=options)
    variables = _random(jax.eval_shape(model.init, jax.random.key(0), _images(32, 32)))
    loaded = load_backbone(variables, to_torch("vgg16", weights), "vgg16")["params"]["backbone"]
    expected = weights["params"] | {"head": {k: v for k, v in weights["params"]["head"].items() if k != "head"}}
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, expected))


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"alignment": "valid"}, "paper or same"),
        ({"skips": ("pool3",)}, "pool4"),
        ({"skip_scales": ()}, "a factor for each"),
        ({"upsampling": "cubic"}, "bilinear"),
        ({"in_channels": 1}, "in_channels=3"),
    ],
)
def test_impossible_options(options, fix):
    with pytest.raises(ConfigError, match=fix):
        jax.eval_shape(create_model("fcn8s_vgg16", **TINY, **options).init, jax.random.key(0), _images(32, 32))


def test_training_drops_and_normalizes_in_half_precision():
    options = {"num_classes": 3, "backbone": SMALL | {"batch_norm": True}}
    model = create_model("fcn8s_vgg16", **options, dtype=jnp.bfloat16, alignment="same")
    variables = jax.eval_shape(model.init, jax.random.key(0), _images(32, 32))
    rngs = {"dropout": jax.random.key(0)}
    train = lambda v: model.apply(v, _images(32, 32), train=True, mutable=["batch_stats"], rngs=rngs)  # noqa: E731
    logits, updates = jax.eval_shape(train, variables)
    assert logits.dtype == jnp.float32
    assert jax.tree.structure(updates["batch_stats"]) == jax.tree.structure(variables["batch_stats"])


@pytest.mark.parametrize("upsampling", [None, "transposed", "bilinear"])
def test_resnets_take_any_size(upsampling):
    options = {"backbone": {"stage_sizes": (1, 1, 1, 1), "width": 8}, "upsampling": upsampling}
    shapes = set()
    for stride in (8, 32):
        model = create_model("fcn_resnet50", num_classes=3, output_stride=stride, **options)
        variables = jax.eval_shape(model.init, jax.random.key(0), _images(33, 33))
        shapes.add(str(jax.tree.map(jnp.shape, variables["params"]["backbone"])))
        for size in ((1, 1), (33, 50), (1025, 2049)):
            images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
            assert jax.eval_shape(model.apply, variables, images).shape == (1, *size, 3)
            (logits, extra), _ = jax.eval_shape(
                lambda v, x, m=model: m.apply(
                    v, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
                ),
                variables,
                images,
            )
            assert logits.shape == extra["aux"].shape == (1, *size, 3)
    assert len(shapes) == 1
