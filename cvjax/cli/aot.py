"""`cvjax aot EXPERIMENT PRESET --topology v5e:4x4` says what a run needs of chips that are not here."""

import dataclasses
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cvjax.cli.shell.experiments import PACKAGE, experiment_files
from cvjax.cli.shell.reading import read_known
from cvjax.engine.command import run_command, write_json_result
from cvjax.errors import ConfigError

if TYPE_CHECKING:
    from cvjax.data.stand_in import StandIn
    from cvjax.engine.config import RunConfig
    from cvjax.engine.parallel import JitStrategy
    from cvjax.inspection.chips import Topology
    from cvjax.inspection.step_report import Run, StepReport

LAYOUTS = ("jit", "fsdp", "spatial")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compiles the training step of a preset for chips that are not here, and says what it needs of them.

    It prints whether the step fits, the memory, arithmetic and exchanges of a chip, and an estimate from below of the
    time that a step and the whole run take. All further options are those of the experiment, such as
    --model.dtype bfloat16.

    Attributes:
      experiment: Name of an experiment, such as resnet_imagenet.
      preset: Name of one of its presets.
      topology: Chips to compile for, such as v5e:16x16, v6e:4x4, v5p:2x2x2, v4:2x2x1 or h100:8.
      layout: How arrays are spread over chips, as --parallel of a run: jit, fsdp or spatial; by default the preset's.
      batch_per_chip: Images that a chip takes in a step, or with `spatial` the chips that share images; by default the
        preset's batch, spread over the chips.
      num_classes: Number of classes; by default that of the preset's data set, which need not be here.
      examples: Number of training examples, for a preset whose length is given in epochs.
      largest_batch: Search the largest batch that fits; compiles several times.
      json: File to write all figures to; - is standard output.
      picture: File to draw memory, bytes and times into.
      hlo: File to write the compiled program to, as text.
    """

    experiment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")]
    preset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
    topology: str
    layout: str | None = None
    batch_per_chip: int | None = None
    num_classes: int | None = None
    examples: int | None = None
    largest_batch: bool = False
    json: str | None = None
    picture: str | None = None
    hlo: str | None = None


def read(argv: Sequence[str] | None = None) -> "tuple[Arguments, RunConfig]":
    """Reads the command line: what to do, and the configuration of the run.

    Raises:
      ConfigError: An unknown experiment, preset, layout or topology.
    """
    arguments, rest = read_known(Arguments, argv, "aot")
    if arguments.layout not in (None, *LAYOUTS):
        raise ConfigError(f"there is no layout {arguments.layout!r}; choose one of {', '.join(LAYOUTS)}")
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.cli.commandline import parse
    from cvjax.inspection.chips import parse_topology

    parse_topology(arguments.topology)
    names = experiment_files()
    if arguments.experiment not in names:
        raise ConfigError(f"there is no experiment {arguments.experiment!r}; choose one of {', '.join(names)}")
    module = importlib.import_module(f"{PACKAGE}.{arguments.experiment}")
    config = parse(module.PRESETS, module.__doc__, module.__name__, argv=[arguments.preset, *rest])
    return arguments, config


@dataclasses.dataclass(frozen=True)
class Plan:
    """Holds what is to be compiled, and for what.

    Attributes:
      run: Description of the run.
      task: Task of the run, whose configuration knows its steps.
      model: Module that is trained.
      dataset: What stands in for the data.
      strategy: Strategy over the devices.
    """

    run: "Run"
    task: Any
    model: Any
    dataset: "StandIn"
    strategy: "JitStrategy"


def plan(arguments: Arguments, config: "RunConfig", devices: Callable[[], list[Any]]) -> Plan:
    """Makes task, model and strategy of a run without its data.

    Args:
      arguments: What is asked for.
      config: Configuration of the run.
      devices: Function that gives the devices to compile for; called once nothing else speaks against it.

    Raises:
      ConfigError: The run trains several nets, the number of its classes is unknown, or the devices cannot share it.
    """
    from cvjax.data.stand_in import StandIn
    from cvjax.datasets.sizes import class_count
    from cvjax.engine.config import resolve
    from cvjax.tasks.detection.config import DetectionConfig

    if isinstance(config, DetectionConfig) and config.four_steps:
        raise ConfigError(
            f"{arguments.experiment} {arguments.preset} trains four nets one after another, each with a step of its"
            " own; add --no-four-steps, or choose another preset"
        )
    if arguments.batch_per_chip is not None and arguments.batch_per_chip < 1:
        raise ConfigError(f"--batch-per-chip is {arguments.batch_per_chip}; give 1 or more")
    task_class = resolve(config.task)
    classes = arguments.num_classes or class_count(config.data, task_class.target)
    if classes is None:
        raise ConfigError(f"{config.data} does not tell the number of its classes without files; give --num-classes")
    layout = arguments.layout or (config.parallel if config.parallel in LAYOUTS else "jit")
    strategy = _strategy(layout, config, devices())
    config, run = _sized(arguments, config, layout, strategy.shares)
    dataset = StandIn(
        "stand-in", config.input.train_split, task_class.target, classes, getattr(config.input, "proposals", 0)
    )
    balance = {"class_balance": 0.0} if getattr(config, "class_balance", 0) else {}
    model = config.model.build(num_classes=classes)
    task = task_class.create(dataclasses.replace(config, data=dataset.name, **balance), dataset, model)
    if balance:  # weights are counted from all masks, which are not here; their values change nothing
        task = dataclasses.replace(task, class_weights=(1.0,) * classes)
    return Plan(run, task, model, dataset, strategy)


def _strategy(layout: str, config: "RunConfig", devices: list[Any]) -> "JitStrategy":
    from cvjax.engine.parallel import FsdpStrategy, JitStrategy, SpatialStrategy

    if layout == "spatial":
        return SpatialStrategy(config.spatial, devices)
    return {"jit": JitStrategy, "fsdp": FsdpStrategy}[layout](devices)


def _sized(arguments: Arguments, config: "RunConfig", layout: str, shares: int) -> "tuple[RunConfig, Run]":
    """Returns the configuration with its steps, and the description of the run."""
    from cvjax.datasets.sizes import example_count
    from cvjax.engine.run import with_steps
    from cvjax.inspection.chips import parse_topology
    from cvjax.inspection.step_report import Run
    from cvjax.tasks.detection.config import StagedDetectionConfig

    notes, each = [], arguments.batch_per_chip
    if each is None:
        each = max(1, round(config.batch_size / shares))
        if each * shares != config.batch_size:
            notes.append(
                f"the preset's batch of {config.batch_size} cannot be spread evenly over {shares} shares, so each takes"
                f" {each}, and the whole run as many images as the preset's"
            )
    if config.parallel == "pmap" or not config.sync_batch_norm:
        notes.append(f"compiled with the layout {layout}, not with --parallel {config.parallel}")
    if isinstance(config, StagedDetectionConfig):
        notes.append("the step is that of fine-tuning; what follows it is fitted on the host")
    examples = arguments.examples or example_count(config.data, config.input.train_split)
    if config.steps is None and not (config.epochs and examples):
        config, images = dataclasses.replace(config, steps=1_000), 0
    else:
        config = with_steps(config, examples or 0)
        images = (config.steps or 0) * config.batch_size
    name, dtype = f"{arguments.experiment} {arguments.preset}", config.model.get("dtype") or "float32"
    topology, model = parse_topology(arguments.topology), f"{config.model.name} in {dtype}"
    return config, Run(name, model, layout, topology, each * shares, images, tuple(notes))


def report(planned: Plan, *, search: bool = False, hlo: str | None = None) -> "StepReport":
    """Compiles the step of a run and reports on it.

    Args:
      planned: What to compile.
      search: Whether to search the largest batch that fits.
      hlo: File to write the compiled program to, as text.

    Raises:
      TooLarge: The step does not fit.
    """
    from cvjax.engine import ahead
    from cvjax.inspection.roofline import largest_batch

    run, shares = planned.run, planned.strategy.shares

    def compiled(batch: int) -> "StepReport":
        described = dataclasses.replace(run, batch=batch)
        return ahead.compile_step(planned.task, planned.model, planned.dataset, planned.strategy, described)

    found = ahead.compile_step(planned.task, planned.model, planned.dataset, planned.strategy, run, hlo=hlo)
    if not search:
        return found

    def temporaries(each: int) -> int | None:
        batch = each * shares
        try:
            size = (found if batch == run.batch else compiled(batch)).memory.temporaries
        except ahead.TooLarge as error:
            print(error, file=sys.stderr, flush=True)
            return None
        print(f"{batch} images a step fit", file=sys.stderr, flush=True)
        return size

    most, tried = largest_batch(temporaries, run.batch // shares, run.topology.chip.memory)
    return dataclasses.replace(found, largest_batch=most * shares, tried=tuple(each * shares for each in tried))


def write(arguments: Arguments, found: "StepReport") -> None:
    """Writes the files that were asked for.

    Raises:
      ConfigError: A file cannot be written.
    """
    write_json_result(arguments.json, found.as_json())
    if arguments.picture is not None:
        found.save_picture(arguments.picture)


def _devices(chips: "Topology") -> list[Any]:
    from cvjax.runtime import topology

    return topology.h100_devices(chips.chips) if chips.chip.name == "h100" else topology.tpu_devices(chips.name)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments, config = read(argv)
    from cvjax.inspection.chips import parse_topology

    planned = plan(arguments, config, lambda: _devices(parse_topology(arguments.topology)))
    found = report(planned, search=arguments.largest_batch, hlo=arguments.hlo)
    write(arguments, found)
    print(found.as_text(), end="")


if __name__ == "__main__":
    run_command(main)
