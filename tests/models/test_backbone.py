"""Backbones that are handed over: what their net decides about them, and what stays their own."""

import dataclasses

import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model, list_models
from cvjax.nn import BatchNormOptions

XCEPTION = "deeplabv3plus_xception65"


def test_a_net_decides_stride_channels_type_and_batch_norm_but_for_epsilon():
    norm = {"momentum": 0.5, "epsilon": 1e-4, "frozen": True}
    model = create_model(XCEPTION, num_classes=2, norm=norm, in_channels=1, output_stride=8, dtype=jnp.bfloat16)
    backbone = model.backbone
    assert (backbone.num_classes, backbone.in_channels, backbone.output_stride) == (0, 1, 8)
    assert backbone.dtype == jnp.bfloat16
    assert backbone.norm == BatchNormOptions(0.5, 1e-3, True)
    assert model.norm == BatchNormOptions(0.5, 1e-4, True)
    own = create_model(XCEPTION, num_classes=2, backbone={"norm": {"epsilon": 0.1}}).backbone
    assert own.norm == BatchNormOptions(epsilon=0.1)


@pytest.mark.parametrize("name", ["fcn8s_vgg16", "hypercolumn_vgg16", "deeplabv1_largefov_vgg16", "deeplabv2_vgg16"])
def test_a_net_decides_the_grids_that_it_aligns(name):
    model = create_model(name, num_classes=2)
    grids = {"output_stride": 16, "pool_size": 2 if name.startswith("deeplab") else 3, "ceil_mode": False}
    if name.startswith("deeplab"):
        del grids["ceil_mode"]
    assert create_model(name, num_classes=2, backbone=grids).backbone == model.backbone


def test_copies_of_a_net_decide_anew_and_are_equal_otherwise():
    model = create_model(XCEPTION, num_classes=2, output_stride=8, backbone={"middle_blocks": 1})
    assert model.clone() == model
    assert hash(model.clone()) == hash(model)
    for copy in (model.clone(output_stride=32), dataclasses.replace(model, output_stride=32)):
        assert (copy.backbone.output_stride, copy.backbone.middle_blocks) == (32, 1)


@pytest.mark.parametrize("name", [name for name in list_models("segmentation") if "resnet50" in name])
def test_momentum_reaches_every_batch_norm(name):
    small = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
    model = create_model(name, num_classes=2, norm={"momentum": 1.0}, backbone=small)
    images = jnp.ones((2, 33, 33, 3))
    found = []

    def listen(call, args, kwargs, context):
        if isinstance(context.module, linen.BatchNorm):
            found.append(context.module.momentum)
        return call(*args, **kwargs)

    with linen.intercept_methods(listen):
        jax.eval_shape(model.init, jax.random.key(0), images)
    assert len(found) > 10
    assert set(found) == {1.0}


def test_a_net_inside_another_keeps_its_backbone():
    class Outer(linen.Module):
        @linen.compact
        def __call__(self, x):
            small = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
            net = create_model("fcn_resnet50", num_classes=2, backbone=small)
            return net(x)

    params = jax.eval_shape(Outer().init, jax.random.key(0), jnp.zeros((1, 33, 33, 3)))["params"]
    assert list(params) == ["FCNResNet_0"]
    assert sorted(params["FCNResNet_0"]) == ["aux_head", "backbone", "head"]


@pytest.mark.parametrize(
    ("backbone", "fix"),
    [
        ("resnet50", r"not 'resnet50'"),
        (None, "a method features"),
        ({"strides": 2}, "no option 'strides'"),
        (create_model("vgg16", num_classes=0), "VGG cannot be this net's backbone, as it has no option multi_grid"),
    ],
)
def test_backbones_that_do_not_fit(backbone, fix):
    with pytest.raises(ConfigError, match=fix):
        create_model("deeplabv3_resnet18", num_classes=2, backbone=backbone)
