"""`cvjax models [WORD...]` lists the models; it imports none, but reads a table that tests hold equal to the code."""

import dataclasses
import fnmatch
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import tyro

from cvjax.cli.shell.names import nearest
from cvjax.cli.shell.reading import read
from cvjax.engine.command import run_command, write_json_result
from cvjax.errors import ConfigError

TABLE = pathlib.Path(__file__).parent / "shell" / "models.json"
"""Facts about each model. tests/cli/test_cli_models.py adds new rows; with CVJAX_WRITE_MODELS=1 it writes all anew."""

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Lists the models with parameters, multiply-adds, published accuracy and weights.

    GMACs are multiply-adds of one forward pass, in units of 1e9, of a square image with the side behind @.

    Attributes:
      words: Words that a model's line must all have, in its name or elsewhere; those with *, ? or [ are patterns of
        names, such as resnet*.
      task: Task of the models.
      weights: List published weights, a line each, and only models that have some: a star marks those that the model's
        name stands for, and a file without a name is fetched by hand.
      json: File to write the rows to; - is standard output.
    """

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="WORD...")] = ()
    task: Literal["classification", "segmentation", "detection"] | None = None
    weights: bool = False
    json: str | None = None


def read_table() -> list[dict[str, Any]]:
    """Returns the facts about each model, in the order of `cvjax.list_models()`."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def choose(rows: Iterable[Row], arguments: Arguments) -> list[Row]:
    """Returns the rows that the arguments ask for.

    Raises:
      ConfigError: There is none.
    """
    rows = list(rows)
    found = [row for row in rows if _fits(row, arguments)]
    if not found:
        near = [nearest(word, [row["name"] for row in rows]) for word in arguments.words]
        meant = " ".join(name for name in near if name)
        asked = " ".join([*arguments.words, *([arguments.task] if arguments.task else [])]) or "weights"
        raise ConfigError(
            f"no model fits {asked}{' with weights' if arguments.weights else ''}; "
            + (f"did you mean {meant}? " if meant else "")
            + "cvjax models lists all"
        )
    return found


def _fits(row: Row, arguments: Arguments) -> bool:
    if (arguments.task and row["task"] != arguments.task) or (arguments.weights and not row["weights"]):
        return False
    names = [weights["name"] or weights["file"] for weights in row["weights"]]
    text = " ".join([row["name"], row["task"], str(row["year"]), row["paper"], _figure(row), *names]).lower()
    return all(
        fnmatch.fnmatchcase(row["name"], word.lower()) if set(word) & set("*?[") else word.lower() in text
        for word in arguments.words
    )


def as_text(rows: Sequence[Row], *, weights: bool = False) -> str:
    """Returns the table that people read: a line for each model, or for each file of weights."""
    lines: list[tuple[str, ...]] = []
    if weights:
        lines.append(("model", "weights, or file to fetch by hand", "whose", "published"))
        for row in rows:
            for file in row["weights"]:
                name = ("* " if file["default"] else "  ") + (file["name"] or file["file"])
                lines.append((row["name"], name, file["whose"], _figure(file)))
        right = set[int]()
    else:
        lines.append(("model", "task", "M params", "GMACs", "@", "weights", "published"))
        for row in rows:
            numbers = (f"{row['params'] / 1e6:.2f}", f"{row['gmacs']:.2f}", str(row["image_size"]))
            lines.append((row["name"], row["task"], *numbers, str(len(row["weights"]) or ""), _figure(row)))
        right = {2, 3, 4, 5}
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = []
    for line in lines:
        columns = enumerate(zip(line, widths))
        cells = (cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in columns)
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _figure(row: Row) -> str:
    """Returns a published figure as tables show it; nothing where there is none."""
    figure = row["figure"]
    if figure is None:
        return ""
    more = f", {figure['more']}" if figure["more"] else ""
    return f"{figure['value']:.2f} {figure['metric']}{more}, {figure['data']} ({figure['source']})"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "models")
    rows = choose(read_table(), arguments)
    print(as_text(rows, weights=arguments.weights))
    write_json_result(arguments.json, rows)


if __name__ == "__main__":
    run_command(main)
