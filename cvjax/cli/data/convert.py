"""`cvjax data convert SOURCE OUT --to coco|yolo` writes your own data of any format as COCO JSON or YOLO text."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro
from rich.console import Console

from cvjax.cli.shell.reading import read
from cvjax.datasets.own.written.convert import Converted, To, convert
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Writes your own data of any format as COCO JSON or YOLO text, with the same splits.

    Attributes:
      source: File or folder: COCO JSON, YOLO text, VOC XML, LabelMe, CVAT, or masks in a known form.
      out: Folder to make.
      to: Format to write.
      format: Format of the source, where it is not recognized.
      on_bad_boxes: Stop at a box that is empty, inverted or outside its image, or leave such boxes out.
      void: Labels to ignore in masks; ignored pixels are background in what is written.
      values: Level that stands for each class in masks, in the order of the classes.
      copy: Copy images also where hard links would do.
      json: File to write the counts to; - is standard output.
    """

    source: Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    out: Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    to: To
    format: str | None = None
    on_bad_boxes: Literal["error", "drop"] = "error"
    void: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    copy: bool = False
    json: str | None = None


def report(done: Converted, arguments: Arguments, console: Console) -> None:
    """Prints what was written, and what was left out."""
    splits = ", ".join(f"{count} of {split} with {done.objects[split]} objects" for split, count in done.images.items())
    left = done.left
    rows = [
        (left.bad_boxes, "bad boxes left out"),
        (left.crowds, "boxes around crowds left out, which YOLO text cannot mark"),
        (left.difficult, "marks of difficult objects are not in it"),
        (left.ignored_pixels, "ignored pixels are background in it"),
    ]
    lines = [
        f"{arguments.out}: {done.format} as {arguments.to}, {len(done.class_names)} classes; images: {splits}",
        *(f"{count} {what}" for count, what in rows if count),
    ]
    for line in lines:
        console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "data convert")
    done = convert(
        arguments.source.expanduser(),
        arguments.out.expanduser(),
        arguments.to,
        format=arguments.format,
        on_bad_boxes=arguments.on_bad_boxes,
        copy=arguments.copy,
        void=arguments.void,
        values=arguments.values,
    )
    report(done, arguments, make_console())
    write_json_result(arguments.json, dataclasses.asdict(done))


if __name__ == "__main__":
    run_command(main)
