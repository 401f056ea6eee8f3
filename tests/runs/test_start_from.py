"""A run that starts from the folder of another one: FCN-16s from FCN-32s."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from made import segmentation

from cvjax.engine.checkpoint import Checkpoints
from cvjax.engine.state import create_state, init_variables
from cvjax.errors import CheckpointError
from cvjax.models import create_model
from cvjax.models.config import ModelConfig

TINY = {"stage_sizes": (1, 1, 1, 1, 1), "widths": (2, 3, 4, 5, 6), "hidden": 7}


def _variables(name, value):
    model = create_model(name, num_classes=3, backbone=TINY)
    shapes = jax.eval_shape(lambda key: init_variables(model, key, (32, 32, 3)), jax.random.key(0))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, value, leaf.dtype), shapes)


def _task(init):
    return segmentation(("a", "b", "c"), model=ModelConfig("fcn16s_vgg16"), init=str(init))


@pytest.mark.parametrize("averaged", [False, True])
def test_layers_are_taken_from_a_runs_folder(tmp_path, averaged):
    coarse = _variables("fcn32s_vgg16", 3.0)
    state = create_state(jax.tree.map(jax.numpy.asarray, coarse), optax.sgd(0.1), averaged)
    if averaged:
        state = dataclasses.replace(state, params=jax.tree.map(jax.numpy.zeros_like, state.params))
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    checkpoints.save(state, {"model": {"name": "fcn32s_vgg16"}}, None, wait=True)
    checkpoints.close()
    started = _task(tmp_path / "run").warm_start(_variables("fcn16s_vgg16", 0.0))
    values = {
        name: {float(x) for leaf in jax.tree.leaves(tree) for x in leaf.flat}
        for name, tree in started["params"].items()
    }
    assert values == {"backbone": {3.0}, "score": {3.0}, "score_pool4": {0.0}, "up_pool4": {0.0}, "up_image16": {0.0}}
    assert started["batch_stats"] == {}


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        _task(tmp_path).warm_start({})
