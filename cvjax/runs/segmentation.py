"""A segmentation run: from a configuration to a trained, scored and pictured model."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from rich.console import Console

from cvjax.data.augment import EvalTransform, TrainTransform
from cvjax.data.catalogue import open_source
from cvjax.data.decode import decode_example
from cvjax.data.loader import HostShard, eval_batches, train_batches
from cvjax.data.order import batches_by_size
from cvjax.data.source import Source, image_sizes
from cvjax.data.statistics import balancing_weights, class_frequencies
from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.ops.compiling import compiler_options
from cvjax.runs.config import EvalConfig, InputConfig, SegmentationConfig, as_json
from cvjax.runs.pictures import write_pictures
from cvjax.runs.prediction import make_predict
from cvjax.tasks.segmentation import Segmentation
from cvjax.training.distributed import initialize
from cvjax.training.evaluation import evaluate
from cvjax.training.loop import LoopConfig, Outcome, fit
from cvjax.training.parallel import Strategy, check_divides, make_strategy
from cvjax.training.state import TrainState, init_variables
from cvjax.training.step import make_eval_step
from cvjax.weights import backbone_name, load_backbone, read_weights


def run(config: SegmentationConfig) -> Outcome:
    """Trains, evaluates, and writes checkpoints, figures and pictures into `config.workdir`.

    Every process of a cluster calls this with the same configuration.

    Raises:
      UserError: any of the mistakes that a person can make; the message says which, and the way out.
    """
    initialize(config.cluster)
    console = Console()
    main_host = jax.process_index() == 0
    if not config.sync_batch_norm and config.parallel != "pmap":
        raise ConfigError(
            "per-device BatchNorm exists under pmap only; add --parallel pmap, or drop --no-sync-batch-norm"
        )
    strategy = make_strategy(config.parallel, config.batch_size)
    train_source = open_split(config, config.input.train_split)
    eval_source = open_split(config, config.input.eval_split)
    task = make_task(config, train_source)
    train_transform(config.input, task)  # says now what is wrong with it, not once the data flows
    axis_name = strategy.axis_name if config.sync_batch_norm else None
    model = create_model(config.model.name, num_classes=task.num_classes, axis_name=axis_name, **config.model.options())
    initialize_model = functools.partial(init_variables, model, image_shape=(*config.input.crop, 3))
    options = compiler_options(jax.devices()[0].platform, once=True)
    variables = jax.jit(initialize_model, compiler_options=options)(jax.random.key(config.seed))
    if config.init is not None:
        weights = read_weights(config.init, data_dir=config.data_dir)
        variables = load_backbone(variables, weights, backbone_name(config.model.name))
    info = describe(config, task, train_source)
    workdir = pathlib.Path(config.workdir)
    if main_host:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "config.json").write_text(json.dumps(info, indent=2) + "\n")
        console.print(
            f"{config.model.name} on {train_source.name}: {len(train_source)} training and {len(eval_source)}"
            f" {config.input.eval_split} images, {config.steps} steps of {config.batch_size}, {strategy.device_count}"
            f" {jax.devices()[0].platform} device(s), into {workdir}",
            highlight=False,
            soft_wrap=True,
        )
    outcome = fit(
        model,
        task,
        variables,
        functools.partial(train_stream, config, task, train_source),
        make_evaluator(model, task, eval_source, config.eval, config.input, strategy),
        config=LoopConfig(
            steps=config.steps,
            batch_size=config.batch_size,
            log_every=config.log_every,
            eval_every=config.eval_every,
            checkpoint_every=config.checkpoint_every,
            keep=config.keep,
            seed=config.seed,
        ),
        optim=config.optim,
        strategy=strategy,
        workdir=workdir,
        info=info,
        resume=config.resume,
        local_batch_norm=not config.sync_batch_norm,
        example_name=lambda index: str(train_source[index]["id"]),
    )
    if main_host and outcome.report is not None and not outcome.stopped:
        final = strategy.fetch(outcome.state).inference_variables
        write_pictures(workdir, model, task, final, eval_source, config, outcome.report, console)
    return outcome


def open_split(config: SegmentationConfig, split: str) -> Source:
    """A split of the configured data set, opened where the configuration says it lies."""
    reading = config.input
    return open_source(
        config.data, split, data_dir=config.data_dir, manual_dir=reading.manual_dir
    )


def make_task(config: SegmentationConfig, source: Source) -> Segmentation:
    """The task of a data set's classes, with the configured colour jitter and weights of the loss."""
    class_weights = None
    if config.class_balance:
        frequencies = class_frequencies(source, len(source.class_names), config.input.void)
        class_weights = balancing_weights(frequencies, config.class_balance)
    return Segmentation(
        class_names=tuple(source.class_names),
        class_weights=class_weights,
        aux_weight=config.aux_weight,
        jaccard_weight=config.jaccard_weight,
        loss_stride=config.loss_stride,
        brightness=config.input.brightness,
        contrast=config.input.contrast,
        saturation=config.input.saturation,
    )


def fill_colour(task: Segmentation) -> tuple[int, int, int]:
    """The colour of padded pixels: the mean, which normalises to about zero."""
    return tuple(round(c) for c in task.mean)


def train_transform(reading: InputConfig, task: Segmentation) -> TrainTransform:
    """The configured scale, crop and flip.

    Raises:
      ConfigError: a size or factor that no image can be brought to.
    """
    return TrainTransform(
        crop=reading.crop,
        min_scale=reading.min_scale,
        max_scale=reading.max_scale,
        scale_step=reading.scale_step,
        flip=reading.flip,
        fill=fill_colour(task),
        ignore=task.ignore,
        resize=reading.resize,
    )


def train_stream(
    config: SegmentationConfig, task: Segmentation, source: Source, start: int
) -> Iterator[dict[str, np.ndarray]]:
    """This host's rows of the endless stream of training batches, from batch `start` on."""
    reading = config.input
    return train_batches(
        source,
        functools.partial(decode_example, num_classes=task.num_classes, void=reading.void),
        train_transform(reading, task),
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        workers=reading.workers,
        shard=HostShard(jax.process_index(), jax.process_count()),
        on_bad_record=reading.on_bad_record,
    )


def make_evaluator(
    model: nn.Module,
    task: Segmentation,
    source: Source,
    config: EvalConfig,
    reading: InputConfig,
    strategy: Strategy,
) -> Callable[[TrainState | dict[str, Any]], dict[str, Any]]:
    """A function that scores a placed state (or placed variables) on a whole split.

    The training loop and the evaluate command both score with this.

    Raises:
      ConfigError: the batch does not divide over the devices.
    """
    check_divides(config.batch_size, strategy.device_count, "eval.batch_size")
    sizes = [reading.resize] * len(source) if reading.resize else image_sizes(source)
    plan = batches_by_size(sizes, config.batch_size, config.pad_multiple)
    transform = EvalTransform(size=plan[-1][0], fill=fill_colour(task), ignore=task.ignore, resize=reading.resize)
    step = strategy.compile_eval(make_eval_step(make_predict(model, config), task, strategy.axis_name))

    def score(state: TrainState | dict[str, Any]) -> dict[str, Any]:
        batches = eval_batches(
            source,
            functools.partial(decode_example, num_classes=task.num_classes, void=reading.void),
            transform,
            batch_size=config.batch_size,
            plan=plan,
            workers=reading.workers,
            shard=HostShard(jax.process_index(), jax.process_count()),
            on_bad_record=reading.on_bad_record,
        )
        variables = state.inference_variables if isinstance(state, TrainState) else state
        return evaluate(step, variables, batches, task, strategy)

    return score


def describe(config: SegmentationConfig, task: Segmentation, source: Source) -> dict[str, Any]:
    """What a run records of itself, in config.json and in each checkpoint; enough to evaluate and predict."""
    reading = as_json(config.input)
    for unrelated in ("workers", "eval_split"):  # may change when a run is resumed
        reading.pop(unrelated)
    return as_json(
        {
            "model": {"name": config.model.name, "options": config.model.options()},
            "task": {"kind": "segmentation", **dataclasses.asdict(task)},
            "data": {
                "name": source.name,
                "examples": len(source),
                "seed": config.seed,
                "batch_size": config.batch_size,
                **reading,
            },
            "run": as_json(config),
        }
    )
