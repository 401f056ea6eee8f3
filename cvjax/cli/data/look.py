"""`cvjax data look DATA` writes a page of examples with their labels, before and after augmentation.

Further flags `--input.*` are those of the task's data, as an experiment has them: `--input.flip 0.5`.
"""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cvjax.cli.data.opening import DataArguments, open_splits, target_of, title_of
from cvjax.cli.shell.experiments import PACKAGE, experiment_files
from cvjax.cli.shell.names import no_such
from cvjax.cli.shell.reading import read as read_arguments
from cvjax.cli.shell.reading import read_known
from cvjax.data.dataset import Dataset, Target
from cvjax.datasets.findings.finding import file_names, short_names
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError, DataError
from cvjax.visual.sheets.look_page import Sample, look_page
from cvjax.visual.sheets.samples import augmented_truth, classes_shown, draw_sample

if TYPE_CHECKING:
    from cvjax.engine.config import RunConfig
    from cvjax.tasks.images import ImageTask

_COMMAND = "data look"


@dataclasses.dataclass(frozen=True)
class Arguments(DataArguments):
    """Writes a page of examples with their labels, before and after augmentation.

    The augmentation is that of `--like`, changed by flags such as `--input.flip 0` and `--input.crop 321 321`; without
    either it is the task's default.
    """

    like: str | None = None
    """Whose augmentation is shown: EXPERIMENT/PRESET, such as deeplab_voc/quick, or a run's folder or config.json."""
    count: int = 12
    """Number of examples of each split."""
    variants: int = 3
    """Number of augmented examples beside each; 0 shows the data alone."""
    classes: tuple[str, ...] = ()
    """Names of classes; only examples that show one of them are taken."""
    seed: int = 0
    """Seed of the choice and of the augmentation."""
    html: str = "look.html"
    """File to write the page to."""
    json: str | None = None
    """File to write the list of the examples to."""


def read(argv: Sequence[str] | None = None) -> "tuple[Arguments, RunConfig, Target]":
    """Reads the command line.

    Returns:
      The arguments, the configuration whose augmentation is shown, and what the examples carry.

    Raises:
      ConfigError: No such data, experiment or preset, or one of another task.
    """
    arguments, flags = read_known(Arguments, argv, _COMMAND)
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.tasks.load import TASKS
    from cvjax.tasks.variants import check_target, task_class_of, without_proposals

    if arguments.like is None:
        target = target_of(arguments)
        config = task_class_of(target).config_class()
    else:
        config = config_of(arguments.like)
        learned: Target = next(kind.target for kind in TASKS if isinstance(config, kind.config_class))
        target: Target = arguments.target or learned
        check_target(config, target, arguments.like)
    if flags:
        kind = type(config.input)
        made = dataclasses.make_dataclass("Flags", [("input", kind, dataclasses.field(default=config.input))])
        config = dataclasses.replace(config, input=read_arguments(made, flags, _COMMAND).input)
    changes: dict[str, Any] = {"manual_dir": arguments.manual_dir}
    if target == "mask":
        changes |= {"void": arguments.void, "mask_values": arguments.mask_values}
    config = dataclasses.replace(
        config,
        data=arguments.data,
        data_dir=arguments.data_dir,
        input=dataclasses.replace(config.input, **changes),
    )
    return arguments, without_proposals(config), target


def config_of(like: str) -> "RunConfig":
    """Returns the configuration of a run's folder or config.json, or of an experiment's preset.

    Raises:
      ConfigError: There is no such run, experiment or preset.
    """
    from cvjax.cli.commandline import read_config
    from cvjax.tasks.load import TASKS

    place = pathlib.Path(like)
    if place.is_dir() or place.suffix == ".json":
        file = place / "config.json" if place.is_dir() else place
        try:
            kind = json.loads(file.read_bytes())["task"]["kind"]
            config_class = next(task.config_class for task in TASKS if task.name == kind)
        except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
            raise ConfigError(
                f"{file} does not describe a run; give the folder of a run, or its config.json"
            ) from error
        return read_config(config_class, str(file))
    experiment, _, preset = like.partition("/")
    if experiment not in experiment_files():
        raise ConfigError(no_such("experiment", experiment, experiment_files(), "cvjax train"))
    presets = importlib.import_module(f"{PACKAGE}.{experiment}").PRESETS
    if preset not in presets:
        raise ConfigError(
            f"{experiment} has no preset {preset!r}; give one of {', '.join(presets)}, as {experiment}/quick"
        )
    return presets[preset]


def choose(task: "ImageTask", source: Dataset, arguments: Arguments) -> list[Sample]:
    """Draws examples of a split at random, in the order of the seed; damaged ones are passed over.

    Raises:
      ConfigError: There is no class of a name that was given.
    """
    from cvjax.tasks.variants import decoded, varied

    names, files = source.class_names, file_names(source)
    names_shown = None if files is None else short_names(files)
    unknown = [name for name in arguments.classes if name not in names]
    if unknown:
        raise ConfigError(f"{source.name} has no class {unknown[0]!r}; its classes are {', '.join(names)}")
    wanted = {names.index(name) for name in arguments.classes}
    samples: list[Sample] = []
    for index in np.random.default_rng(arguments.seed).permutation(len(source)).tolist():
        if len(samples) == arguments.count:
            break
        try:
            image, truth, key = decoded(task, source, index)
        except DataError:  # `cvjax data check` names it
            continue
        shown = classes_shown(task.target, truth)
        if wanted and not wanted & set(shown):
            continue
        variants = []
        for number in range(arguments.variants):
            made = varied(task, image, truth, index, arguments.seed, number)
            variants.append(draw_sample(task.target, *augmented_truth(task.target, *made), names))
        height, width = image.shape[:2]
        sample = Sample(
            source.split,
            key if names_shown is None else names_shown[index],
            (height, width),
            tuple(names[label] for label in shown),
            draw_sample(task.target, image, truth, names),
            tuple(variants),
        )
        samples.append(sample)
    return samples


def look(arguments: Arguments, config: "RunConfig", target: Target) -> list[Sample]:
    """Writes the page, and returns the examples that are on it.

    Raises:
      UserError: The data cannot be opened, or no example shows the classes.
    """
    if arguments.count < 1 or arguments.variants < 0:
        raise ConfigError(
            f"--count is {arguments.count} and --variants {arguments.variants}; give 1 or more, and 0 or more"
        )
    from cvjax.tasks.detection.checks import training_warnings
    from cvjax.tasks.detection.config import DetectionConfig
    from cvjax.tasks.variants import task_to_look

    sources, _ = open_splits(arguments, target)
    task = task_to_look(config, sources[0])
    samples = [sample for source in sources for sample in choose(task, source, arguments)]
    if not samples:
        whose = f" that shows {' or '.join(arguments.classes)}" if arguments.classes else ""
        raise DataError(f"{arguments.data}: no example{whose} can be read; cvjax data check says what is there")
    title = title_of(arguments, sources)
    lead = f"{len(samples)} examples, drawn with seed {arguments.seed}."
    if arguments.variants:
        lead += f" Each stands first as it is, then {arguments.variants} times as training would vary it."
    if isinstance(config, DetectionConfig):
        lead = " ".join([lead, *training_warnings(config, sources[0])])
    look_page(title, target, sources[0].class_names, samples, lead).write(arguments.html)
    return samples


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments, config, target = read(argv)
    samples = look(arguments, config, target)
    rows = [
        {"split": sample.split, "file": sample.file, "size": list(sample.size), "classes": list(sample.classes)}
        for sample in samples
    ]
    write_json_result(arguments.json, {"examples": rows})
    make_console(note=True).print(
        f"{len(samples)} examples -> {arguments.html}", markup=False, highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
    run_command(main)
