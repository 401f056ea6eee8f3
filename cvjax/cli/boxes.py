"""`cvjax data boxes NAME [--split train] [--manual-dir DIR]` counts and measures the boxes of a dataset.

It prints the number and size of the boxes of each class, and the largest number in an image. It reads all annotations.
So it also finds the first bad one, or counts the bad ones with `--on-bad-boxes drop`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import rich.box
import tyro
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from cvjax.cli.shell.reading import read
from cvjax.datasets.box_statistics import BoxCounts, count_boxes
from cvjax.datasets.registry import open_dataset
from cvjax.engine.command import run_command
from cvjax.engine.guards.terminal import make_console


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Counts and measures the boxes of a dataset."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Name of the dataset, or path of a file or folder of your own."""
    split: str = "train"
    """Name of the split; each dataset has its own."""
    data_dir: str | None = None
    """Folder or URL of prepared datasets; CVJAX_DATA_DIR changes the default."""
    manual_dir: str | None = None
    """Your own folder: images and annotations, a VOCdevkit, COCO."""
    on_bad_boxes: Literal["error", "drop"] = "error"
    """Stop at a box that is empty, inverted or outside its image, or leave such boxes out and count them."""
    progress: bool = True
    """Show a progress bar."""


def boxes_table(counts: BoxCounts) -> Table:
    """Makes a table with a line for each class, and one for all.

    Sides are in pixels, and shares are in percent of the image's side.
    """
    table = Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("class", no_wrap=True)
    for column in ("images", "boxes", "difficult", "crowd", "side 5%", "50%", "95%", "share %", "w/h"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in (*counts.classes, counts.total):
        numbers = (row.images, row.boxes, row.difficult, row.crowd)
        measures = (*(f"{side:.0f}" for side in row.sides), f"{100 * row.share:.0f}", f"{row.aspect:.2f}")
        table.add_row(Text(row.name), *map(str, numbers), *(measures if row.boxes else 5 * ["-"]))
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    options = read(Arguments, argv, "data boxes")
    source = open_dataset(
        options.name,
        options.split,
        target="boxes",
        data_dir=options.data_dir,
        manual_dir=options.manual_dir,
        on_bad_boxes=options.on_bad_boxes,
    )
    with Progress(console=make_console(stderr=True), disable=not options.progress, transient=True) as bar:
        task = bar.add_task(escape(f"{source.name}/{source.split}"), total=len(source))
        counts = count_boxes(source, lambda: bar.advance(task))
    console = make_console()
    console.print(boxes_table(counts))
    console.print(
        f"{counts.images} images, {counts.empty} of them without a box, at most {counts.largest} boxes in one;"
        f" {counts.dropped_boxes} bad boxes dropped",
        soft_wrap=True,
    )


if __name__ == "__main__":
    run_command(main)
