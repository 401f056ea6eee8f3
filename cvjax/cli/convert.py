"""`cvjax convert SOURCE TARGET` writes weights into a file that PyTorch, timm and cvjax read."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from cvjax.cli.shell.reading import read
from cvjax.engine.command import run_command
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import CheckpointError, ConfigError
from cvjax.storage import is_folder

if TYPE_CHECKING:
    from cvjax.models.config import Options
    from cvjax.tasks.loaded import Loaded
    from cvjax.weights.convert import Variables


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Writes weights under the names that PyTorch has for them, whatever they come from.

    Whose weights a file holds, and which model they fit, is found out by keys and shapes. A net that nobody else has
    is written under our own names, as .safetensors; `--init` and `load_pretrained` read these too. Nothing here needs
    PyTorch. `torch.load` takes .pth files, most other programs .safetensors.

    Attributes:
      source: Trained run's work folder or checkpoint, a file (.safetensors, .npz, .caffemodel, .pth, .pt, .th, .tar,
        .bin, .ckpt or darknet's .weights; one of several state dicts in it as FILE::KEY), or the name of published
        weights, such as resnet50 or hf-hub:timm/resnet50.a1_in1k.
      target: File to write: .safetensors, .npz, .pth or .pt, or .weights for darknet. Of an average also a folder: a
        run with one checkpoint, which evaluate, predict and --init take.
      as_: Name of the model of a file's weights, where the file leaves it open.
      layout: Names to write the weights under: those of a library or repository, such as torchvision, timm or caffe,
        or cvjax for our own. By default those that a file has, and of a run the first that its net has.
      num_classes: Number of classes of a new head, drawn with `seed`; 0 leaves the head out.
      in_channels: Number of channels of the images; the first convolution is adapted to it.
      seed: Seed of a new head.
      average: Number of a run's latest checkpoints whose mean is written in the place of the best; a run keeps as many
        as its --keep says.
      average_steps: Steps of the checkpoints to average, where these are not the latest.
      average_bn: Number of training batches over which BatchNorm's statistics are measured anew with the averaged
        parameters; by default they are averaged as well.
      data_dir: Folder of published weights; CVJAX_DATA_DIR, or a folder in the user's cache by default.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    as_: Annotated[str | None, tyro.conf.arg(name="as", aliases=["--model"])] = None
    layout: str | None = None
    num_classes: int | None = None
    in_channels: int | None = None
    seed: int = 0
    average: int | None = None
    average_steps: tuple[int, ...] = ()
    average_bn: int | None = None
    data_dir: str | None = None


def convert(arguments: Arguments) -> tuple[str, dict[str, np.ndarray]]:
    """Writes the target.

    Returns:
      A sentence that says what the weights are of, and the state dict that was written.

    Raises:
      UserError: A source that is missing, damaged or of no model of ours, a layout that the model does not have, or a
        target that cannot be written.
    """
    averages = arguments.average is not None or bool(arguments.average_steps)
    if arguments.average_bn is not None and not averages:
        raise ConfigError("--average-bn belongs to an average; give --average or --average-steps too")
    if averages and not is_folder(arguments.source):
        raise ConfigError(f"--average is for the checkpoints of a run, and {arguments.source} is none; leave it out")
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    import jax

    from cvjax.engine.checkpoint.averaging import write_as_run
    from cvjax.engine.config import from_json
    from cvjax.models import model_info
    from cvjax.weights import hub, open_weights
    from cvjax.weights.darknet import is_darknet
    from cvjax.weights.opened import describe
    from cvjax.weights.own import LAYOUT, is_own, to_own

    if is_folder(arguments.source):
        if arguments.as_ is not None:
            raise ConfigError(f"--as is for files; {arguments.source} says itself what it is of")
        loaded, steps = _loaded(arguments, averages)
        record, names = loaded.metadata["model"], tuple(loaded.metadata.get("task", {}).get("class_names", ()))
        options = from_json(record["options"])
        if is_darknet(arguments.target):
            return _write_darknet(arguments, record["name"], options, loaded.variables)
        average = f", the average of steps {', '.join(map(str, steps))}" if averages else ""
        if averages and not pathlib.PurePath(arguments.target).suffix:
            write_as_run(arguments.target, loaded.variables, loaded.metadata, steps)
            return f"{record['name']}{average}, as a run", to_own(loaded.variables)
        layout, state_dict = _spelled(record["name"], options, loaded.variables, arguments.layout)
        known = model_info(record["name"]).preprocessing
        seen = None if known is None else loaded.task.seen(known)
        told = describe(record["name"], record["options"], len(names), names, seen)
        _write(arguments.target, state_dict, layout, told)
        return f"{record['name']}{average}, in the layout of {layout}", state_dict
    path, name = arguments.source, arguments.as_
    if hub.is_pretrained(arguments.source):
        fetched = hub.fetch_pretrained(arguments.source, data_dir=arguments.data_dir)
        name, path = fetched.model, fetched.path
    opened = open_weights(
        path,
        name=name,
        num_classes=arguments.num_classes,
        in_channels=arguments.in_channels,
        key=jax.random.key(arguments.seed),
    )
    if is_darknet(arguments.target):
        return _write_darknet(arguments, opened.model, opened.options, opened.variables)
    state_dict, layout = opened.state_dict, arguments.layout or (LAYOUT if is_own(opened.state_dict) else None)
    if layout is not None or arguments.num_classes is not None or arguments.in_channels is not None:
        layout, state_dict = _spelled(opened.model, opened.options, opened.variables, layout)
    expects = opened.expects if is_own(opened.state_dict) else None  # others' names say whose preprocessing it is
    told = describe(opened.model, opened.options, opened.num_classes, opened.class_names, expects)
    _write(arguments.target, state_dict, layout or opened.whose, told)
    return opened.whose, state_dict


def _loaded(arguments: Arguments, averages: bool) -> "tuple[Loaded, list[int]]":
    """Loads the best checkpoint of a run, or an average, with the steps that it is of."""
    from cvjax.tasks import load
    from cvjax.tasks.averaged import load_average

    if not averages:
        return load.load_for_inference(arguments.source), []
    if arguments.average is not None and arguments.average_steps:
        raise ConfigError("--average counts the latest checkpoints, and --average-steps names some; give one of them")
    return load_average(arguments.source, arguments.average, arguments.average_steps, arguments.average_bn)


def _write_darknet(
    arguments: Arguments, name: str, options: "Options", variables: "Variables"
) -> tuple[str, dict[str, np.ndarray]]:
    from cvjax.weights import write_darknet
    from cvjax.weights.own import to_own

    if arguments.layout is not None:
        raise ConfigError(f"{arguments.target} is darknet's, which has no names; leave out --layout {arguments.layout}")
    write_darknet(arguments.target, variables, grid=options.get("grid"))
    return f"{name}, as a darknet file", to_own(variables)


def _spelled(
    name: str, options: "Options", variables: "Variables", layout: str | None
) -> tuple[str, dict[str, np.ndarray]]:
    """Returns a layout and the weights in it: by default the first that fits the net, our own if there is no other."""
    from cvjax.models import model_options
    from cvjax.weights import to_torch
    from cvjax.weights.layouts.known import layouts_of
    from cvjax.weights.own import LAYOUT, to_own

    if layout is not None:
        return layout, to_own(variables) if layout == LAYOUT else to_torch(name, variables, layout=layout)
    # One that needs options says more of the net than one that needs none.
    for architecture in sorted(layouts_of(name), key=lambda architecture: -len(architecture.options)):
        if architecture.unmet(options, model_options(name)):
            continue
        try:
            return architecture.layout, to_torch(name, variables, layout=architecture.layout)
        except (CheckpointError, ValueError):  # nothing there has the name or the shape of a layer
            continue
    return LAYOUT, to_own(variables)


def _write(target: str, state_dict: dict[str, np.ndarray], layout: str, told: dict[str, Any]) -> None:
    from cvjax.weights import write_state_dict
    from cvjax.weights.own import LAYOUT, note

    if layout == LAYOUT and pathlib.Path(target).suffix.lower() != ".safetensors":
        raise ConfigError(
            f"{told['model']['name']} has no names but our own, which .safetensors alone has a place for; "
            f"write {pathlib.Path(target).stem}.safetensors"
        )
    write_state_dict(target, state_dict, note(told))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "convert")
    from cvjax.weights.convert import is_counter

    what, state_dict = convert(arguments)
    numbers = sum(value.size for key, value in state_dict.items() if not is_counter(key))
    make_console().print(
        f"{arguments.target}: {what}, {len(state_dict)} entries, {numbers / 1e6:.2f} M numbers",
        soft_wrap=True,
    )


if __name__ == "__main__":
    run_command(main)
