"""`cvjax compare RUN RUN...` puts runs side by side: scores, classes, settings, curves, and single images."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from cvjax.cli.shell.reading import read
from cvjax.datasets.registry import said_name
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError, DataError
from cvjax.visual.comparison import draw_curves, side_by_side
from cvjax.visual.page import Card, Page

if TYPE_CHECKING:
    from cvjax.tasks.comparing.finished import FinishedRun
    from cvjax.tasks.comparing.judging import Contestant, Judgment

_CARDS = 12
"""Number of images that are shown for either run."""
_USUAL = 100
"""Number of images that a page compares where nothing is said."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compares runs by what they left in their work folders, and two runs also image by image.

    Attributes:
      runs: Work folders of runs of one task.
      html: File to write a page to, with the tables, the curves, and the images that one run has right and the other
        wrong.
      json: File to write all figures to; - is standard output.
      images: Number of images of the split on which the first two runs are compared one by one; by default 100 with
        --html and two runs, and none otherwise. 0 compares none.
      split: Split of these images; by default the evaluation split of each run.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")] = ()
    html: str | None = None
    json: str | None = None
    images: int | None = None
    split: str | None = None


@dataclasses.dataclass(frozen=True)
class _Duel:
    """Holds two runs' judgments on the same images."""

    contestants: "tuple[Contestant, Contestant]"
    examples: list[tuple[tuple[int, int], str]]
    judgments: "tuple[list[Judgment], list[Judgment]]"
    statistics: dict[str, float | int]

    def order(self) -> np.ndarray:
        """Returns the positions of the images, those that the first run is better at first."""
        first, second = self.judgments
        gaps = np.nan_to_num([a.score - b.score for a, b in zip(first, second)])
        right = [bool(a.right) - bool(b.right) for a, b in zip(first, second)]
        return np.lexsort((-gaps, -np.array(right)))

    def better(self, position: int) -> int:
        """Returns 1 where the first run is right and the second wrong (or its score is higher), -1 vice versa, or 0."""
        a, b = self.judgments[0][position], self.judgments[1][position]
        if a.right is not None:
            return int(bool(a.right)) - int(bool(b.right))
        return int(a.score > b.score) - int(a.score < b.score)


def compare_runs(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Prints the comparison and writes what was asked for; returns all figures.

    Raises:
      UserError: Fewer than two runs, runs of several tasks, a folder without a run, or data that are missing.
    """
    if len(arguments.runs) < 2:
        raise ConfigError("cvjax compare takes at least two runs; give their work folders")
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.tasks.comparing.finished import differing_settings, read_runs

    runs = read_runs(arguments.runs)
    tasks = {run.task: run.name for run in runs}
    if len(tasks) > 1:
        what = ", ".join(f"{name} is of {task}" for task, name in tasks.items())
        raise ConfigError(f"runs of one task are compared, and {what}; compare these apart")
    names = [run.name for run in runs]
    scores, classes, settings = _scores(runs), _classes(runs), differing_settings(runs)
    notes = _notes(runs, settings)
    console.print(_table(("score", *names), scores))
    console.print(_table(("setting", *names), [[flag, *map(_shown, values)] for flag, values in settings.items()]))
    for note in notes:
        console.print(note, soft_wrap=True)
    duel = _duel(arguments, console)
    if arguments.html is not None:
        _page(runs, scores, classes, settings, notes, duel).write(arguments.html)
        console.print(f"written: {arguments.html}", soft_wrap=True)
    figures = {
        "runs": [{"name": run.name, "place": str(run.place), "steps": run.steps} for run in runs],
        "scores": {score: dict(zip(names, values)) for score, *values in scores},
        "classes": {kind: {name: dict(zip(names, row)) for name, *row in rows} for kind, rows in classes.items()},
        "settings": {flag: dict(zip(names, values)) for flag, values in settings.items()},
        "notes": notes,
        "images": None if duel is None else _as_figures(duel),
    }
    write_json_result(arguments.json, figures)
    return figures


def _scores(runs: "Sequence[FinishedRun]") -> list[list[Any]]:
    found = [run.scores() for run in runs]
    rows = [
        [name, *(each.get(name) for each in found)] for name in dict.fromkeys(name for each in found for name in each)
    ]
    return [["steps", *(run.steps for run in runs)], *rows]


def _classes(runs: "Sequence[FinishedRun]") -> dict[str, list[list[Any]]]:
    """Returns a table for each score of classes: the class, its score in each run, and the last less the first."""
    found = [run.by_class() for run in runs]
    tables = {}
    for kind in dict.fromkeys(kind for each in found for kind in each):
        scores = [each.get(kind, {}) for each in found]
        rows = []
        for name in dict.fromkeys(name for each in scores for name in each):
            row = [each.get(name) for each in scores]
            gap = None if row[0] is None or row[-1] is None else row[-1] - row[0]
            rows.append([name, *row, gap])
        tables[kind] = rows
    return tables


def _notes(runs: "Sequence[FinishedRun]", settings: dict[str, list[Any]]) -> list[str]:
    """Returns sentences about what makes the scores less comparable than they look."""
    notes = []
    moved = [flag for flag in ("data", "input.manual-dir", "input.eval-split") if flag in settings]
    if moved:
        notes.append(f"The runs differ in {', '.join(moved)}, so their scores may be of other images.")
    judged = sorted(flag for flag in settings if flag.startswith("eval.") and flag != "eval.batch-size")
    if judged:
        notes.append(f"They were scored otherwise ({', '.join(judged)}); score them alike with cvjax evaluate.")
    for run in runs:
        if not run.report:
            notes.append(f"{run.name} has no report, as it did not come to its end; its scores are its log's last.")
    if len({tuple(run.metadata["task"]["class_names"]) for run in runs}) > 1:
        notes.append("Their classes differ, so their means are over other classes.")
    return notes


def _duel(arguments: Arguments, console: Console) -> _Duel | None:
    count = arguments.images
    if count is None:
        count = _USUAL if arguments.html is not None and len(arguments.runs) == 2 else 0
    if count < 0:
        raise ConfigError(f"--images is a number of images, not {count}")
    if count == 0:
        return None
    from cvjax.tasks import load
    from cvjax.tasks.comparing.judging import Contestant, paired_statistics, shared_examples

    first, second = (Contestant(load.load_for_inference(run), arguments.split) for run in arguments.runs[:2])
    try:
        examples = list(shared_examples(first.dataset, second.dataset, count))
    except DataError as error:
        if arguments.images is not None:
            raise
        console.print(f"not compared image by image: {error}", soft_wrap=True)
        return None
    judgments = [first.judge(here) for (here, _), _ in examples], [second.judge(there) for (_, there), _ in examples]
    duel = _Duel((first, second), examples, judgments, paired_statistics(*judgments))
    console.print(f"{_in_words(duel)}.", soft_wrap=True)
    return duel


def _in_words(duel: _Duel) -> str:
    found, first = duel.statistics, duel.contestants[0]
    where = said_name(first.dataset.name, first.task.config.input.manual_dir)
    words = f"{found['images']} images of {where} {first.dataset.split}"
    if "mean_difference" in found:
        gap, low, high = (found[name] for name in ("mean_difference", "low", "high"))
        side = "above" if gap >= 0 else "below"
        words += (
            f": on average the first run scores {abs(gap):.4f} {side} the second ({low:+.4f} to {high:+.4f} at 95%)"
        )
    if "only_first" in found:
        words += (
            f"; both are right on {found['both_right']}, only the first on {found['only_first']}, only the second on"
            f" {found['only_second']}, neither on {found['both_wrong']} (McNemar's p = {found['mcnemar_p']:.2g})"
        )
    return words


def _as_figures(duel: _Duel) -> dict[str, Any]:
    each = [
        {"id": name, "first": dataclasses.asdict(a), "second": dataclasses.asdict(b)}
        for (_, name), a, b in zip(duel.examples, *duel.judgments)
    ]
    return {**duel.statistics, "each": each}


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table()
    for name in header:
        table.add_column(name, overflow="fold")  # paths differ at their ends
    for row in rows:
        table.add_row(*(_shown(value) for value in row))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _page(
    runs: "Sequence[FinishedRun]",
    scores: list[list[Any]],
    classes: dict[str, list[list[Any]]],
    settings: dict[str, list[Any]],
    notes: Sequence[str],
    duel: _Duel | None,
) -> Page:
    names = [run.name for run in runs]
    page = Page(" and ".join(names) if len(names) == 2 else f"{len(names)} runs", " ".join(notes))
    page.heading("Scores")
    page.table(("score", *names), scores)
    curves = draw_curves({run.name: run.series for run in runs})
    if curves is not None:
        page.heading("Curves")
        page.figure(curves)
    for kind, rows in classes.items():
        page.heading(f"{kind} of each class")
        largest_first = sorted(rows, key=lambda row: -abs(row[-1] or 0))
        page.table(("class", *names, f"{names[-1]} less {names[0]}"), largest_first)
    page.heading("Settings that differ")
    page.table(("flag", *names), [[flag, *map(_shown, values)] for flag, values in settings.items()])
    if duel is not None:
        page.heading("Image by image")
        page.text(f"{_in_words(duel)}.")
        order = duel.order()
        for sign, positions, title in ((1, order, names[0]), (-1, order[::-1], names[1])):
            chosen = [int(position) for position in positions if duel.better(int(position)) == sign][:_CARDS]
            page.heading(f"{title} is better")
            wide = duel.judgments[0][0].right is None
            page.sheet([_card(duel, position, names) for position in chosen], wide=wide)
    return page


def _card(duel: _Duel, position: int, names: Sequence[str]) -> Card:
    (here, there), name = duel.examples[position]
    judged = [judgments[position] for judgments in duel.judgments]
    words = tuple(f"{run}: {judgment.words}" for run, judgment in zip(names, judged))
    truth, first = duel.contestants[0].draw(here)
    _, second = duel.contestants[1].draw(there)
    if judged[0].right is not None:  # the image itself, of which the words say all
        return Card(truth, name, words)
    return Card(side_by_side([truth, first, second], ["truth", *names[:2]]), name, words)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    compare_runs(read(Arguments, argv, "compare"), make_console())


if __name__ == "__main__":
    run_command(main)
