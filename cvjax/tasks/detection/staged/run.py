"""Runs R-CNN and SPPnet: a net is fine-tuned, then SVMs and regressions are fitted to its features of regions.

The net goes to WORKDIR/net, a normal detection run that scores with the net's own softmax. The finished detector is the
checkpoint of WORKDIR, with its report and pictures. `--resume` continues in the stage where the run was stopped.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from cvjax.data.part import part_of
from cvjax.engine import run
from cvjax.engine.checkpoint import Checkpoints, find_checkpoint
from cvjax.engine.evaluate import make_evaluator, scalars, whole_split
from cvjax.engine.guards.lock import one_run
from cvjax.engine.guards.terminal import make_console
from cvjax.engine.loop import Outcome
from cvjax.engine.parallel import make_strategy
from cvjax.engine.state import TrainState
from cvjax.errors import ConfigError
from cvjax.files import write_json
from cvjax.models.detection.detector import Proposals
from cvjax.runtime.compiler import compiled
from cvjax.storage import as_path
from cvjax.tasks.detection.config import StagedDetectionConfig
from cvjax.tasks.detection.staged.stages import RegionBatch, fit_stages, install
from cvjax.tasks.detection.task import Detection, truth_of
from cvjax.tasks.loaded import Loaded, rebuild

NET = "net"
"""Folder of the fine-tuned net within that of the run."""


def train(config: StagedDetectionConfig) -> Outcome:
    """Fine-tunes the net, fits SVMs and regressions, and scores the detector; with the scorer `softmax`, the net alone.

    Raises:
      UserError: See `cvjax.engine.run.train`; also, the run has several processes.
    """
    if config.model.get("scorer") == "softmax":
        return run.train(config)
    if jax.process_count() > 1 or config.cluster.coordinator is not None:
        raise ConfigError(
            "support vector machines are fitted by one process; fine-tune with --model.scorer softmax on many, then"
            " run this on one with its weights, by --init"
        )
    run.check_run(config)
    workdir = as_path(config.workdir)
    softmax = config.model.replace(scorer="softmax")
    with one_run(workdir):
        outcome = run.train(dataclasses.replace(config, model=softmax, workdir=str(workdir / NET)))
        return outcome if outcome.stopped else _finish(config, outcome, make_console())


def _finish(config: StagedDetectionConfig, tuned: Outcome, console: Console) -> Outcome:
    """Fits the SVMs and regressions, scores the detector, saves its checkpoint and shows the results."""
    workdir = as_path(config.workdir)
    loaded = rebuild([Detection], find_checkpoint(workdir / NET), scorer="svm")
    train_set = run.training_split(Detection, config)
    eval_set = Detection.open(config, config.input.eval_split)
    config = run.with_steps(config, len(train_set))
    task, model = dataclasses.replace(loaded.task, config=config), loaded.model
    _, train_set = task.matched(train_set)
    scoring, eval_set = task.matched(eval_set)
    count = min(len(train_set), config.images or len(train_set))
    chosen = part_of(train_set, np.linspace(0, len(train_set) - 1, count).round().astype(int).tolist(), train_set.split)
    console.print(f"support vector machines and regressions, on {count} images")
    batches = whole_split(task, chosen)
    fitted = fit_stages(
        _make_describe(loaded),
        lambda: map(_regions, batches()),
        task.num_classes,
        svm=config.svm,
        penalty=config.penalty,
        near=config.near,
        most_pairs=config.most_pairs,
        seed=config.seed,
    )
    variables = install(loaded.variables, fitted)
    strategy = make_strategy(config.parallel, config.batch_size, spatial=config.spatial)
    report = make_evaluator(scoring, model, eval_set, strategy, once=True)(strategy.place_state(variables))

    metadata = run.run_metadata(task, train_set)
    write_json(workdir / "config.json", metadata)
    state = TrainState(jnp.asarray(tuned.step, jnp.int32), variables["params"], variables["batch_stats"], {}, None)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=1, metric=task.metric)
    scores = scalars(report)
    at_step = metadata | {"position": tuned.step, "scores": scores, "metric": task.metric}
    checkpoints.save(state, at_step, scores, wait=True)
    checkpoints.close()
    run.show_results(task, model, variables, eval_set, report, console)
    return Outcome(state, tuned.step, report, False)


def _make_describe(loaded: Loaded) -> Any:
    """Returns a function (images in 0..255, sizes, boxes) -> features of the boxes, compiled once per shape."""
    variables = jax.device_put(loaded.variables)

    @compiled
    def features(variables: Any, images: jax.Array, sizes: jax.Array, boxes: jax.Array) -> Any:
        images = loaded.task.normalize(images)
        return loaded.model.apply(variables, images, sizes, boxes, method="describe")

    return functools.partial(features, variables)


def _regions(batch: Mapping[str, np.ndarray]) -> RegionBatch:
    """Converts a batch for the SVMs and regressions; padded rows have no valid objects or proposals."""
    proposals = Proposals(jnp.asarray(batch["proposals"]), jnp.asarray(batch["proposal_valid"]))
    return RegionBatch(batch["image"], batch["size"], proposals, truth_of(batch))
