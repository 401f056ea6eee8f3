"""`cvjax lr EXPERIMENT PRESET` finds a learning rate for a run: it trains briefly with a rate that rises."""

import dataclasses
import functools
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from cvjax.cli.shell.experiments import PACKAGE, experiment_files
from cvjax.cli.shell.reading import read_known
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError
from cvjax.storage import as_path, written_folder
from cvjax.visual.rate_plot import draw_rates

if TYPE_CHECKING:
    from cvjax.engine.config import RunConfig
    from cvjax.engine.pacing.rate_range import Sweep

PICTURE, FIGURES = "lr.png", "lr.json"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains a preset for some steps with a learning rate that rises by the same factor from step to step.

    It suggests a tenth of the rate at which the smoothed loss is lowest (after Smith, 1506.01186), and draws the losses
    into lr.png of the work folder, beside lr.json. It ends early where the loss rises to four times its lowest. Nothing
    of the net is kept: the run that follows starts as it would have. All further options are those of the experiment.

    Attributes:
      experiment: Name of an experiment, such as deeplab_voc.
      preset: Name of one of its presets.
      low: Learning rate of the first step.
      high: Learning rate of the last step.
      sweep: Number of steps.
      smooth: Decay of the running mean of the losses.
      json: File to write the figures to; - is standard output; by default lr.json in the work folder.
      picture: File to draw the losses into; by default lr.png in the work folder.
    """

    experiment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")]
    preset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
    low: float = 1e-6
    high: float = 10.0
    sweep: int = 100
    smooth: float = 0.9
    json: str | None = None
    picture: str | None = None


def read(argv: Sequence[str] | None = None) -> "tuple[Arguments, RunConfig]":
    """Reads the command line: what to do, and the configuration of the run.

    Raises:
      ConfigError: An unknown experiment or preset, or rates that make no sweep.
    """
    arguments, rest = read_known(Arguments, argv, "lr")
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.cli.commandline import parse
    from cvjax.engine.pacing.rate_range import sweep_rates

    sweep_rates(arguments.low, arguments.high, arguments.sweep)
    if not 0.0 <= arguments.smooth < 1.0:
        raise ConfigError(f"--smooth is {arguments.smooth:g}; give a number from 0 to below 1")
    names = experiment_files()
    if arguments.experiment not in names:
        raise ConfigError(f"there is no experiment {arguments.experiment!r}; choose one of {', '.join(names)}")
    module = importlib.import_module(f"{PACKAGE}.{arguments.experiment}")
    return arguments, parse(module.PRESETS, module.__doc__, module.__name__, argv=[arguments.preset, *rest])


def sweep(arguments: Arguments, config: "RunConfig") -> "Sweep":
    """Sweeps the learning rate of a run.

    Raises:
      UserError: The run could not start either; the message says why.
    """
    from cvjax.data.drawing.balance import shares_of
    from cvjax.engine.config import resolve
    from cvjax.engine.pacing.rate_range import find_rate, sweep_rates
    from cvjax.engine.run import (
        check_run,
        checked_strategy,
        initial_variables,
        train_stream,
        training_split,
        with_steps,
    )

    check_run(config)
    task_class, console = resolve(config.task), make_console()
    strategy = checked_strategy(config)
    dataset = training_split(task_class, config)
    config = with_steps(config, len(dataset))
    model = config.model.build(num_classes=len(dataset.class_names))
    task = task_class.create(config, dataset, model)
    variables = initial_variables(task, model)

    def advance(step: int, rate: float, loss: float) -> None:
        if step == 1 or step % max(1, arguments.sweep // 10) == 0:
            console.print(f"step {step}/{arguments.sweep}  lr {rate:.2e}  loss {loss:.4f}", highlight=False)

    return find_rate(
        task,
        model,
        variables,
        functools.partial(train_stream, task, dataset, shard=strategy.shard, shares=shares_of(config.input, dataset)),
        strategy,
        rates=sweep_rates(arguments.low, arguments.high, arguments.sweep),
        decay=arguments.smooth,
        advance=advance,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments, config = read(argv)
    found, console = sweep(arguments, config), make_console()
    workdir = as_path(config.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    marks = [("suggested", found.suggestion), ("lowest loss", found.lowest), ("steepest fall", found.steepest)]
    figures = arguments.json or str(workdir / FIGURES)
    write_json_result(figures, found.as_json())
    picture = arguments.picture
    if picture is None:
        with written_folder(workdir) as folder:
            draw_rates(folder / PICTURE, found.rates, found.losses, found.smoothed, marks)
        picture = str(workdir / PICTURE)
    else:
        draw_rates(picture, found.rates, found.losses, found.smoothed, marks)
    end = "the loss went up" if found.diverged else "the rates ended"
    console.print(
        f"learning rate {found.suggestion:.2g}: a tenth of {found.lowest:.2g}, where the smoothed loss is lowest; it"
        f" falls most at {found.steepest:.2g}; {len(found.rates)} steps, until {end}; train with"
        f" --optim.learning-rate {found.suggestion:.2g} (the preset has {config.optim.learning_rate:g})",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"written: {picture}, {figures}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
