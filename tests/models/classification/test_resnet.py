"""ResNet: strides and dilations, named features, and how shifts pass through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.classification.resnet import stage_plan

TINY = {"width": 8, "stage_sizes": (1, 1, 1, 2)}


def test_plan_dilates_as_torchvision():
    assert stage_plan((1, 1, 2, 2), 8)[2:] == [
        [(1, (1, 2)), (1, (2, 2))],
        [(1, (2, 4)), (1, (4, 4))],
    ]
    assert stage_plan((1, 1, 1, 3), 16)[2:] == [[(2, (1, 1))], [(1, (1, 2)), (1, (2, 2)), (1, (2, 2))]]


def test_plan_with_multi_grid_is_the_papers():
    assert [dilations for _, dilations in stage_plan((3, 4, 6, 3), 16, (1, 2, 4))[3]] == [
        (2, 2),
        (4, 4),
        (8, 8),
    ]
    assert [stride for stride, _ in stage_plan((3, 4, 6, 3), 32, (1, 2, 4))[3]] == [2, 1, 1]


@pytest.mark.parametrize("fault", [{"output_stride": 4}, {"multi_grid": ()}, {"stage_sizes": (1, 1)}])
def test_impossible_plans(fault):
    with pytest.raises(ConfigError):
        stage_plan(**{"stage_sizes": (1, 1, 1, 1), "output_stride": 32, **fault})


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_strides_and_unchanged_parameters(name, output_stride):
    model = create_model(name, num_classes=0, output_stride=output_stride)
    images = jax.ShapeDtypeStruct((1, 65, 100, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    for key, stride in {"stem": 2, "stage1": 4, "stage2": 8, "stage3": 16, "stage4": 32}.items():
        stride = min(stride, output_stride)
        assert maps[key].shape[1:3] == (-(-65 // stride), -(-100 // stride))
    assert len(maps) == 5
    plain = jax.eval_shape(create_model(name, num_classes=0).init, jax.random.key(0), images)
    assert jax.tree.map(lambda a: a.shape, plain) == jax.tree.map(lambda a: a.shape, variables)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_shifting_the_image_shifts_the_features(output_stride):
    model = create_model("resnet18", num_classes=0, output_stride=output_stride, **TINY)
    # A spot far from the border, on black: its response is local only if nothing depends on position.
    spot = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    here = jnp.zeros((1, 256, 256, 3)).at[:, 112:128, 112:128].set(spot)
    there = jnp.roll(here, (output_stride, -output_stride), axis=(1, 2))
    variables = jax.jit(model.init)(jax.random.key(1), here)
    run = jax.jit(lambda x: model.apply(variables, x, method="features")["stage4"])
    moved = jnp.roll(run(here), (1, -1), axis=(1, 2))
    inner = slice(8, -8)  # the spot reaches the border, whose padding answers a few pixels back
    np.testing.assert_allclose(run(there)[:, inner, inner], moved[:, inner, inner], atol=1e-4)
    assert np.abs(moved).max() > 1e-2


def test_dense_features_agree_where_strided_ones_are():
    """With no padding in reach, output stride 16 holds output stride 32's stem to stage3 unchanged."""
    images = jax.random.normal(jax.random.key(0), (1, 64, 64, 3))
    options = {"num_classes": 0, **TINY}
    coarse, dense = create_model("resnet18", **options), create_model("resnet18", output_stride=16, **options)
    variables = jax.jit(coarse.init)(jax.random.key(1), images)
    a = jax.jit(lambda x: coarse.apply(variables, x, method="features"))(images)
    b = jax.jit(lambda x: dense.apply(variables, x, method="features"))(images)
    np.testing.assert_allclose(a["stage3"], b["stage3"], atol=1e-5)


def test_deep_stem_zero_gamma_and_dtype():
    images = jnp.ones((2, 33, 33, 3))
    options = {"deep_stem": True, "zero_gamma": True, "dtype": jnp.bfloat16, **TINY}
    model = create_model("resnet50", num_classes=4, **options)
    logits, variables = jax.jit(model.init_with_output)(jax.random.key(0), images)
    params = variables["params"]
    assert params["stem_conv_2"]["kernel"].shape == (3, 3, 4, 8)
    assert not params["stage4_0"]["bn3"]["scale"].any()
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_groups_and_width_shape_the_3x3_convolution_alone():
    def kernels(**options):
        model = create_model("resnet50", num_classes=0, stage_sizes=(1, 1, 1, 1), **options)
        variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        return [variables["params"]["stage2_0"][f"conv{i}"]["kernel"].shape for i in (1, 2, 3)]

    assert kernels(groups=32, width_per_group=4) == [(1, 1, 256, 256), (3, 3, 8, 256), (1, 1, 256, 512)]
    assert kernels(width_per_group=128) == [(1, 1, 256, 256), (3, 3, 256, 256), (1, 1, 256, 512)]


@pytest.mark.parametrize(
    ("options", "fix"),
    [({"bottleneck": False, "groups": 2}, "bottleneck=True"), ({"width": 8, "width_per_group": 4}, "at least 64")],
)
def test_impossible_groups(options, fix):
    model = create_model("resnet50", num_classes=2, **options)
    with pytest.raises(ConfigError, match=fix):
        model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_images_of_a_wrong_kind():
    model = create_model("resnet18", num_classes=2)
    with pytest.raises(ConfigError, match="uint8"):
        model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    with pytest.raises(ConfigError, match="1x8"):
        model.init(jax.random.key(0), jnp.zeros((1, 0, 8, 3)))
