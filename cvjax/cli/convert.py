"""`python -m cvjax.cli.convert SOURCE TARGET` writes weights into a file that PyTorch, timm and cvjax all read."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Annotated

import jax
import numpy as np
import tyro

from cvjax.engine.command import run_command
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError
from cvjax.tasks import load
from cvjax.weights import from_torch, read_state_dict, to_torch, write_state_dict
from cvjax.weights.hub import fetch_pretrained, is_pretrained


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Writes weights under PyTorch's names, whatever they come from.

    Nothing here needs PyTorch. `torch.load` takes .pth files, most other programs .safetensors.

    Attributes:
      source: Trained run's work folder or checkpoint, a file (.safetensors, .npz, .pth, .pt, .th, .tar, .bin or .ckpt;
        one of several state dicts in it as FILE::KEY), or the name of published weights, such as resnet50 or
        hf-hub:timm/resnet50.a1_in1k.
      target: File to write: .safetensors, .npz, .pth or .pt.
      model: Name of the model of a file's weights; they are checked against it, and the next two options need it.
      num_classes: Number of classes of a new head, drawn with `seed`; 0 leaves the head out.
      in_channels: Number of channels of the images; the first convolution is adapted to it.
      seed: Seed of a new head.
      data_dir: Folder of published weights; CVJAX_DATA_DIR, or a folder in the user's cache by default.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    model: str | None = None
    num_classes: int | None = None
    in_channels: int | None = None
    seed: int = 0
    data_dir: str | None = None


def convert(arguments: Arguments) -> tuple[str | None, dict[str, np.ndarray]]:
    """Writes the target.

    Returns:
      The name of the model if it is known, otherwise None, and the state dict that was written.

    Raises:
      UserError: A source that is missing, damaged or of another model, a model that PyTorch does not have, or a
        target that cannot be written.
    """
    changed = arguments.num_classes is not None or arguments.in_channels is not None
    is_run = pathlib.Path(arguments.source).is_dir()
    is_file = not is_run and not is_pretrained(arguments.source)
    if arguments.model is not None and not is_file:
        raise ConfigError(f"--model is for files; {arguments.source} says itself what it is of")
    if is_run:
        loaded = load.load_for_inference(arguments.source)
        model = loaded.metadata["model"]["name"]
        state_dict = to_torch(model, loaded.variables)
    elif is_file:
        model, state_dict = arguments.model, read_state_dict(arguments.source)
    else:
        model, path, _ = fetch_pretrained(arguments.source, data_dir=arguments.data_dir)
        state_dict = read_state_dict(path)
    if changed and model is None:
        raise ConfigError(f"name the model of {arguments.source} with --model, so that it can be changed")
    if model is not None and (changed or is_file):  # without changes, this checks that it fits
        variables = from_torch(
            model,
            state_dict,
            num_classes=arguments.num_classes,
            in_channels=arguments.in_channels,
            key=jax.random.key(arguments.seed),
        )
        state_dict = to_torch(model, variables) if changed else state_dict
    write_state_dict(arguments.target, state_dict)
    return model, state_dict


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m cvjax.cli.convert")
    logging.basicConfig(format="%(message)s")
    model, state_dict = convert(arguments)
    numbers = sum(value.size for key, value in state_dict.items() if not key.endswith("num_batches_tracked"))
    what = "a state dict that no model was named for" if model is None else model
    make_console().print(
        f"{arguments.target}: {what}, {len(state_dict)} entries, {numbers / 1e6:.2f} M numbers",
        soft_wrap=True,
    )


if __name__ == "__main__":
    run_command(main)
