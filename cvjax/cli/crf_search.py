"""`cvjax crf-search CHECKPOINT` searches the best dense CRF for a net on a validation split.

It prints the mean IoU of the best trials, and the command that evaluates with the best of all.
"""

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import rich.box
import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cvjax.cli.shell.reading import read
from cvjax.data.dataset import Dataset, max_size
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.segmentation.crf_config import CRFS, CRFFlag, format_crf
from cvjax.visual.tables import percent

if TYPE_CHECKING:
    from cvjax.tasks.segmentation.crf_search import Tried
    from cvjax.tasks.segmentation.task import Segmentation

_SHOWN = 12
"""Number of trials that the terminal shows."""
_PREDICTING = ("scales", "flip", "window")
"""Arguments that the evaluate command has, too, under the same names."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Searches the parameters of a dense CRF, coarse to fine, on some images of a validation split.

    Attributes:
      checkpoint: Work folder of a run (its best checkpoint is taken) or folder of one checkpoint.
      data: Name of another dataset. Its classes are matched by name; some of the checkpoint's may be absent.
      data_dir: Folder of prepared datasets, if another than the run's.
      manual_dir: Folder of your own files, if another than the run's.
      split: Name of the split, the run's own evaluation split by default; parameters that are chosen on it score too
        well there.
      images: Number of its images to use, evenly spaced; their probabilities stay in memory.
      start: CRF that gives the parameters that are not searched; the papers search with smooth_weight 3 and 10
        iterations.
      smooth_weight: Weights to try for the kernel of positions.
      smooth_sigma: Widths in pixels to try for the kernel of positions; each compiles once more.
      appearance_weight: Weights to try for the kernel of positions and colors.
      appearance_sigma: Widths in pixels to try for the kernel of positions and colors.
      color_sigma: Widths in color to try for the kernel of positions and colors, in units of 1/255 of their range.
      rounds: Number of grids, each finer than the one before.
      scales: Scales of the image whose probabilities are averaged; the run's own by default.
      flip: Average with the mirrored image too; as in the run by default.
      window: Height and width of a sliding window; the run's own by default.
      output_stride: Output stride of the backbone, if other than in training.
      json: File to write all trials to; - is standard output.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    data: str | None = None
    data_dir: str | None = None
    manual_dir: str | None = None
    split: str | None = None
    images: int = 50
    start: CRFFlag = CRFS["v2"]
    smooth_weight: tuple[float, ...] = ()
    smooth_sigma: tuple[float, ...] = ()
    appearance_weight: tuple[float, ...] = (2.0, 4.0, 8.0)
    appearance_sigma: tuple[float, ...] = (30.0, 60.0, 90.0)
    color_sigma: tuple[float, ...] = (3.0, 6.0, 9.0)
    rounds: int = 2
    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    window: tuple[int, int] | None = None
    output_stride: int | None = None
    json: str | None = None

    @property
    def grid(self) -> dict[str, tuple[float, ...]]:
        """Returns the values to try, by field of the CRF."""
        names = ("smooth_weight", "smooth_sigma", "appearance_weight", "appearance_sigma", "color_sigma")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def search_checkpoint(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Searches, prints a table and the best flags, and returns all of it as JSON holds it.

    Raises:
      UserError: A missing checkpoint or dataset, one of another task, or a grid that means nothing.
    """
    if arguments.images < 1:
        raise ConfigError(f"--images is {arguments.images}; give 1 or more")
    if arguments.start is None or not arguments.start.iterations:
        raise ConfigError("--start must be a CRF with iterations, such as v1 or v2")
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.tasks import load
    from cvjax.tasks.segmentation.crf_search import keep_probabilities, make_scorer, most_trials, search
    from cvjax.tasks.segmentation.task import Segmentation

    overrides: dict[str, Any] = {} if arguments.output_stride is None else {"output_stride": arguments.output_stride}
    loaded = load.load_for_inference(arguments.checkpoint, **overrides)
    if not isinstance(loaded.task, Segmentation):
        raise ConfigError(f"{arguments.checkpoint} is of a {loaded.task.name}; a CRF refines segmentations")
    task = load.with_settings(loaded.task, arguments, data_fields=("manual_dir",), eval_fields=_PREDICTING)
    task = task.reconfigured(eval=dataclasses.replace(task.config.eval, crf=None))
    task, source = load.open_scored(task, arguments.split)
    data, scoring = task.config.input, task.config.eval
    multiple = scoring.pad_multiple or max(data.resize or max_size(source))
    chosen = np.unique(np.linspace(0, len(source) - 1, min(arguments.images, len(source))).round().astype(int))
    pairs = _pairs(source, chosen, task)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("the net's probabilities", total=len(chosen))
        counted = progress.track(pairs, task_id=bar, total=len(chosen))
        kept = keep_probabilities(task, loaded.model, loaded.variables, counted, multiple)
        if not kept:
            raise DataError(f"none of {len(chosen)} images of {source.name} {source.split} is readable; mend the data")
        score = make_scorer(kept, task)
        plain = score(CRFS["off"])["miou"]
        bar = progress.add_task("CRFs", total=most_trials(arguments.grid, arguments.rounds))
        best = plain

        def tried(trial: "Tried") -> None:
            nonlocal best
            best = np.fmax(best, trial.miou)  # fmax passes over a nan score
            text = f"CRFs: mIoU {percent(plain)} without, {percent(best)} with the best so far"
            progress.update(bar, advance=1, description=text)

        trials = search(
            lambda crf: score(crf)["miou"], arguments.start, arguments.grid, rounds=arguments.rounds, tried=tried
        )
    console.print(_table(trials, plain))
    found = {
        "checkpoint": str(loaded.place),
        "data": source.name,
        "split": source.split,
        "images": len(kept),
        "without": plain,
        "best": format_crf(trials[0].crf),
        "trials": [dataclasses.asdict(trial.crf) | {"miou": trial.miou} for trial in trials],
    }
    console.print(
        f"{len(trials)} CRFs on {len(kept)} images of {source.name} {source.split}: mIoU {percent(plain)} without,"
        f" {percent(trials[0].miou)} with the best one. To use it:\n{_command(arguments, found['best'])}",
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )
    return found


def _command(arguments: Arguments, crf: str) -> str:
    """Returns the command that evaluates with a CRF, and otherwise as this search did."""
    words = ["cvjax", "evaluate", arguments.checkpoint, "--crf", crf]
    for name in ("data", "data_dir", "manual_dir", "split", *_PREDICTING, "output_stride"):
        value = getattr(arguments, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def _pairs(source: Dataset, chosen: np.ndarray, task: "Segmentation") -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images and masks at the size that the run scores them at; skips damaged ones where the run may."""
    from cvjax.tasks.scale_crop import resize_pair

    decode, data = task.decoder(), task.config.input
    for index in chosen:
        try:
            pair = decode(source[int(index)])
        except DataError:
            if data.on_bad_record == "error":
                raise
            continue
        image, mask = pair["image"], pair["mask"]
        yield (image, mask) if data.resize is None else resize_pair(image, mask, data.resize)


def _table(trials: "Sequence[Tried]", plain: float) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, title="mean IoU with a dense CRF", title_justify="left")
    # Two lines each: seven columns fit into a terminal of 80.
    for column in ("smooth\nweight", "\nsigma", "appearance\nweight", "\nsigma", "color\nsigma", "\nmIoU %", "\ngain"):
        table.add_column(column, justify="right", no_wrap=True)
    for trial in trials[:_SHOWN]:
        values = dataclasses.astuple(trial.crf)[:5]
        gain = f"{100 * (trial.miou - plain):+.2f}"
        table.add_row(*(f"{value:g}" for value in values), percent(trial.miou), gain)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "crf-search")
    found = search_checkpoint(arguments, make_console())
    write_json_result(arguments.json, found)


if __name__ == "__main__":
    run_command(main)
