"""Runs of R-CNN and SPPnet: a net is fine-tuned, then machines and regressions are fitted to what it says of regions.

The net goes to WORKDIR/net, a detection run as any other that scores by the net's own softmax. The finished detector is
the checkpoint of WORKDIR, with its report and pictures; `--resume` goes on in whatever stage the run was stopped.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from cvjax.data.dataset import Record, Source
from cvjax.engine.checkpoint import Checkpoints
from cvjax.engine.evaluate import scalars
from cvjax.engine.loop import Outcome
from cvjax.engine.parallel import make_strategy
from cvjax.engine.run import describe, make_evaluator, open_split, show_results, whole_split, with_steps
from cvjax.engine.state import TrainState
from cvjax.errors import ConfigError
from cvjax.models.detection.detector import Proposals
from cvjax.runtime.compiler import compiler_options
from cvjax.tasks.detection import kind as detection
from cvjax.tasks.detection.config import DetectionConfig
from cvjax.tasks.detection.staged.stages import RegionBatch, fit_stages, install
from cvjax.tasks.detection.staged.svm import SVMConfig
from cvjax.tasks.detection.task import truth_of
from cvjax.tasks.load import Loaded, load_for_inference

NET = "net"
"""Folder of the fine-tuned net within that of the run."""


@dataclasses.dataclass(frozen=True)
class StagedConfig(DetectionConfig):
    """A run in stages.

    Attributes: those of `DetectionConfig`, for fine-tuning, and
      svm: how the machines learn.
      penalty: of the ridge regression.
      near: proposals with a larger IoU than this learn to move onto the object.
      images: most images that both learn from, evenly spread over the split; None are all.
      most_pairs: of a class, for the regression; of more, so many are drawn.
    """

    svm: SVMConfig = SVMConfig()
    penalty: float = 1000.0
    near: float = 0.6
    images: int | None = None
    most_pairs: int = 20_000


def run(config: StagedConfig) -> Outcome:
    """Fine-tunes the net, fits both later stages, and scores the detector; with the scorer `softmax` the net alone.

    Raises:
      UserError: see `cvjax.engine.run.train`; several processes are one of them.
    """
    if config.model.scorer == "softmax":
        return detection.run(config)
    if jax.process_count() > 1 or config.cluster.coordinator is not None:
        raise ConfigError(
            "support vector machines are fitted by one process; fine-tune with --model.scorer softmax on many, then"
            " run this on one with its weights, by --init"
        )
    workdir = pathlib.Path(config.workdir)
    softmax = dataclasses.replace(config.model, scorer="softmax")
    outcome = detection.run(dataclasses.replace(config, model=softmax, workdir=str(workdir / NET)))
    if outcome.stopped:
        return outcome
    return _finish(config, outcome, Console())


def _finish(config: StagedConfig, tuned: Outcome, console: Console) -> Outcome:
    """Fits, scores, keeps and shows."""
    workdir = pathlib.Path(config.workdir)
    loaded = load_for_inference(workdir / NET, scorer="svm")
    task, model = loaded.task, loaded.model
    train_source = open_split(config, config.input.train_split, detection.KIND)
    eval_source = open_split(config, config.input.eval_split, detection.KIND)
    config = with_steps(config, len(train_source))
    count = min(len(train_source), config.images or len(train_source))
    chosen = _Some(train_source, np.linspace(0, len(train_source) - 1, count).round().astype(int))
    console.print(f"support vector machines and regressions, on {count} images", highlight=False)
    batches = whole_split(detection.KIND, task, chosen, config.eval, config.input)
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
    strategy = make_strategy(config.parallel, config.batch_size)
    score = make_evaluator(detection.KIND, model, task, eval_source, config.eval, config.input, strategy)
    report = score(strategy.place_state(variables))

    info = describe(config, detection.KIND, task, train_source)
    (workdir / "config.json").write_text(json.dumps(info, indent=2) + "\n")
    state = TrainState(jnp.asarray(tuned.step, jnp.int32), variables["params"], variables["batch_stats"], {}, None)
    keeper = Checkpoints(workdir / "checkpoints", keep=1, metric=task.metric)
    scores = scalars(report)
    told = info | {"position": tuned.step, "scores": scores, "metric": task.metric}
    keeper.save(state, told, scores, wait=True)
    keeper.close()
    show_results(config, detection.KIND, model, task, variables, eval_source, report, console)
    return Outcome(state, tuned.step, report, False)


class _Some:
    """Some examples of a source."""

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        self.source, self.rows = source, rows
        self.name, self.split = source.name, source.split
        self.class_names, self.void = source.class_names, source.void

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:
        return self.source[int(self.rows[index])]


def _make_describe(loaded: Loaded) -> Any:
    """(images 0 to 255, sizes, boxes) -> what the net says of the boxes, compiled once a shape."""
    variables = jax.device_put(loaded.variables)

    @jax.jit(compiler_options=compiler_options(jax.devices()[0].platform))
    def say(variables: Any, images: jax.Array, sizes: jax.Array, boxes: jax.Array) -> Any:
        images = loaded.task.normalize(images)
        return loaded.model.apply(variables, images, sizes, boxes, method="describe")

    return functools.partial(say, variables)


def _regions(batch: Mapping[str, np.ndarray]) -> RegionBatch:
    """A batch as both stages take it; rows that fill it up have neither objects nor proposals that are valid."""
    proposals = Proposals(batch["proposals"], batch["proposal_valid"])
    return RegionBatch(batch["image"], batch["size"], proposals, truth_of(batch))
