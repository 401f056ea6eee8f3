"""`python -m cvjax.cli.inspect MODEL`: the layers of a model with shapes, parameters, multiply-adds and fields."""

import ast
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from cvjax.cli._main import run
from cvjax.errors import ConfigError
from cvjax.inspection import Inspection, inspect_model

_NOT_OPTIONS = ("model", "image_size", "num_classes")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Looks inside a model without running it.

    For each layer it prints output shape, parameters, multiply-adds, and the receptive field and stride in pixels of
    the image; then the totals.

    Attributes:
      model: a name that `cvjax.list_models()` has.
      size: side of the square image in pixels, or height and width; the model's own by default.
      num_classes: by default as many as the published number of parameters is given for.
      options: Options of the architecture, as output_stride=8 or, of its backbone, backbone.width=32.
      depth: print blocks so many modules deep instead of their layers.
      json: write totals and all layers to this file.
      png: draw parameters and activations along the depth into this file.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    size: tuple[int, ...] = ()
    num_classes: int | None = None
    options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    depth: int | None = None
    json: str | None = None
    png: str | None = None


def inspect(arguments: Arguments) -> Inspection:
    """Inspects the model and writes the files that were asked for.

    Raises:
      UserError: an unknown model or option, a size that it does not take, a file that cannot be written.
    """
    if len(arguments.size) > 2:
        raise ConfigError(f"--size is a side, or height and width, not {' '.join(map(str, arguments.size))}")
    if arguments.depth is not None and arguments.depth < 1:
        raise ConfigError(f"--depth is at least 1, not {arguments.depth}")
    size = arguments.size[0] if len(arguments.size) == 1 else arguments.size or None
    options = _options(arguments.options)
    found = inspect_model(arguments.model, image_size=size, num_classes=arguments.num_classes, **options)
    if arguments.json is not None:
        path = pathlib.Path(arguments.json)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found.as_json(), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error
    if arguments.png is not None:
        found.save_png(arguments.png)
    return found


def _options(texts: Sequence[str]) -> dict[str, Any]:
    """Reads `output_stride=8` as {"output_stride": 8}, and `backbone.width=8` as {"backbone": {"width": 8}}."""
    options: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        *outer, last = name.split(".")
        if not separator or not all(map(str.isidentifier, [*outer, last])) or name in _NOT_OPTIONS:
            raise ConfigError(f"--options takes fields of the model as NAME=VALUE, not {text!r}")
        fields = options
        for part in outer:
            fields = fields.setdefault(part, {})
            if not isinstance(fields, dict):
                raise ConfigError(f"--options gives {part} a value, so it cannot have {name} as well")
        fields[last] = _value(value)
    return options


def _value(text: str) -> Any:
    """Returns the Python literal that a text is, or else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `argv` is the process's own by default."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m cvjax.cli.inspect")
    print(inspect(arguments).as_text(arguments.depth), end="")


if __name__ == "__main__":
    run(main)
