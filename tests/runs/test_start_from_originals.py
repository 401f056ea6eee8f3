"""Presets start from the files that their papers started from: which layer takes what, and what starts anew."""

import dataclasses
import importlib
import json
import math

import caffe_files
import jax
import numpy as np
import pytest
from flax import traverse_util

from cvjax.cli.commandline import parse
from cvjax.errors import ConfigError
from cvjax.imagenet import IMAGENET_MEAN, IMAGENET_STD
from cvjax.models import model_options
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.weights.layouts.known import architectures

VGG_MEAN, DEEPLAB_MEAN, FCN_MEAN = (
    (103.939, 116.779, 123.68),
    (104.008, 116.669, 122.675),
    (104.00699, 116.66877, 122.67892),
)
FAST_MEAN, IMAGENET = (102.9801, 115.9465, 122.7717), (104.0, 117.0, 123.0)
DENSE = 8  # channels of dense layers, which a test need not have as many of as the net


def _convolution(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _vgg(dense):
    """Shapes in VGG_ILSVRC_16_layers.caffemodel, or with `dense` reduced in vgg_16_fc_reduced's."""
    shapes, before = {}, 3
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for number in range(1, count + 1):
            shapes |= _convolution(f"conv{stage}_{number}", width, before, 3, 3)
            before = width
    if dense == "reduced":
        layers = (("fc6", 512, 3), ("fc7", DENSE, 1), ("fc8", DENSE, 1))
        for name, inputs, side in layers:
            shapes |= _convolution(name, 1000 if name == "fc8" else DENSE, inputs, side, side)
        return shapes
    return shapes | _dense(512 * 49)


def _dense(inputs):
    return _convolution("fc6", DENSE, inputs) | _convolution("fc7", DENSE, DENSE) | _convolution("fc8", 1000, DENSE)


def _five(widths, sides, groups, inputs):
    """Shapes of a net of five convolutions: CaffeNet's or ZF-5's."""
    shapes, before = {}, 3
    for number, (width, side, group) in enumerate(zip(widths, sides, groups), start=1):
        shapes |= _convolution(f"conv{number}", width, before // group, side, side)
        before = width
    return shapes | _dense(inputs)


def _blocks():
    for stage, count in enumerate((3, 4, 23, 3), start=1):
        for block in range(count):
            letter = f"b{block}" if stage in (2, 3) and block else "abc"[block]
            yield stage, block, f"{stage + 1}{letter}"


def _resnet101(width, head):
    """Shapes of MSRA's ResNet-101 of another width, with the classifiers `head`."""
    shapes = {}

    def add(conv, norm, scale, *shape):
        vector = {f"{norm}.running_mean": shape[:1], f"{norm}.running_var": shape[:1]}
        shapes.update({f"{conv}.weight": shape} | vector | _convolution(scale, shape[0]))

    add("conv1", "bn_conv1", "scale_conv1", width, 3, 7, 7)
    before = width
    for stage, block, name in _blocks():
        inner = width << (stage - 1)
        rows = [("2a", inner, before, 1), ("2b", inner, inner, 3), ("2c", 4 * inner, inner, 1)]
        for part, rows_out, rows_in, side in [*rows, *([] if block else [("1", 4 * inner, before, 1)])]:
            end = f"{name}_branch{part}"
            add(f"res{end}", f"bn{end}", f"scale{end}", rows_out, rows_in, side, side)
        before = 4 * inner
    return shapes | head(before)


CAFFENET = _five((96, 256, 384, 384, 256), (11, 5, 3, 3, 3), (1, 2, 1, 2, 2), 9216)
ZF5 = _five((96, 256, 384, 384, 256), (7, 5, 3, 3, 3), (1,) * 5, 12800)
INIT = _resnet101(
    4, lambda width: {k: v for n in range(4) for k, v in _convolution(f"fc1_voc12_c{n}", 21, width, 3, 3).items()}
)
MSRA = _resnet101(4, lambda width: _convolution("fc1000", 1000, width))

CONVS = {f"backbone/{key[:-7]}": key[:-7] for key in _vgg(None) if key.startswith("conv") and "weight" in key}
FIVE = {f"backbone/conv_{number}": f"conv{number + 1}" for number in range(5)}
HEAD = {f"backbone/head/{fc}": fc for fc in ("fc6", "fc7")}
BODY = {"backbone/stem_conv_0": "conv1"} | {
    f"backbone/stage{stage}_{block}/{ours}": f"res{name}_branch{theirs}"
    for stage, block, name in _blocks()
    for ours, theirs in [
        ("conv1", "2a"),
        ("conv2", "2b"),
        ("conv3", "2c"),
        *([] if block else [("downsample_conv", "1")]),
    ]
}
FOUR = [f"classifier_{number}" for number in range(4)]
NARROW = {"backbone": {"width": 4}, "scales": (1.0,)}
VGG_HIDDEN, HIDDEN = {"backbone": {"hidden": DENSE}}, {"hidden": DENSE}


def _branches(count):
    return CONVS | {f"backbone/branch_{number}/{fc}": fc for number in range(count) for fc in ("fc6", "fc7")}


# Experiment, preset, what is made narrower, shapes of the file, its mean, layers by ours, and what starts anew.
STARTS = {
    "fcn": ("fcn_voc", "voc", VGG_HIDDEN, _vgg(None), FCN_MEAN, CONVS | HEAD,
            "score score_pool3 score_pool4 up_pool4 up_pool3"),
    "fcn32": ("fcn_voc", "voc_32s", VGG_HIDDEN, _vgg(None), FCN_MEAN, CONVS | HEAD, "score"),
    "fcn_batch": ("fcn_voc", "voc_batch", VGG_HIDDEN, _vgg(None), FCN_MEAN, CONVS | HEAD, "score"),
    "v1": ("deeplab_voc", "v1", HIDDEN, _vgg("reduced"), DEEPLAB_MEAN, _branches(1), "classifier_0"),
    "v2_vgg16": ("deeplab_voc", "v2_vgg16", HIDDEN, _vgg("reduced"), VGG_MEAN, _branches(4), " ".join(FOUR)),
    "v2_coco": ("deeplab_voc", "v2_resnet101", NARROW, INIT, DEEPLAB_MEAN,
                BODY | {f"classifier_{n}": f"fc1_voc12_c{n}" for n in range(4)}, ""),
    "v2_msra": ("deeplab_voc", "v2_resnet101", NARROW, MSRA, DEEPLAB_MEAN, BODY, " ".join(FOUR)),
    "fast_vgg": ("fast_rcnn_voc", "voc07", VGG_HIDDEN, _vgg(None), FAST_MEAN, CONVS | HEAD, "classifier regressor"),
    "fast_caffenet": ("fast_rcnn_voc", "voc07_caffenet", VGG_HIDDEN, CAFFENET, FAST_MEAN, FIVE | HEAD,
                      "classifier regressor"),
    "rcnn": ("rcnn_voc", "voc07_caffenet", VGG_HIDDEN, CAFFENET, IMAGENET, FIVE | HEAD, "classifier svm regressor"),
    "spp": ("sppnet_voc", "voc07", VGG_HIDDEN, ZF5, IMAGENET, FIVE | HEAD, "classifier svm regressor"),
    "faster": ("faster_rcnn_voc", "voc07", VGG_HIDDEN, _vgg(None), VGG_MEAN, CONVS | HEAD,
               "rpn/conv rpn/objectness rpn/deltas predictor/classes predictor/deltas"),
}  # fmt: skip

# What only repeats in another preset what a quicker one shows.
AGAIN = ("fcn32", "fcn_batch", "v2_msra", "faster", "fast_vgg")


def _preset(experiment, preset, narrower=None):
    config = importlib.import_module(f"experiments.{experiment}").PRESETS[preset]
    return dataclasses.replace(config, model=config.model.replace(**(narrower or {})))


def _started(config, tmp_path, state):
    """A run's variables, where those that nothing fills are shapes, from a file of Caffe's."""
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffe_files.of_state(state))
    kind, count = (Detection, 20) if "rcnn" in config.model.name or "spp" in config.model.name else (Segmentation, 21)
    task = kind(dataclasses.replace(config, init=str(path)), tuple(f"class {number}" for number in range(count)))
    model = config.model.build(num_classes=count)
    return task.warm_start(jax.eval_shape(lambda key: task.init(model, key), jax.random.key(0)))


def _state(shapes):
    def draw(place, shape):
        return (np.arange(math.prod(shape), dtype=np.float32) % 1021 / 1021 + place).reshape(shape)

    return {key: draw(place, shape) for place, (key, shape) in enumerate(shapes.items())}


def _as_ours(weight, ours):
    """A kernel of Caffe's in the order of our leaf: a dense layer reads a map channel by channel there."""
    if weight.ndim == 2 and ours == "backbone/head/fc6":
        side = 7 if weight.shape[1] % 49 == 0 else 6
        weight = weight.reshape(len(weight), -1, side, side).transpose(2, 3, 1, 0)
        return weight.reshape(-1, weight.shape[-1])
    return weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0)


@pytest.mark.parametrize(
    "start", [pytest.param(start, marks=[pytest.mark.slow] if start in AGAIN else []) for start in STARTS]
)
def test_a_preset_starts_from_the_file_of_its_paper(start, tmp_path, caplog):
    experiment, preset, narrower, shapes, mean, layers, fresh = STARTS[start]
    state = _state(shapes)
    started = _started(_preset(experiment, preset, narrower), tmp_path, state)
    params = traverse_util.flatten_dict(started["params"], sep="/")
    missing = {path for path, leaf in params.items() if isinstance(leaf, jax.ShapeDtypeStruct)}
    assert {path.rpartition("/")[0].removesuffix("/conv") for path in missing} == {
        name.removesuffix("/conv") for name in fresh.split()
    }
    assert not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(started["batch_stats"]))
    first = next(iter(layers))
    for ours, theirs in layers.items():
        weight, kernel = state[f"{theirs}.weight"], np.asarray(params[f"{ours}/kernel"])
        if ours == first:
            # The run's images, red first, less the mean and over the deviation of ImageNet's, become Caffe's.
            weight = weight[:, ::-1].astype(np.float64)
            std, there = 255 * np.array(IMAGENET_STD), 255 * np.array(IMAGENET_MEAN) - mean[::-1]
            np.testing.assert_allclose(kernel, _as_ours(weight * std[:, None, None], ours), rtol=1e-5)
            if f"{theirs}.bias" in state:
                bias = state[f"{theirs}.bias"] + (weight * there[:, None, None]).sum((1, 2, 3))
                np.testing.assert_allclose(params[f"{ours}/bias"], bias, rtol=1e-4, atol=0.01)
            continue
        wanted = _as_ours(weight, ours) if start != "spp" or theirs != "fc6" else weight.T
        if start == "spp" and theirs == "fc6":  # its pyramid is in another order, see tests/weights
            kernel, wanted = np.sort(kernel, axis=0), np.sort(wanted, axis=0)
        np.testing.assert_array_equal(kernel, wanted, err_msg=ours)
        if f"{theirs}.bias" in state:
            np.testing.assert_array_equal(params[f"{ours}/bias"], state[f"{theirs}.bias"], err_msg=ours)
    if BODY.items() <= layers.items():
        params, stats = (started[kind]["backbone"]["stage3_5"]["bn2"] for kind in ("params", "batch_stats"))
        for part, theirs in (("weight", params["scale"]), ("bias", params["bias"])):
            np.testing.assert_array_equal(theirs, state[f"scale4b5_branch2b.{part}"])
        for part in ("mean", "var"):
            np.testing.assert_array_equal(stats[part], state[f"bn4b5_branch2b.running_{part}"])
    assert "red first, in the run's scale" in caplog.text
    assert "multiplied by" not in caplog.text
    assert "are zero" not in caplog.text


def test_a_whole_vgg_of_caffe_is_thinned_out_for_deeplab(tmp_path, caplog):
    state = _state(_vgg(None))
    started = _started(_preset("deeplab_voc", "v1", {"hidden": 4}), tmp_path, state)
    branch = started["params"]["backbone"]["branch_0"]
    taken = state["fc6.weight"].reshape(DENSE, 512, 7, 7)[::2, :, ::3, ::3].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(branch["fc6"]["kernel"], taken)
    np.testing.assert_array_equal(branch["fc7"]["kernel"][0, 0], state["fc7.weight"][::2, ::2].T)
    assert "of fc6's 7x7 taps and 8 channels, 3x3 and 4 are taken" in caplog.text


def test_of_another_structure_with_these_layers_the_flags_are_said(tmp_path):
    with pytest.raises(ConfigError, match=r"--model\.backbone\.grouped .*--model\.backbone\.stem-padding 0; add it"):
        _started(_preset("rcnn_voc", "voc07", VGG_HIDDEN), tmp_path, _state(CAFFENET))


@pytest.mark.parametrize("start", [start for start in STARTS if start not in ("faster", "v2_vgg16")])
def test_presets_have_the_structure_of_the_released_nets(start):
    config = _preset(*STARTS[start][:2])
    released = next(known for known in architectures(config.model.name) if known.layout == "caffe")
    assert released.unmet(config.model.options, model_options(config.model.name)) == {}


@pytest.mark.parametrize("start", STARTS)
def test_a_docstring_shows_the_start_and_a_run_without_it_is_told(start, capsys):
    experiment, preset = STARTS[start][:2]
    module = importlib.import_module(f"experiments.{experiment}")
    shown = f"python -m experiments.{experiment} {preset} --init "
    assert shown in module.__doc__
    parse(module.PRESETS, module.__doc__, module.__name__, argv=[preset])
    said = capsys.readouterr().out
    assert f"{preset} starts from drawn weights, as there is no --init; the usual start is --init " in said
    parse(module.PRESETS, module.__doc__, module.__name__, argv=[preset, "--init", "resnet50"])
    parse(module.PRESETS, module.__doc__, module.__name__, argv=["quick"])
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("net", "shapes"),
    [
        ("vgg_ilsvrc_16_layers", _vgg(None)),
        ("vgg_16_fc_reduced", _vgg("reduced")),
        ("bvlc_reference_caffenet", CAFFENET),
        ("sppnet_zf5", ZF5),
        ("deeplabv2_resnet101", INIT),
        ("resnet101", MSRA),
    ],
)
def test_these_are_the_names_and_shapes_of_the_files(net, shapes, shared_dir):
    told = json.loads((shared_dir / "reference" / "caffe" / "facts" / f"{net}.json").read_text())["weights"]
    written = {}
    for layer in told:
        names = ("running_mean", "running_var") if layer["type"] == "BatchNorm" else ("weight", "bias")
        written |= {f"{layer['name']}.{name}": tuple(shape) for name, shape in zip(names, layer["blobs"])}
    assert written.keys() == shapes.keys()
    for key, shape in written.items():
        if key.startswith(("conv", "res")) and "resnet" not in net:
            assert shapes[key] == shape
        assert len(shapes[key]) == len(shape)
