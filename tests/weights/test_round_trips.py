"""Every model's weights go out to a file and come back, in every layout that they have, bit for bit.

The nets are as deep as they are, so that all names are there, and narrow, so that the files are small. What layouts
fold into other layers is in tests/weights/test_public_detectors.py and test_caffe_nets.py, where outputs are compared.
"""

import fnmatch
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensor_bundles import write_bundle

from cvjax.errors import ConfigError
from cvjax.models import create_model, list_models, model_info, model_options
from cvjax.models.detection.detector import beside_images
from cvjax.weights import (
    from_tensorflow,
    from_torch,
    read_bundle,
    read_darknet,
    read_state_dict,
    to_tensorflow,
    to_torch,
    write_darknet,
    write_state_dict,
)
from cvjax.weights.convert import recognize
from cvjax.weights.layouts.known import architectures
from cvjax.weights.own import from_own, to_own

FIVE = {"channels": (4, 4, 4, 4, 4), "hidden": 8}
VGG = {"widths": (2, 2, 3, 3, 4), "hidden": 8}
# Options that make a net narrow, by patterns of names: of the net itself, or of its backbone.
NETS = {
    "alexnet*": FIVE,
    "zfnet*": FIVE,
    "vgg*": VGG,
    "resnet*_cifar": {},  # the order of akamaster's channels is that of 16
    "plain*_cifar": {},
    "resnext*": {"width": 16},
    "seresnext*": {"width": 16},
    "resnet*": {"width": 8},
    "seresnet*": {"width": 8},
    "wide_resnet*": {"width": 8},
    "plain*": {"width": 8},
    "legacy_senet154": {"stage_sizes": (1, 1, 1, 1)},  # it has no width
    "densenet*": {"growth": 4, "stem_features": 8},
    "efficientnet*": {"width_coefficient": 0.25, "top_features": 16},
    "xception*": {"width_coefficient": 0.125},
    "googlenet*": {"width": 0.25},
    "nin*": {"width": 0.25},
    "darknet*": {"width": 0.25},
    "unet": {"width": 2},
    "unet_original": {"width": 2},
    "yolov1*": {"hidden": 8, "width": 0.25},
    "fast_rcnn_vgg_cnn_m": {"backbone": FIVE | {"hidden": (8, 6)}},
    "faster_rcnn_zf": {"backbone": FIVE, "rpn_channels": 3},
    "faster_rcnn_vgg16": {"backbone": VGG, "rpn_channels": 3},
    "sppnet_zf5": {"backbone": FIVE},
    "*rcnn_alexnet": {"backbone": FIVE},
    "deeplabv1*": {"backbone": {"widths": VGG["widths"]}, "hidden": 8},
    "deeplabv2_vgg16": {"backbone": {"widths": VGG["widths"]}, "hidden": 8},
    "unet_*": {"decoder_widths": (6, 5, 4, 3, 2)},
    "deeplabv3plus_*": {"aspp_features": 4, "low_level_features": 3},
    "deeplabv3_resnet*": {"aspp_features": 4},
}
BACKBONES = {
    "*vgg*": {"backbone": VGG},
    "*densenet*": {"backbone": NETS["densenet*"]},
    "*efficientnet*": {"backbone": NETS["efficientnet*"]},
    "*xception*": {"backbone": NETS["xception*"]},
    "*resnet*": {"backbone": {"width": 8}},
}
MORE = {
    ("fast_rcnn_vgg16", "caffe_svd"): {"svd_ranks": (3, 5)},
    ("faster_rcnn_vgg16", "caffe_coco"): {"rpn_channels": 512},
}
# YOLO and its classifiers have darknet's .weights.
DARKNET = ("darknet_yolov1", "darknet_yolov1_tiny", "yolov1", "yolov1_tiny")
# Layouts whose files have the last layer's rows multiplied, and the module of ours that has them.
SCALED = {"fast_rcnn_*": "regressor", "faster_rcnn_*": "deltas"}
QUICK = (
    "alexnet",
    "deeplabv2_resnet18",
    "faster_rcnn_zf",
    "nin",
    "resnet20_cifar",
    "resnetv2_18",
    "seresnet18",
    "unet",
)


def _layouts(name):
    try:
        return [architecture.layout for architecture in architectures(name)]
    except ConfigError:
        return ["darknet" if name in DARKNET else "cvjax"]


def _cases():
    return [
        pytest.param(name, layout, id=f"{name}-{layout}", marks=() if name in QUICK else pytest.mark.slow)
        for name in list_models()
        for layout in _layouts(name)
    ]


def _found(table, name):
    return next((options for pattern, options in table.items() if fnmatch.fnmatchcase(name, pattern)), {})


def _narrow(name):
    options = {**_found(NETS, name)}
    if "backbone" in model_options(name) and "backbone" not in options:
        options |= _found(BACKBONES, name)
    return options


def _joined(options, more):
    """Options of both, the second's before the first's, also within the backbone."""
    both = {**options, **more}
    if "backbone" in options and "backbone" in more:
        both["backbone"] = {**options["backbone"], **more["backbone"]}
    return both


@pytest.fixture(scope="module")
def shapes_of():
    """A function that returns the shapes of a net's leaves; layouts that need the same options share them."""
    known = {}

    def shapes(name, options):
        key = name, repr(options)
        if key not in known:
            model = create_model(name, num_classes=3, **options)
            side = model_info(name).image_size
            shape = (1, side, side, model_options(name).get("in_channels", 3))
            more = beside_images(model, shape)
            known[key] = jax.eval_shape(lambda key: model.init(key, jnp.zeros(shape), **more), jax.random.key(0))
        return known[key]

    return shapes


def _bits(path, leaf):
    """Any bit patterns, each once in a leaf, among them signed zeros, denormals, infinities and NaN."""
    start = zlib.crc32(jax.tree_util.keystr(path).encode())
    numbers = (np.arange(leaf.size, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(start)).view(np.float32)
    numbers[:4] = np.float32([-0.0, 1e-42, np.nan, -np.inf])[: leaf.size]
    return numbers.reshape(leaf.shape)


def _normal(path, leaf):
    """Numbers that folds calculate with."""
    rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
    return rng.standard_normal(leaf.shape, np.float32)


def _assert_same(again, variables, scaled=None):
    leaves, wanted = jax.tree_util.tree_leaves_with_path(again), jax.tree_util.tree_leaves_with_path(variables)
    assert [path for path, _ in leaves] == [path for path, _ in wanted]
    for (path, ours), (_, value) in zip(leaves, wanted):
        ours = np.asarray(ours)
        assert (ours.dtype, ours.shape) == (value.dtype, value.shape), path
        if scaled in [part.key for part in path] and "rpn" not in [part.key for part in path]:
            np.testing.assert_allclose(ours, value, rtol=3e-7)
        else:
            assert ours.tobytes() == value.tobytes(), path


def _through(path, state):
    write_state_dict(path, state)
    return read_state_dict(path)


@pytest.mark.parametrize(("name", "layout"), _cases())
def test_a_model_comes_back_from_its_file(name, layout, shapes_of, tmp_path):
    options, found = _narrow(name) | MORE.get((name, layout), {}), None
    if layout not in ("darknet", "cvjax"):
        found = next(architecture for architecture in architectures(name) if architecture.layout == layout)
        options = _joined(options, found.options)
        if found.aux_prefix is not None and "aux" in model_options(name):
            options["aux"] = True
    shapes = shapes_of(name, options)
    draw = _normal if found is not None and found.fold is not None else _bits
    variables = jax.tree_util.tree_map_with_path(draw, dict(shapes))
    if layout == "darknet":
        write_darknet(tmp_path / "net.weights", variables)
        _assert_same(read_darknet(tmp_path / "net.weights", variables), variables)
    elif layout == "cvjax":
        _assert_same(from_own(_through(tmp_path / "net.safetensors", to_own(variables))), variables)
    elif layout == "tensorflow":
        write_bundle(tmp_path / "model.ckpt", to_tensorflow(name, variables))
        _assert_same(from_tensorflow(name, read_bundle(tmp_path / "model.ckpt.index"), shapes), variables)
    else:
        for stage in ("svm", "regressor") if name in ("sppnet_zf5", "rcnn_alexnet") else ():
            variables["params"][stage] = jax.tree.map(np.zeros_like, variables["params"][stage])
        state = to_torch(name, variables, layout=layout)
        read = _through(tmp_path / ("net.safetensors" if layout == _layouts(name)[0] else "net.pth"), state)
        assert read.keys() == state.keys()
        assert all(read[key].tobytes() == value.tobytes() for key, value in state.items())
        assert recognize(name, read)[0].table == found.table  # of some, names are the same, and the user tells
        scaled = _found(SCALED, name) if layout.startswith("caffe") else None
        _assert_same(from_torch(name, read, shapes, layout=layout), variables, scaled or None)
