"""State dicts come out as they went in: the same keys, types, shapes and bits."""

import json

import _reference as reference
import jax
import numpy as np
import pytest

import cvjax
from cvjax.errors import CheckpointError, ConfigError
from cvjax.weights import find_model, from_torch, to_torch


def _assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (value.dtype, value.shape)
        assert ours[key].tobytes() == value.tobytes()
        assert ours[key].flags.c_contiguous


def _random_state(path):
    """Any numbers under a reference model's keys; odd bit patterns among them."""
    rng, state = np.random.default_rng(0), {}
    for key, shape in json.loads(path.read_text()).items():
        if key.endswith("num_batches_tracked"):
            state[key] = np.zeros(shape, np.int64)
        else:
            state[key] = rng.standard_normal(shape, np.float32)
            state[key].flat[:3] = (-0.0, 1e-42, np.nan)[: state[key].size]
    return state


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "deeplabv3_resnet50", "fcn_resnet50"])
def test_round_trip_is_exact(name):
    state = _random_state(reference.GOLDEN / f"{name}.keys.json")
    _assert_same(to_torch(name, from_torch(name, state)), state)


@pytest.mark.slow
def test_every_reference_model_has_all_keys_and_shapes(shared_dir):
    """As PyTorch has them, at full size: `find_model` raises where one is missing or left over."""
    paths = {path.name.removesuffix(".keys.json"): path for path in (shared_dir / "reference").glob("*.keys.json")}
    names = paths.keys() & set(cvjax.list_models())
    assert len(names) >= 6
    for name in names:
        shapes = json.loads(paths[name].read_text())
        state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
        assert find_model(state, name).architecture.layout in ("torchvision", "timm")


def test_timms_names_hold_the_same_weights():
    state = _random_state(reference.GOLDEN / "efficientnet_b0.keys.json")
    variables = from_torch("efficientnet_b0", state)
    timm = to_torch("efficientnet_b0", variables, layout="timm")
    shapes = {
        "conv_stem.weight": (32, 3, 3, 3),
        "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
        "blocks.0.0.bn2.bias": (16,),
        "blocks.1.0.conv_pw.weight": (96, 16, 1, 1),
        "blocks.1.0.se.conv_expand.bias": (96,),
        "blocks.6.0.bn3.num_batches_tracked": (),
        "bn2.running_var": (1280,),
        "classifier.weight": (1000, 1280),
    }
    assert {key: timm[key].shape for key in shapes} == shapes
    assert len(timm) == len(state)
    again = from_torch("efficientnet_b0", timm)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), again, variables))


def test_what_pytorch_does_not_have_is_listed():
    params = {"stem_conv_1": {"kernel": np.zeros((3, 3, 32, 32))}, "stem_bn_1": {"scale": np.zeros(3)}}
    with pytest.raises(CheckpointError, match=r"resnet18 is called stem_bn_1/scale, stem_conv_1/kernel"):
        to_torch("resnet18", {"params": params})
    with pytest.raises(ConfigError, match="no layout 'keras'; it has torchvision, timm"):
        to_torch("efficientnet_b0", {}, layout="keras")
    with pytest.raises(ConfigError, match="no conversion"):
        to_torch("deeplabv3_cascade_resnet50", {})
