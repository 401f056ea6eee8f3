"""`cvjax data doubt RUN` writes a page of the labels that a trained run finds least likely.

Each task has its rule, see `doubt.py` in its folder of `cvjax/tasks`.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from cvjax.cli.shell.reading import read
from cvjax.data.dataset import Dataset
from cvjax.data.decode import decode_image
from cvjax.datasets.findings.finding import file_names, short_names
from cvjax.datasets.registry import said_name
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError
from cvjax.visual.page import Card, Page
from cvjax.visual.sheets.doubt_page import add_section, doubt_page, draw_box, draw_masks
from cvjax.visual.sheets.samples import fit

if TYPE_CHECKING:
    from cvjax.tasks.doubts import Doubt
    from cvjax.tasks.loaded import Loaded


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Writes a page of the labels that a trained run finds least likely."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Work folder of a run (its best checkpoint is taken), folder of one checkpoint, or weights, with `--data`."""
    split: str | None = None
    """Name of the split; the run's own evaluation split by default, whose labels the net has not learned."""
    data: str | None = None
    """Name or path of other data. Their classes are matched by name."""
    data_dir: str | None = None
    """Folder of prepared datasets, if another than the run's."""
    manual_dir: str | None = None
    """Folder of your own files, if another than the run's."""
    batch_size: int | None = None
    """Number of examples a batch; the run's own by default."""
    on_bad_record: Literal["error", "skip"] | None = None
    """Stop at a damaged record, or pass it over."""
    count: int = 24
    """Number of labels of each kind on the page."""
    html: str = "doubt.html"
    """File to write the page to."""
    json: str | None = None
    """File to write the labels to: all that the task's rule calls wrong, and those on the page."""


@dataclasses.dataclass(frozen=True)
class Found:
    """Holds the labels in doubt of a split.

    Attributes:
      loaded: Net that doubts them, with its task.
      dataset: Split, with the net's labels.
      doubts: Labels by kind, the most doubtful of each first.
    """

    loaded: "Loaded"
    dataset: Dataset
    doubts: "tuple[Doubt, ...]"

    def of_kinds(self) -> "dict[str, list[Doubt]]":
        """Returns the labels of each kind, as the page calls it."""
        from cvjax.tasks.doubts import TITLES

        kinds: dict[str, list[Doubt]] = {}
        for doubt in self.doubts:
            kinds.setdefault(TITLES[doubt.kind], []).append(doubt)
        return kinds


def find(arguments: Arguments) -> Found:
    """Runs the net over the split.

    Raises:
      UserError: A missing checkpoint, missing data, or a task without a rule.
    """
    if arguments.count < 1:
        raise ConfigError(f"--count is {arguments.count}; give 1 or more")
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.tasks import load

    told = {"data": arguments.data, "manual_dir": arguments.manual_dir}
    loaded = load.load_for_inference(arguments.run, **told)
    task = load.with_settings(
        loaded.task, arguments, data_fields=("manual_dir", "on_bad_record"), eval_fields=("batch_size",)
    )
    task, dataset = load.open_scored(task, arguments.split)
    loaded = dataclasses.replace(loaded, task=task)
    return Found(loaded, dataset, tuple(task.doubts(loaded.model, loaded.variables, dataset)))


def page_of(found: Found, title: str, count: int) -> Page:
    """Makes the page, with `count` labels of each kind."""
    task, dataset = found.loaded.task, found.dataset
    where = said_name(dataset.name, task.config.input.manual_dir)
    lead = f"{found.loaded.place} on {len(dataset):,} images of {where} {dataset.split}."
    page = doubt_page(title, lead, task.target, task.class_names)
    files = file_names(dataset)
    names = None if files is None else short_names(files)
    draw = _drawer(found)
    for kind, doubts in found.of_kinds().items():
        cards = []
        for doubt in doubts[:count]:
            name = str(dataset[doubt.index]["id"]) if names is None else names[doubt.index]
            cards.append(Card(draw(doubt), name, (doubt.what,)))
        add_section(page, kind, len(doubts), sum(doubt.flagged for doubt in doubts), cards)
    if not found.doubts:
        page.text("No label is in doubt.")
    return page


def _drawer(found: Found) -> "Callable[[Doubt], np.ndarray]":
    """Returns the function that draws a label in doubt."""
    from cvjax.tasks.variants import decoded

    loaded, dataset = found.loaded, found.dataset
    task, names = loaded.task, loaded.task.class_names

    def whole(doubt: "Doubt") -> np.ndarray:
        return fit(decode_image(dataset[doubt.index]["image"], str(doubt.index)))[0]

    def masks(doubt: "Doubt") -> np.ndarray:
        image, mask, _ = decoded(task, dataset, doubt.index)
        return draw_masks(image, mask, loaded.predict(image), doubt.box, names)

    def boxes(doubt: "Doubt") -> np.ndarray:
        image = decode_image(dataset[doubt.index]["image"], str(doubt.index))
        given = None if doubt.box is None or doubt.given is None else (doubt.box, names.index(doubt.given))
        detected = None
        if doubt.found is not None and doubt.suggested is not None:
            detected = (doubt.found, names.index(doubt.suggested), doubt.confidence)
        return draw_box(image, given, detected, names)

    return {"mask": masks, "boxes": boxes}.get(task.target, whole)


def report_of(found: Found, count: int) -> dict[str, Any]:
    """Returns the labels as JSON holds them: those that the task's rule calls wrong, and the first of each kind."""
    files = file_names(found.dataset)
    rows = []
    for doubts in found.of_kinds().values():
        for rank, doubt in enumerate(doubts):
            if doubt.flagged or rank < count:
                file = str(found.dataset[doubt.index]["id"]) if files is None else files[doubt.index]
                rows.append({"file": file} | dataclasses.asdict(doubt))
    dataset = found.dataset
    return {
        "checkpoint": str(found.loaded.place),
        "data": said_name(dataset.name, found.loaded.task.config.input.manual_dir),
        "split": dataset.split,
        "images": len(dataset),
        "doubts": rows,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "data doubt")
    found = find(arguments)
    title = f"Labels in doubt of {pathlib.PurePath(arguments.run).name}"
    page_of(found, title, arguments.count).write(arguments.html)
    if arguments.json is not None:
        write_json_result(arguments.json, report_of(found, arguments.count))
    console = make_console()
    for kind, doubts in found.of_kinds().items():
        flagged = sum(doubt.flagged for doubt in doubts)
        line = f"{kind}: {len(doubts):,}" + (f", {flagged:,} called wrong" if flagged < len(doubts) else "")
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    make_console(note=True).print(f"-> {arguments.html}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
