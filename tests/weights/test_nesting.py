"""The state dict is found under any name, its keys lose what wrappers put there, and doubt is an error."""

import numpy as np
import pytest

from cvjax.errors import CheckpointError
from cvjax.weights.readers.pytorch.nesting import find_state_dict, unwrapped

NET = {"conv.weight": np.ones((4, 3, 3, 3), np.float32), "conv.bias": np.zeros(4, np.float32)}
OTHER = {key: value + 1 for key, value in NET.items()}
OPTIMIZER = {"state": {0: {"step": np.array(1.0), "exp_avg": np.ones(4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def _same(found, wanted=NET):
    assert list(found) == list(wanted)
    assert all(found[key] is wanted[key] for key in wanted)


@pytest.mark.parametrize(
    "name", ["state_dict", "model_state_dict", "model_state", "model", "model_ema", "network_weights", "anything"]
)
def test_any_name_will_do(name):
    beside = {"epoch": 3, "optimizer": OPTIMIZER, "best": np.array(0.5), "rng_state": np.ones(16, np.uint8), "args": {}}
    _same(find_state_dict({**beside, name: NET}, "w.pth"))
    _same(find_state_dict({"checkpoint": {"deeper": {name: NET}, **beside}}, "w.pth"))


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.module.", "model.", "net._orig_mod.", "model.module."]
)
def test_prefixes_of_wrappers_go(prefix):
    _same(unwrapped({prefix + key: value for key, value in NET.items()}), NET)


def test_a_prefix_that_not_all_keys_have_stays():
    state = {"model.weight": NET["conv.weight"], "head.weight": NET["conv.weight"]}
    assert list(unwrapped(state)) == list(state)


def test_compiled_parts_and_counts_and_losses():
    assert list(unwrapped({"a._orig_mod.w": NET["conv.bias"], "b.w": NET["conv.bias"]})) == ["a.w", "b.w"]
    averaged = {"n_averaged": np.array(3), **{f"module.{key}": value for key, value in NET.items()}}
    _same(unwrapped(averaged))
    lightning = {**{f"net.{key}": value for key, value in NET.items()}, "criterion.weight": np.ones(3)}
    _same(unwrapped(lightning))


def test_several_are_listed_and_chosen_by_name():
    content = {"model": NET, "model_ema": OTHER, "optimizer": OPTIMIZER, "old": {"a.b": {"state_dict": NET}}}
    with pytest.raises(CheckpointError) as error:
        find_state_dict({**content, "third": dict(NET)}, "w.pth")
    assert "model (2 tensors), model_ema (2 tensors), third (2 tensors)" in str(error.value)
    assert "choose one as w.pth::model" in str(error.value)
    _same(find_state_dict(content, "w.pth", "model_ema"), OTHER)
    _same(find_state_dict(content, "w.pth", "old.a.b.state_dict"))
    _same(find_state_dict(content, "w.pth", "old.a.b"))
    _same(find_state_dict(content, "w.pth", "old"))
    assert list(find_state_dict(content, "w.pth", "optimizer.state.0")) == ["step", "exp_avg"]
    with pytest.raises(
        CheckpointError, match=r"nothing under ema; it holds model \(2 tensors\), model_ema.*w\.pth::NAME"
    ):
        find_state_dict(content, "w.pth", "ema")


def test_one_dict_under_two_names_is_one():
    _same(find_state_dict({"model": NET, "best": NET}, "w.pth"))


def test_odd_names_count_where_there_are_no_others():
    odd = {"w1": np.ones((2, 2)), "w2": np.ones(2)}
    _same(find_state_dict({"weights": odd, "epoch": 1}, "w.pth"), odd)
    _same(find_state_dict({"weights": NET, "mean": np.ones(3)}, "w.pth"))
    _same(find_state_dict({**NET, "x._extra_state": {"amax": np.ones(2)}}, "w.pth"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no dict of arrays"),
        ([], "no dict of arrays"),
        (7, "no dict of arrays"),
        ({"epoch": 1, "lr": 0.1}, "it holds epoch, lr"),
        ({"loss": np.array(0.5)}, "it holds loss"),
        (np.ones((2, 3)), r"one array of shape \[2, 3\], without a name"),
        ({"optimizer": OPTIMIZER}, "it holds optimizer"),
        ([np.ones(3)], "no dict of arrays"),
        ({"a\nb": 1}, r"it holds a\?b"),
    ],
)
def test_nothing_that_looks_like_weights(content, words):
    with pytest.raises(CheckpointError, match=f"nothing in it looks like weights, as .*{words}.*give a file"):
        find_state_dict(content, "w.pth")


def test_dicts_that_hold_themselves_end():
    content: dict = {"model": NET}
    content["self"] = content
    content["list"] = [content] * 1000
    _same(find_state_dict(content, "w.pth"))
