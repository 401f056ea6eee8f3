"""This command prepares a dataset as ArrayRecord files.

    cvjax data prepare NAME [--data-dir DIR] [--manual-dir DIR]

It keeps files that are prepared already, so it can stand before every training.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import tyro

from cvjax.cli.shell.reading import read
from cvjax.datasets.published import PUBLISHED, prepare_published
from cvjax.datasets.registry import folders_of
from cvjax.datasets.tfds_sets import SETS, prepare_tfds_set
from cvjax.engine import command as _main
from cvjax.errors import ConfigError
from cvjax.storage import checked_url, fetched_folder, store_data_folder

_OURS = ("scenes", "voc_segmentation", "image_folder_segmentation", "voc_detection", "xml_folder_detection")
_FOLDERS = {
    "image_folder_segmentation": "the folder of images and masks",
    "xml_folder_detection": "the folder of images and XML annotations",
}

if TYPE_CHECKING:
    Name = str
else:
    Name = Literal[*_OURS, *PUBLISHED, *SETS]


class _Shared(TypedDict):
    """Holds the arguments that most preparing functions share."""

    skip_damaged: bool
    overwrite: bool
    progress: bool


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Prepares a dataset as ArrayRecord files."""

    name: tyro.conf.Positional[Name]
    """Name of the dataset."""
    data_dir: str | None = None
    """Folder or URL of prepared datasets; CVJAX_DATA_DIR, or a folder in the user's cache by default."""
    manual_dir: str | None = None
    """Your own files: published archives or their contents, or the folder of images and masks or annotations. Those at
    a URL are copied to the user's cache first.
    """
    void: tuple[int, ...] = ()
    """image_folder_segmentation: labels that mean 'ignored'."""
    values: tuple[int, ...] = ()
    """image_folder_segmentation: values of the classes in the masks, in their order, such as 0 255."""
    sbd: bool = True
    """voc_segmentation: also prepare SBD's images, so that there is a trainaug."""
    download: bool = True
    """voc_segmentation, voc_detection: fetch archives that are not found."""
    on_bad_boxes: Literal["error", "drop"] = "error"
    """Datasets of boxes: stop at a box that is empty, inverted or outside its image, or leave such boxes out."""
    skip_damaged: bool = False
    """Leave out damaged pairs and report them, instead of stopping at the first."""
    overwrite: bool = False
    """Prepare the dataset again if it is prepared already."""
    workers: int | None = None
    """scenes: number of processes that draw; by default one for each core."""
    progress: bool = True
    """Show progress bars."""


def prepare(options: Prepare) -> Any:
    """Prepares the dataset and returns its TFDS builder.

    Raises:
      UserError: A file is missing or damaged; the message says how to mend it.
    """
    if options.workers is not None and options.workers < 0:
        raise ConfigError(f"--workers is {options.workers}; give 0 or more, where 0 draws in this process")
    manual_dir = None if options.manual_dir is None else fetched_folder(options.manual_dir)
    with store_data_folder(options.data_dir, *folders_of(options.name)) as data_dir:
        return _prepare(options, data_dir, manual_dir)


def _prepare(options: Prepare, data_dir: pathlib.Path, manual_dir: pathlib.Path | None) -> Any:
    shared: _Shared = {
        "skip_damaged": options.skip_damaged,
        "overwrite": options.overwrite,
        "progress": options.progress,
    }
    if options.name == "scenes":
        from cvjax.datasets.scenes.prepare import prepare_scenes

        return prepare_scenes(data_dir, workers=options.workers, progress=options.progress)
    if options.name == "voc_segmentation":
        from cvjax.datasets.voc.segmentation import prepare_voc

        return prepare_voc(data_dir, manual_dir=manual_dir, download=options.download, sbd=options.sbd, **shared)
    if options.name in SETS:
        return prepare_tfds_set(options.name, data_dir, manual_dir, overwrite=options.overwrite)
    if options.name in PUBLISHED:
        return prepare_published(options.name, data_dir, manual_dir, **shared)
    if options.name == "voc_detection":
        from cvjax.datasets.voc.detection import prepare_voc_detection

        return prepare_voc_detection(
            data_dir,
            manual_dir=manual_dir,
            download=options.download,
            on_bad_boxes=options.on_bad_boxes,
            **shared,
        )
    if manual_dir is None:
        raise ConfigError(f"{options.name}: name {_FOLDERS[options.name]} with --manual-dir.")
    if options.name == "xml_folder_detection":
        from cvjax.datasets.xml_folder import prepare_xml_folder

        return prepare_xml_folder(data_dir, manual_dir, on_bad_boxes=options.on_bad_boxes, **shared)
    from cvjax.datasets.image_folder import prepare_image_folder

    return prepare_image_folder(data_dir, manual_dir, void=options.void, values=options.values, **shared)


def main(args: Sequence[str] | None = None) -> None:
    """Parses the command line, prepares the dataset, and prints its splits and their sizes."""
    options = read(Prepare, args, "data prepare")
    builder = prepare(options)
    skipped = getattr(builder, "skipped", [])
    for message in skipped:
        print(f"skipped: {message}", file=sys.stderr)
    counts = ", ".join(f"{name} {split.num_examples}" for name, split in builder.info.splits.items())
    boxes = f", {builder.dropped_boxes} boxes dropped" if hasattr(builder, "dropped_boxes") else ""
    copied = f", copied to {options.data_dir}" if checked_url(options.data_dir) is not None else ""
    print(f"{options.name} in {builder.data_dir}{copied}: {counts}; {len(skipped)} skipped{boxes}")


if __name__ == "__main__":
    _main.run_command(main)
