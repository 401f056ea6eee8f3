"""Other classes, other image channels, other heads: what is kept, what is adapted, and what the log says."""

import logging

import _reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model
from cvjax.weights import from_torch
from cvjax.weights.adapt import adapted_input

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def state():
    return reference.load(reference.GOLDEN, "resnet18")[0]


@pytest.fixture(scope="module")
def deeplab_state():
    return reference.load(reference.GOLDEN, "deeplabv3_resnet50")[0]


def _kernel(variables):
    return np.asarray(variables["params"]["stem_conv_0"]["kernel"])


def test_another_number_of_classes_gets_a_fresh_head(state, caplog):
    with caplog.at_level(logging.WARNING, "cvjax.weights"):
        params = from_torch("resnet18", state, num_classes=7, key=KEY)["params"]
    assert "head fc is replaced: 7 classes for the 1000" in caplog.text
    assert params["head"]["kernel"].shape == (512, 7)
    assert np.std(params["head"]["kernel"]) == pytest.approx(0.01, rel=0.1)  # as the net draws it
    for number, equal in ((3, True), (4, False)):
        again = from_torch("resnet18", state, num_classes=7, key=jax.random.key(number))["params"]
        assert np.array_equal(params["head"]["kernel"], again["head"]["kernel"]) == equal
    np.testing.assert_array_equal(params["stem_conv_0"]["kernel"], state["conv1.weight"].transpose(2, 3, 1, 0))


def test_a_fresh_head_needs_a_key_and_the_same_number_needs_none(state, caplog):
    with pytest.raises(ConfigError, match=r"head of this resnet18.*key=jax\.random\.key"):
        from_torch("resnet18", state, num_classes=7)
    same = from_torch("resnet18", state, num_classes=1000)
    np.testing.assert_array_equal(same["params"]["head"]["kernel"], state["fc.weight"].T)
    assert not caplog.records


def test_no_classes_leave_the_head_out_and_need_none_in_the_file(state, caplog):
    assert "head" not in from_torch("resnet18", state, num_classes=0)["params"]
    assert "head fc is left out" in caplog.text
    trunk = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert "head" not in from_torch("resnet18", trunk, num_classes=0)["params"]
    assert from_torch("resnet18", trunk, num_classes=3, key=KEY)["params"]["head"]["bias"].shape == (3,)


def test_all_heads_follow_the_number_of_classes(deeplab_state, caplog):
    params = from_torch("deeplabv3_resnet50", deeplab_state, num_classes=5, key=KEY)["params"]
    assert params["classifier"]["kernel"].shape[-1] == params["aux_head"]["classifier"]["kernel"].shape[-1] == 5
    kept = params["aux_head"]["conv"]["conv"]["kernel"]
    np.testing.assert_array_equal(kept, deeplab_state["aux_classifier.0.weight"].transpose(2, 3, 1, 0))
    assert "aux_classifier.4 is replaced" in caplog.text


def test_auxiliary_classifiers_come_and_go(deeplab_state, caplog):
    assert "aux_head" not in from_torch("deeplabv3_resnet50", deeplab_state, aux=False)["params"]
    assert "left out" in caplog.text
    without = {key: value for key, value in deeplab_state.items() if not key.startswith("aux_")}
    params = from_torch("deeplabv3_resnet50", without, aux=True, key=KEY)["params"]
    assert params["aux_head"]["classifier"]["kernel"].shape == (1, 1, 256, 21)
    with pytest.raises(ConfigError, match="no auxiliary"):
        from_torch("resnet18", {"fc.weight": np.zeros((2, 512))}, aux=True)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_gray_photographs_give_what_they_gave_in_color(state, channels, caplog):
    """A net for n channels on n copies of a gray image: the sum over the input's channels is what it was."""
    kernel = _kernel(from_torch("resnet18", state, in_channels=channels))
    assert kernel.shape == (7, 7, channels, 64)
    assert f"conv1.weight, is adapted from 3 to {channels} image channels" in caplog.text
    if channels in (1, 6):  # whole repetitions
        before = state["conv1.weight"].sum(1).transpose(1, 2, 0)
        np.testing.assert_allclose(kernel.sum(2), before, rtol=1e-5, atol=1e-6)


def test_channels_repeat_in_order_and_are_scaled():
    kernel = np.random.default_rng(0).standard_normal((4, 3, 2, 2), np.float32)
    four = adapted_input(kernel, 4)
    np.testing.assert_allclose(four, kernel[:, [0, 1, 2, 0]] * 0.75, rtol=1e-6)
    np.testing.assert_allclose(adapted_input(four[:, :1], 3), np.repeat(four[:, :1], 3, 1) / 3, rtol=1e-6)


def test_given_variables_are_strict_unless_adapt_is_asked_for(state, caplog):
    model = create_model("resnet18", num_classes=5, in_channels=1)
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 1)))
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), shapes)
    with pytest.raises(CheckpointError, match=r"mis-shaped: conv1\.weight .*fc\.weight.*; adapt=True keeps"):
        from_torch("resnet18", state, variables)
    adapted = from_torch("resnet18", state, variables, adapt=True)
    np.testing.assert_array_equal(adapted["params"]["head"]["kernel"], variables["params"]["head"]["kernel"])
    np.testing.assert_allclose(_kernel(adapted)[..., 0, :], state["conv1.weight"].sum(1).transpose(1, 2, 0), rtol=1e-6)
    np.testing.assert_array_equal(adapted["batch_stats"]["stem_bn_0"]["var"], state["bn1.running_var"])
    assert len(caplog.records) == 2
    with pytest.raises(ConfigError, match="pass arrays"):
        from_torch("resnet18", state, shapes, adapt=True)
    with pytest.raises(ConfigError, match="describe a model"):
        from_torch("resnet18", state, variables, num_classes=5)


def test_what_is_no_matter_of_heads_stays_an_error(state):
    damaged = {**state, "layer1.0.conv1.weight": np.zeros((64, 64, 1, 1), np.float32), "surprise": np.zeros(1)}
    with pytest.raises(CheckpointError, match=r"unknown: surprise; mis-shaped: layer1\.0\.conv1\.weight"):
        from_torch("resnet18", damaged, num_classes=2, key=KEY)
    narrow = {**state, "fc.weight": np.zeros((1000, 64), np.float32)}
    with pytest.raises(CheckpointError, match=r"mis-shaped: fc\.weight \(1000, 64\)"):
        from_torch("resnet18", narrow, num_classes=1000, key=KEY)
