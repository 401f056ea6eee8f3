"""Conversion of state dicts: everything must fit, and errors list whatever does not."""

import _reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model
from cvjax.weights import backbone_name, from_torch, load_backbone


@pytest.fixture(scope="module")
def resnet18_state():
    return reference.load(reference.GOLDEN, "resnet18")[0]


def test_error_lists_missing_unknown_and_misshaped_entries(resnet18_state):
    state = dict(resnet18_state)
    del state["bn1.weight"], state["layer3.0.bn2.running_var"]
    state["surprise"] = np.zeros(3)
    state["conv1.weight"] = np.zeros((64, 3, 5, 5), np.float32)
    with pytest.raises(CheckpointError) as error:
        from_torch("resnet18", state)
    for key in ("bn1.weight", "layer3.0.bn2.running_var", "surprise", "conv1.weight"):
        assert key in str(error.value)


def test_missing_classifier_and_unknown_architecture(resnet18_state):
    with pytest.raises(CheckpointError, match=r"fc\.weight"):
        from_torch("resnet18", {})
    with pytest.raises(ConfigError, match="no conversion"):
        from_torch("deeplabv3_cascade_resnet50", resnet18_state)


def test_given_variables_decide_the_shapes_and_keep_other_collections(resnet18_state):
    model = create_model("resnet18", num_classes=1000)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    filled = from_torch("resnet18", resnet18_state, {**variables, "other": 1})
    assert filled["other"] == 1
    np.testing.assert_array_equal(filled["params"]["head"]["kernel"], resnet18_state["fc.weight"].T)
    small = create_model("resnet18", num_classes=5)
    variables = jax.eval_shape(small.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    with pytest.raises(CheckpointError, match=r"fc\.weight.*"):
        from_torch("resnet18", resnet18_state, variables)


def test_deeplab_without_auxiliary_head():
    state, _ = reference.load(reference.GOLDEN, "deeplabv3_resnet50")
    state = {key: value for key, value in state.items() if not key.startswith("aux_classifier")}
    assert "aux_head" not in from_torch("deeplabv3_resnet50", state)["params"]


@pytest.mark.parametrize("name", [pytest.param("deeplabv3_resnet18", marks=pytest.mark.slow), "deeplabv3plus_resnet18"])
def test_load_backbone_fills_the_backbone_alone(name, resnet18_state):
    model = create_model(name, num_classes=3, aspp_features=8)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((2, 33, 33, 3)))
    loaded = load_backbone(variables, resnet18_state, "resnet18")
    kernel = resnet18_state["layer4.1.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(loaded["params"]["backbone"]["stage4_1"]["conv2"]["kernel"], kernel)
    np.testing.assert_array_equal(
        loaded["batch_stats"]["backbone"]["stem_bn_0"]["var"], resnet18_state["bn1.running_var"]
    )
    head, before = dict(loaded["params"]), dict(variables["params"])
    del head["backbone"], before["backbone"]
    assert jax.tree.all(jax.tree.map(np.array_equal, head, before))


def test_load_backbone_refuses_what_it_cannot_do(resnet18_state):
    with pytest.raises(ConfigError, match="from_torch"):
        load_backbone({"params": {}, "batch_stats": {}}, resnet18_state, "resnet18")
    with pytest.raises(ConfigError, match="classifier"):
        load_backbone({"params": {"backbone": {}}}, resnet18_state, "deeplabv3_resnet50")


def test_backbone_name_is_the_longest_classifier_that_the_name_ends_with():
    assert backbone_name("deeplabv3plus_resnet50") == "resnet50"
    assert backbone_name("fcn_wide_resnet50_2") == "wide_resnet50_2"
    with pytest.raises(ConfigError, match="deeplabv3_nothing has no backbone"):
        backbone_name("deeplabv3_nothing")
