"""`cvjax inspect MODEL` lists a model's layers with shapes, parameters, multiply-adds and fields."""

import ast
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cvjax.cli.shell.reading import read
from cvjax.engine.command import run_command, write_json_result
from cvjax.errors import ConfigError, UserError

if TYPE_CHECKING:
    from cvjax.inspection import Inspection


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Looks inside a model without running it.

    For each layer it prints output shape, parameters, multiply-adds, and the receptive field and stride in pixels of
    the image. The totals follow.

    Attributes:
      model: Name of the model, one of `cvjax.list_models()`.
      size: Side of the square image in pixels, or height and width; the model's own by default.
      num_classes: Number of classes; by default the one that the published number of parameters is given for.
      options: Options of the architecture, such as output_stride=8.
      depth: Number of nested modules at which to print blocks instead of their layers.
      json: File to write the totals and all layers to; - is standard output.
      png: File to draw parameters and activations along the depth into.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    size: tuple[int, ...] = ()
    num_classes: int | None = None
    options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    depth: int | None = None
    json: str | None = None
    png: str | None = None


def inspect(arguments: Arguments) -> "Inspection":
    """Inspects the model and writes the files that were asked for.

    Raises:
      UserError: An unknown model or option, a size that the model does not take, or a file that cannot be written.
    """
    if len(arguments.size) > 2:
        raise ConfigError(f"--size is a side, or height and width, not {' '.join(map(str, arguments.size))}")
    if arguments.depth is not None and arguments.depth < 1:
        raise ConfigError(f"--depth is at least 1, not {arguments.depth}")
    size = arguments.size[0] if len(arguments.size) == 1 else arguments.size or None
    options = dict(_option(text) for text in arguments.options)
    if arguments.num_classes is not None and arguments.num_classes < 0:
        raise ConfigError(f"--num-classes is {arguments.num_classes}; give a number of classes, or 0 for no head")
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.inspection import inspect_model

    try:
        found = inspect_model(arguments.model, image_size=size, num_classes=arguments.num_classes, **options)
    except UserError:
        raise
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        if not options:
            raise
        given, why = " ".join(arguments.options), str(error).splitlines()[0]
        raise ConfigError(f"{arguments.model} cannot be made with --options {given} ({why}); change them") from error
    write_json_result(arguments.json, found.as_json())
    if arguments.png is not None:
        found.save_png(arguments.png)
    return found


def _option(text: str) -> tuple[str, Any]:
    """Parses `output_stride=8` into ("output_stride", 8); a value that is not a Python literal stays a string."""
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier() or name in ("model", "image_size", "num_classes"):
        raise ConfigError(f"--options takes fields of the model as NAME=VALUE, not {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "inspect")
    print(inspect(arguments).as_text(arguments.depth), end="")


if __name__ == "__main__":
    run_command(main)
