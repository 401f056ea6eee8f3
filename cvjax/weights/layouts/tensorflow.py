"""Maps our DeepLab v3+ on Xception-65 to the variables of TensorFlow's, and lays those out as PyTorch's and back.

The table's right side is the variable scopes of TensorFlow's research/deeplab. `torch_layout` gives a checkpoint keys
and arrays of PyTorch's kind, such as "aspp1_depthwise/BatchNorm.running_var", so that whatever `from_torch` can do is
done here, too.

The joint input of ASPP's projection begins with image pooling there, and ends with it here.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from cvjax.models.info import Preprocessing
from cvjax.weights.layouts.architecture import Architecture

LAYOUT = "tensorflow"
# With these a model computes what TensorFlow's does. Images are RGB from -1 to 1.
DEEPLABV3PLUS_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {"align_corners": True, "backbone": {"maps_before_relu": True}}
)
# The blocks here are one row: three of the entry flow, 16 of the middle flow, two of the exit flow.
_BLOCKS = (
    *((number, f"entry_flow/block{number + 1}/unit_1") for number in range(3)),
    *((number, f"middle_flow/block1/unit_{number - 2}") for number in range(3, 19)),
    *((number, f"exit_flow/block{number - 18}/unit_1") for number in range(19, 21)),
)
_LAYERS = (
    *((rf"separable(\d)/{part}_conv", rf"separable_conv\1_{part}") for part in ("depthwise", "pointwise")),
    *((rf"separable(\d)/{part}_bn", rf"separable_conv\1_{part}/BatchNorm") for part in ("depthwise", "pointwise")),
    (r"shortcut_conv", r"shortcut"),
    (r"shortcut_bn", r"shortcut/BatchNorm"),
)
_HEAD = (
    (r"aspp/conv1x1", r"aspp0"),
    (r"aspp/atrous(\d)/(depthwise|pointwise)", r"aspp\1_\2"),
    (r"aspp/pooling", r"image_pooling"),
    (r"aspp/project", r"concat_projection"),
    (r"low_level", r"decoder/feature_projection0"),
    (r"refine_(\d)/(depthwise|pointwise)", r"decoder/decoder_conv\1_\2"),
)
DEEPLABV3PLUS_XCEPTION65 = Architecture(
    (
        *(
            (rf"backbone/stem_{kind}_{ours}", rf"xception_65/entry_flow/conv1_{ours + 1}{theirs}")
            for ours in range(2)
            for kind, theirs in (("conv", ""), ("bn", "/BatchNorm"))
        ),
        *(
            (rf"backbone/blocks_{number}/{ours}", rf"xception_65/{block}/xception_module/{theirs}")
            for number, block in _BLOCKS
            for ours, theirs in _LAYERS
        ),
        *(
            (rf"{ours}/{kind}", rf"{theirs}{scope}")
            for ours, theirs in _HEAD
            for kind, scope in (("conv", ""), ("bn", "/BatchNorm"))
        ),
        (r"classifier", r"logits/semantic"),
    ),
    classes_key="logits/semantic.weight",
    input_key="xception_65/entry_flow/conv1_1.weight",
    layout=LAYOUT,
    counts=False,
    options=DEEPLABV3PLUS_OPTIONS,
    preprocessing=Preprocessing(None, None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
)
_LEAVES = {
    "weights": "weight",
    "depthwise_weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# What training leaves beside the variables: a step counter, an optimizer's slots, averages over steps.
_OF_TRAINING = re.compile(
    r"(?:.*/)?(?:global_step|beta[12]_power|Momentum|Adam(?:_1)?|RMSProp(?:_1)?|Adagrad|ExponentialMovingAverage)"
)
_PROJECTION = "concat_projection.weight"


def torch_layout(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a checkpoint's arrays in PyTorch's layout: "SCOPE/weights" [h, w, I, O] as "SCOPE.weight" [O, I, h, w].

    Depthwise kernels [h, w, C, n] become [C * n, 1, h, w]. Other names stay as they are; counters and an optimizer's
    slots are left out.
    """
    state = {}
    for name, array in arrays.items():
        scope, _, leaf = name.rpartition("/")
        if _OF_TRAINING.fullmatch(name):
            continue
        key = f"{scope}.{_LEAVES[leaf]}" if leaf in _LEAVES else name
        if array.ndim == 4:
            if leaf == "depthwise_weights":
                array = array.reshape(*array.shape[:2], 1, array.shape[2] * array.shape[3])
            array = array.transpose(3, 2, 0, 1)
            if key == _PROJECTION:
                array = np.roll(array, -len(array), axis=1)  # each branch has as many channels as the result
        state[key] = array
    return state


def tensorflow_layout(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays under TensorFlow's names, which undoes `torch_layout` for depthwise kernels [C, 1, h, w]."""
    arrays = {}
    for key, array in state.items():
        scope, _, leaf = key.rpartition(".")
        depthwise, norm = scope.endswith("_depthwise"), scope.endswith("/BatchNorm")
        name = {
            "weight": "gamma" if norm else "depthwise_weights" if depthwise else "weights",
            "bias": "beta" if norm else "biases",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        }.get(leaf)
        if name is None:  # PyTorch's counter of batches
            continue
        if array.ndim == 4:
            if key == _PROJECTION:
                array = np.roll(array, len(array), axis=1)
            array = array.transpose(2, 3, 0, 1) if depthwise else array.transpose(2, 3, 1, 0)
        arrays[f"{scope}/{name}"] = np.ascontiguousarray(array)
    return arrays
