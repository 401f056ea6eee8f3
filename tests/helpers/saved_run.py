"""The checkpoint of a run that took no step: its net has the weights that were drawn, and is scored at once."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from drawn_variables import drawn_variables

from cvjax.data.decode import decode_image
from cvjax.engine.checkpoint import Checkpoints
from cvjax.engine.config import RunConfig, resolve
from cvjax.engine.run import run_metadata
from cvjax.engine.state import TrainState


def drawn_run(config: RunConfig, workdir: pathlib.Path, *, balanced: str | None = None) -> dict[str, Any]:
    """Saves a run of a configuration with a drawn net into a folder, and returns the net's variables.

    A drawn net mostly predicts one class. With the name of its last layer, `balanced`, that is changed so that the
    logits of every class have the mean 0 and the deviation 1 over the images.
    """
    config = dataclasses.replace(config, workdir=str(workdir), steps=config.steps or 1)
    task_class = resolve(config.task)
    dataset = task_class.open(config, config.input.train_split)
    model = config.model.build(num_classes=len(dataset.class_names))
    task = task_class.create(config, dataset, model)
    variables = drawn(lambda key: task.init(model, key))
    if balanced is not None:
        images = np.stack([decode_image(dataset[n]["image"], str(n)) for n in range(len(dataset))])
        logits = np.asarray(jax.jit(model.apply)(variables, task.normalize(images)))
        mean, deviation = logits.mean((0, 1, 2)), logits.std((0, 1, 2))
        layer = variables["params"][balanced]
        variables["params"][balanced] = {
            "kernel": np.asarray(layer["kernel"]) / deviation,
            "bias": (np.asarray(layer["bias"]) - mean) / deviation,
        }
    state = TrainState(np.asarray(1, np.int32), variables["params"], variables["batch_stats"], {}, None)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=1, metric=task.metric)
    checkpoints.save(
        jax.device_put(state), run_metadata(task, dataset) | {"position": 1, "scores": None}, None, wait=True
    )
    checkpoints.close()
    return variables


class _Initialized:
    """What `drawn_variables` takes for a module."""

    def __init__(self, init: Any) -> None:
        self.init = init


def drawn(init: Any) -> dict[str, Any]:
    """Variables of a function of a key, with running variances above 0."""
    variables = jax.device_get(drawn_variables(_Initialized(init)))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.abs(leaf) + 0.5 if "var" in jax.tree_util.keystr(path) else leaf, variables
    )
