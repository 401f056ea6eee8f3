"""What all studies share: measurements that are kept, equal budgets, seeds, error bars, and a figure and a table.

A study is a page: a docstring with its question, settings, and three functions in a `Study`. `measure` takes what is
not there yet, cell by cell; `conclude` and `draw` make a table and a figure of all cells, and know nothing but these.
"""

import dataclasses
import functools
import json
import os
import pathlib
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import jax
import numpy as np

from cvjax.cli.commandline import read_fields
from cvjax.datasets.registry import own_place
from cvjax.engine.command import run_command, take_flag, write_json_result
from cvjax.engine.config import RunConfig, as_json
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError
from cvjax.files import write_json
from cvjax.storage import AnyPath, as_path, written_folder
from cvjax.visual.plots import new_figure, save_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cells = Mapping[str, Mapping[str, Any]]
Run = TypeVar("Run", bound=RunConfig)
Made = TypeVar("Made")

LOOKS = (
    {"color": "#12263f", "marker": "o", "linestyle": "-"},
    {"color": "#e8902a", "marker": "s", "linestyle": "--"},
    {"color": "#7a3b8f", "marker": "^", "linestyle": "-."},
    {"color": "#83c3b2", "marker": "D", "linestyle": (0, (4, 1, 1, 1))},
    {"color": "#c4473a", "marker": "v", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    {"color": "#8a8f98", "marker": "P", "linestyle": (0, (1, 1))},
)
"""Color, marker and line of each series: they differ in greyscale by lightness, and by marker and dashes besides."""
_FILE = "study.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Says how a study is run.

    Attributes:
      workdir: Folder that takes measurements, figure and table; by default runs/studies/NAME.
      data: Name of a data set, or path of a folder or file of one's own.
      data_dir: Folder of prepared data sets; None is $CVJAX_DATA_DIR, otherwise a folder in the user's cache.
      seeds: Number of seeds, each with its own parameters, order of examples and augmentation.
    """

    workdir: str = ""
    data: str = "scenes"
    data_dir: str | None = None
    seeds: int = 3

    def on_data(self, config: Run) -> Run:
        """Returns a configuration that reads the data of these settings."""
        name, place = own_place(self.data)
        data = dataclasses.replace(config.input, manual_dir=None if place is None else os.fspath(place))
        return dataclasses.replace(config, data=name, data_dir=self.data_dir, input=data)


@dataclasses.dataclass(frozen=True)
class Finding:
    """Holds what the measurements come to.

    Attributes:
      columns: Heads of the table.
      rows: Cells of the table as text, a row each.
      verdict: Sentence that says, from the measurements, whether and how far the claim holds here.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdict: str

    def markdown(self) -> str:
        """Returns the table in GitHub's Markdown, and the verdict below."""
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{self.verdict}\n"


@dataclasses.dataclass(frozen=True)
class Study:
    """Defines a study.

    Attributes:
      settings: Settings by default.
      trial: Settings that take every path of the study within seconds: `--trial`, to see whether all is there.
      task: What the data must have: labels, masks, boxes, or nothing where no data are read.
      claim: The claim, title of the figure.
      paper: What the paper found at its scale, with its number on arXiv and the place in it.
      meaning: What one learns from it, in a sentence or two, for docs/lessons.md.
      measure: Function that takes the measurements through `Lab.measure`.
      conclude: Function from all cells to the table and the verdict.
      draw: Function that draws all cells into an empty figure.
      size: Width and height of the figure in inches.
    """

    settings: Settings
    trial: Settings
    task: Literal["classification", "segmentation", "detection", "none"]
    claim: str
    paper: str
    meaning: str
    measure: Callable[[Any, "Lab"], None]
    conclude: Callable[[Cells], Finding]
    draw: Callable[[Cells, "Figure"], None]
    size: tuple[float, float] = (9.0, 4.6)


class Lab:
    """Takes measurements, each once: a cell that was taken by an earlier start is read and not measured again.

    Args:
      name: Name of the study.
      settings: Settings of the study; those of an earlier start in the same folder must be the same.

    Raises:
      ConfigError: The folder holds another study, or the same one with other settings.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.place: AnyPath = as_path(settings.workdir) / _FILE
        self.record: dict[str, Any] = {"study": name, "settings": _settings(settings), "versions": _versions()}
        self.cells: dict[str, dict[str, Any]] = {}
        self._console = make_console(note=True)
        if self.place.exists():
            before = _read(self.place)
            changed = _differences(before, self.record)
            if changed:
                what = "; ".join(changed)
                raise ConfigError(f"{self.place} was measured with {what}; give that again, or another --workdir")
            self.cells = dict(before["cells"])

    def measure(self, cell: str, take: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the figures of a cell: those that are there, or those that a function takes, which are then kept.

        Args:
          cell: Name of the cell, `VARIANT/SEED` where there are seeds.
          take: Function without arguments whose figures are numbers, texts or lists of them.
        """
        if cell not in self.cells:
            begun = time.monotonic()
            found = as_json(dict(take()))
            self.cells[cell] = found | {"seconds": round(time.monotonic() - begun, 2)}
            write_json(self.place, self.record | {"cells": self.cells})
            self._console.print(f"{cell}: {_in_short(self.cells[cell])}", soft_wrap=True, markup=False, highlight=False)
        return self.cells[cell]

    def measure_seeds(
        self, variant: str, seeds: int, make: Callable[[], Made], take: Callable[[Made, int], Mapping[str, Any]]
    ) -> None:
        """Takes the cells of a variant, one a seed.

        Args:
          variant: Name of the variant.
          seeds: Number of seeds.
          make: Function that makes what all seeds share, such as compiled runs; it is called where a cell is missing.
          take: Function from that and the seed to the figures of a cell.
        """
        made = once(make)
        for seed in range(seeds):
            self.measure(f"{variant}/{seed}", lambda seed=seed: take(made(), seed))


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """Returns a function that makes something at its first call: what no cell needs is not made, nor compiled."""
    return functools.cache(make)


def of_seeds(cells: Cells, variant: str, figure: str) -> np.ndarray:
    """Returns a figure of a variant with each seed, float64 [seeds, ...]."""
    found = [row[figure] for name, row in cells.items() if name.rpartition("/")[0] == variant]
    return np.array(found, np.float64)


def variants_of(cells: Cells) -> list[str]:
    """Returns the variants in the order of their first measurements."""
    return list(dict.fromkeys(name.rpartition("/")[0] for name in cells))


def spread(values: np.ndarray) -> np.ndarray:
    """Returns the sample standard deviation over the seeds, the first axis; 0 of a single seed."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def with_error(values: np.ndarray, scale: float = 1.0, digits: int = 1) -> str:
    """Formats the mean over seeds and the standard deviation: 71.2 ± 0.4; of one seed the value alone."""
    mean, error = scale * values.mean(), scale * spread(values)
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if len(values) > 1 else "")


def milliseconds(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Returns the median time of each call, one after the other in each round, after a round that compiles."""
    taken = np.zeros((rounds + 1, len(calls)))
    for row in taken:
        for place, call in enumerate(calls.values()):
            begun = time.perf_counter()
            jax.block_until_ready(call())
            row[place] = 1000 * (time.perf_counter() - begun)
    return dict(zip(calls, np.median(taken[1:], axis=0).round(2).tolist()))


def look_of(number: int) -> dict[str, Any]:
    """Returns color, marker and line of a series by its number."""
    return dict(LOOKS[number % len(LOOKS)])


def plot_line(axes: "Axes", x: Iterable[float], values: np.ndarray, label: str, number: int, every: int = 1) -> None:
    """Draws the mean over seeds [seeds, points] as a line, with the standard deviation as error bars.

    Args:
      axes: Panel.
      x: Place of each point.
      values: Figure of each seed at each point.
      label: Name in the legend.
      number: Number of the series, which chooses its look.
      every: Points from one marker with its error bar to the next; those of several series lie beside one another.
    """
    mean, error, shown = values.mean(axis=0), spread(values), (number % every, every)
    look = look_of(number) | {"markevery": shown, "errorevery": shown, "markersize": 5, "capsize": 3}
    axes.errorbar(list(x), mean, yerr=error, label=label, **look)


def panel(axes: "Axes", title: str, x: str, y: str, legend: bool = True) -> None:
    """Gives a panel the shared look, names its axes with their units, and shows the legend."""
    style(axes, title)
    axes.set_xlabel(x, fontsize=9, color="#50555c")
    axes.set_ylabel(y, fontsize=9, color="#50555c")
    if legend:
        axes.legend(frameon=False, fontsize=8, labelcolor="#333333")


def make_figure(study: Study, cells: Cells) -> "Figure":
    """Returns the figure of a study: the claim above, what the paper and what this study found below."""
    figure = new_figure(*study.size)
    study.draw(cells, figure)
    columns = int(study.size[0] * 14)
    below = (f"Paper: {study.paper}", f"Here: {study.conclude(cells).verdict}")
    figure.suptitle(textwrap.fill(study.claim, int(columns * 0.75)), fontsize=12, x=0.01, ha="left", color="#111111")
    text = "\n".join(textwrap.fill(line, columns) for line in below)
    figure.supxlabel(text, fontsize=8.5, x=0.01, ha="left", color="#333333")
    return figure


def run_study(study: Study, name: str, settings: Settings) -> dict[str, Any]:
    """Measures what is missing, writes figure.png, table.md and study.json, and returns what the latter holds.

    Raises:
      UserError: Settings or data with which the study cannot be run; the message says which, and the way out.
    """
    if settings.seeds < 1:
        raise ConfigError(f"--seeds {settings.seeds} measures nothing; give 1 or more")
    if not settings.workdir:
        raise ConfigError("the study has no folder to write into; give --workdir, such as runs/studies/NAME")
    lab = Lab(name, settings)
    study.measure(settings, lab)
    finding = study.conclude(lab.cells)
    result = lab.record | {"cells": lab.cells, "table": as_json(finding)}
    with written_folder(as_path(settings.workdir)) as folder:
        write_json(folder / _FILE, result)
        (folder / "table.md").write_text(f"# {study.claim}\n\n{finding.markdown()}", encoding="utf-8")
        save_figure(make_figure(study, lab.cells), folder / "figure.png")
    console = make_console()
    console.print(finding.markdown(), soft_wrap=True, markup=False, highlight=False)
    console.print(f"written: {settings.workdir}/figure.png, table.md, {_FILE}", soft_wrap=True)
    return result


def main(study: Study, docstring: str | None) -> None:
    """Runs a study as a command: reads its flags, measures, and writes.

    Args:
      study: Study that the module defines.
      docstring: Docstring of the module, which --help shows.
    """

    def start() -> None:
        spec = sys.modules["__main__"].__spec__
        if spec is None:
            raise ConfigError("a study is started by its name: cvjax study NAME")
        name = spec.name.rpartition(".")[2]
        words, place = take_flag(sys.argv[1:], "--json")
        trial = "--trial" in words
        base, words = study.trial if trial else study.settings, [word for word in words if word != "--trial"]
        text = f"{docstring or name}\nWith --trial the smallest settings that take every path are the defaults."
        base = dataclasses.replace(base, workdir=f"runs/studies/{name}{'-trial' if trial else ''}")
        settings = read_fields(base, words, f"study {name}", text)
        write_json_result(place, run_study(study, name, settings))

    run_command(start)


def _read(place: AnyPath) -> Mapping[str, Any]:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        if not isinstance(found["cells"], dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{place} holds no measurements of a study; remove it, or give another --workdir") from error
    return found


def _settings(settings: Settings) -> dict[str, Any]:
    shown = as_json(settings) | {"data": pathlib.PurePath(settings.data).name}  # a path is one machine's
    return {field: value for field, value in shown.items() if field not in ("workdir", "data_dir")}


def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("cvjax", "jax", "flax", "optax", "numpy")}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Says what an earlier start in the same folder had otherwise; versions may differ."""
    if before.get("study") != now["study"]:
        return [f"the study {before.get('study')}"]
    then, wanted = before.get("settings", {}), now["settings"]
    names = dict.fromkeys([*then, *wanted])
    return [f"{name} {then.get(name)}, not {wanted.get(name)}" for name in names if then.get(name) != wanted.get(name)]


def _in_short(figures: Mapping[str, Any]) -> str:
    numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
