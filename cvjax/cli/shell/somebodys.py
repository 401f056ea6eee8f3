"""What the commands that take somebody's weights share: their flags as arguments, and the line about the weights."""

from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from cvjax.tasks.loaded import Loaded


def told(arguments: Any) -> dict[str, Any]:
    """Returns what a command was told about weights, as keyword arguments of `load_for_inference`.

    Args:
      arguments: Arguments of the command: `as_`, `layout`, `mean`, `output_stride`, and maybe `data` and `manual_dir`.
    """
    values = {"name": arguments.as_, **{name: getattr(arguments, name, None) for name in _SAME}}
    return {name: value for name, value in values.items() if value is not None}


_SAME = ("layout", "mean", "output_stride", "data", "manual_dir")


def say_whose(loaded: "Loaded", console: Console | None) -> None:
    """Prints whose weights these are, and what they see; of a run nothing."""
    if console is not None and "weights" in loaded.metadata:
        console.print(loaded.metadata["weights"], markup=False, emoji=False, highlight=False, soft_wrap=True)
