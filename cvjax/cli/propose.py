"""This command proposes boxes for every image of a split, and keeps them.

    cvjax data propose DATASET --split train [--mode fast|quality|grid] [--limit 2000]

R-CNN, SPPnet and Fast R-CNN look at no other boxes. The command keeps proposals that are made already, so it can stand
before every training. Runs that need proposals make them themselves. With a data folder at a URL the proposals go
there, too.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tyro

from cvjax.cli.shell.reading import read
from cvjax.data.dataset import Dataset
from cvjax.datasets.proposals.boxes import Mode, ProposalConfig
from cvjax.datasets.proposals.files import WHOLE, ProposalSet, prepare_proposals
from cvjax.datasets.registry import list_datasets, open_dataset
from cvjax.engine import command as _main
from cvjax.errors import ConfigError
from cvjax.storage import put_in_store
from cvjax.tasks.detection.metrics.recall import proposal_recall

_TARGETS = ("boxes", "objects", "mask", "label")
"""Targets to open the dataset for, in this order. Only the images count here, so any target will do."""


@dataclasses.dataclass(frozen=True)
class Propose:
    """Proposes boxes for every image of a split.

    Attributes:
      name: Name of the dataset, as training takes it.
      split: Name of the split.
      mode: Way to propose: `fast` or `quality` selective search, or `grid`, boxes that are the same for all images of
        one size.
      limit: Largest number of boxes of an image.
      min_side: Least side of a box, in pixels.
      longest: Limit of the longer side of an image in pixels; larger images are reduced to it before selective search.
      data_dir: Folder or URL of prepared datasets; CVJAX_DATA_DIR changes the default.
      manual_dir: Your own files, where the dataset lies in them.
      workers: Number of processes; by default one for each core.
      overwrite: Propose again where there are proposals already.
      progress: Show a progress bar.
    """

    name: tyro.conf.Positional[str]
    split: str = "train"
    mode: Mode = "fast"
    limit: int = ProposalConfig.limit
    min_side: int = ProposalConfig.min_side
    longest: int = ProposalConfig.longest
    data_dir: str | None = None
    manual_dir: str | None = None
    workers: int | None = None
    overwrite: bool = False
    progress: bool = True


def propose_all(options: Propose) -> ProposalSet:
    """Proposes boxes as the command's arguments say.

    Raises:
      UserError: A file is missing or damaged; the message says how to mend it.
    """
    for flag, value, least in (
        ("limit", options.limit, 1),
        ("min-side", options.min_side, 1),
        ("longest", options.longest, 1),
        ("workers", options.workers or 0, 0),
    ):
        if value < least:
            raise ConfigError(f"--{flag} is {value}; give {least} or more")
    config = ProposalConfig(options.mode, options.limit, options.min_side, options.longest)
    found = prepare_proposals(
        _open(options),
        config,
        options.data_dir,
        workers=options.workers,
        overwrite=options.overwrite,
        progress=options.progress,
    )
    put_in_store(options.data_dir, found.folder, last=WHOLE)
    return found


def recall_line(dataset: Dataset, found: ProposalSet) -> str:
    """Says what share of the objects has a proposal; difficult objects and crowds do not count.

    Args:
      dataset: Records with boxes.
      found: Proposals for these records.
    """

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index in range(len(dataset)):
            record: dict[str, Any] = {**dataset[index]}
            yield found[index], record["boxes"][~(record["difficult"] | record["crowd"])]

    longest = max((len(found[index]) for index in range(len(found))), default=0)
    ((half, most),) = proposal_recall(pairs(), counts=(longest,), thresholds=(0.5, 0.7))
    return f"recall of objects: {half:.3f} at an IoU of 0.5, {most:.3f} at 0.7"


def _open(options: Propose) -> Dataset:
    for target in _TARGETS:
        if options.name in list_datasets(target):
            return open_dataset(
                options.name, options.split, target=target, data_dir=options.data_dir, manual_dir=options.manual_dir
            )
    raise ConfigError(f"There is no data set {options.name!r}; choose one of {', '.join(list_datasets())}.")


def main(args: Sequence[str] | None = None) -> None:
    """Parses the command line, proposes boxes, and prints their number, the folder and the recall."""
    options = read(Propose, args, "data propose")
    found = propose_all(options)
    total = sum(len(found[index]) for index in range(len(found)))
    print(f"{total} boxes of {len(found)} images of {options.name} {options.split} in {found.folder}")
    if options.name in list_datasets("boxes"):
        print(recall_line(_open(options), found))


if __name__ == "__main__":
    _main.run_command(main)
