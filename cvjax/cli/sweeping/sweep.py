"""`cvjax sweep EXPERIMENT PRESET --vary FLAG=VALUES` searches the settings of a run by many runs."""

import dataclasses
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from cvjax.cli.shell.experiments import PACKAGE, experiment_files
from cvjax.cli.shell.names import no_such
from cvjax.cli.shell.reading import read
from cvjax.cli.sweeping.study import Result, Study, Trial, check_optuna, run_trials
from cvjax.cli.sweeping.varied import Varied, read_varied
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.engine.log import METRICS_FILE
from cvjax.errors import CheckpointError, ConfigError, UserError
from cvjax.storage import checked_url
from cvjax.visual.curves import read_metrics
from cvjax.visual.page import Page
from cvjax.visual.plots import drawn_figure, new_figure, style

_SHOWN = 5
_FAILURES = 3
"""Number of failures, with nothing else before them, that end a sweep."""
_POLL = 2.0
"""Seconds between two looks at the log of a run that may be given up."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Searches settings of a run: each trial is a run of its own, with values that optuna chooses by earlier scores.

    What stands behind `--` are flags of every run, such as `-- --steps 500 --data camvid`.

    The same command goes on where a sweep was stopped; a run that was under way resumes from its last checkpoint.

    Attributes:
      experiment: Name of the experiment.
      preset: Name of its preset.
      vary: Settings that vary, each as FLAG=LOW..HIGH, FLAG=log:LOW..HIGH or FLAG=A,B,C.
      trials: Number of runs, with those of earlier starts.
      seed: Seed of the choices; each run has the seed of its preset.
      prune: Give up runs whose score is below the median of the others at that step.
      workdir: Folder of the sweep; by default runs/EXPERIMENT/PRESET-sweep.
      html: File to write a page to.
      json: File to write the trials to.
    """

    experiment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")]
    preset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")] = "quick"
    vary: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    trials: int = 20
    seed: int = 0
    prune: bool = False
    workdir: str | None = None
    html: str | None = None
    json: str | None = None


def sweep(arguments: Arguments, console: Console, flags: Sequence[str] = ()) -> list[Result]:
    """Runs the trials, and returns those that ended, the best first.

    Args:
      arguments: Arguments of the command.
      console: Console that takes the progress.
      flags: Flags of every run.

    Raises:
      UserError: No such experiment, a setting without a form, a package that is missing, another sweep in the folder,
        or the first runs all fail.
      KeyboardInterrupt: A run was stopped by a signal.
    """
    check_optuna()
    varied = read_varied(arguments.vary)
    if arguments.experiment not in experiment_files():
        raise ConfigError(no_such("experiment", arguments.experiment, experiment_files(), "cvjax train"))
    if arguments.trials < 1:
        raise ConfigError(f"--trials is at least 1, not {arguments.trials}")
    place = arguments.workdir or f"runs/{arguments.experiment}/{arguments.preset}-sweep"
    if checked_url(place) is not None:
        raise ConfigError(
            f"--workdir {place} is a URL, and the file of a sweep's trials needs a disk; give a local folder"
        )
    folder = pathlib.Path(place).expanduser()
    settings = {"experiment": arguments.experiment, "preset": arguments.preset, "flags": list(flags)}
    study = Study(folder, varied, settings, seed=arguments.seed, prune=arguments.prune)

    def run(trial: Trial) -> tuple[float | None, bool]:
        shown = "  ".join(f"{flag} {_short(value)}" for flag, value in trial.values.items())
        console.print(f"trial {trial.number}{' goes on' if trial.resumed else ''}: {shown}", soft_wrap=True)
        score, pruned = _run(study, arguments, flags, varied, trial)
        ended = study.results()
        if score is None and not pruned and len(ended) == _FAILURES - 1 and all(r.what == "failed" for r in ended):
            raise CheckpointError(
                f"the first {_FAILURES} runs of the sweep failed; {trial.folder / 'run.log'} says why; mend it and give"
                " another --workdir"
            )
        came = "given up" if pruned else "failed" if score is None else f"{score:.4f}"
        console.print(f"trial {trial.number}: {came}")
        return score, pruned

    results = run_trials(study, arguments.trials, run)
    console.print(_table(results[:_SHOWN], varied))
    best = results[0]
    if best.score is not None:
        words = " ".join(word for each in varied for word in each.words(best.trial.values[each.flag]))
        command = " ".join(["cvjax train", arguments.experiment, arguments.preset, *flags, words])
        console.print(f"the best of them: {command}", soft_wrap=True)
    if arguments.html is not None:
        _page(arguments, results, varied).write(arguments.html)
        console.print(f"written: {arguments.html}", soft_wrap=True)
    return results


def _run(
    study: Study, arguments: Arguments, flags: Sequence[str], varied: Sequence[Varied], trial: Trial
) -> tuple[float | None, bool]:
    """Runs a trial as a process of its own; returns its score, None if it failed, and whether it was given up."""
    words = [word for each in varied for word in each.words(trial.values[each.flag])]
    own = ["--workdir", str(trial.folder), "--resume"]
    command = [sys.executable, "-m", f"{PACKAGE}.{arguments.experiment}", arguments.preset]
    trial.folder.mkdir(parents=True, exist_ok=True)
    pruned = False
    with (trial.folder / "run.log").open("ab") as log:
        process = subprocess.Popen([*command, *flags, *words, *own], stdout=log, stderr=log)
        try:
            while process.poll() is None:
                time.sleep(_POLL)
                if arguments.prune and not pruned and _behind(study, trial):
                    pruned = True
                    process.send_signal(signal.SIGTERM)  # it saves, and could be taken up again by hand
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if pruned:
        return None, True
    if process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise KeyboardInterrupt  # the run is saved, and the trial stays open
    return (_score(trial.folder) if process.returncode == 0 else None), False


def _behind(study: Study, trial: Trial) -> bool:
    """Returns whether the newest evaluation of a running trial is behind those of half of the others."""
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.engine.checkpoint import find_checkpoint, read_metadata

    place = trial.folder / METRICS_FILE
    try:
        series = read_metrics(place) if place.exists() else {}
        metric = read_metadata(find_checkpoint(trial.folder)).get("metric")
    except UserError:  # it has not saved yet, or is just writing
        return False
    steps, values = series.get(f"val/{metric}", (np.zeros(0), np.zeros(0)))
    return len(steps) > 0 and study.given_up(trial, int(steps[-1]), float(values[-1]))


def _score(folder: pathlib.Path) -> float:
    """Returns the score by which a finished run chooses its best checkpoint."""
    from cvjax.engine.checkpoint import find_checkpoint, read_metadata
    from cvjax.tasks.comparing.finished import read_runs

    (run,) = read_runs([folder])
    return run.scores()[str(read_metadata(find_checkpoint(folder))["metric"])]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(results: Sequence[Result], varied: Sequence[Varied]) -> Table:
    table = Table("trial", "score", *(each.flag for each in varied))
    for result in results:
        score = result.what if result.score is None else f"{result.score:.4f}"
        table.add_row(str(result.trial.number), score, *(_short(result.trial.values[each.flag]) for each in varied))
    return table


def _page(arguments: Arguments, results: Sequence[Result], varied: Sequence[Varied]) -> Page:
    page = Page(f"Sweep of {arguments.experiment} {arguments.preset}", f"{len(results)} trials, the best first.")
    rows = [
        [r.trial.number, r.what if r.score is None else r.score, *(_short(r.trial.values[v.flag]) for v in varied)]
        for r in results
    ]
    page.table(("trial", "score", *(each.flag for each in varied)), rows)
    scored = [result for result in results if result.score is not None]
    if scored:
        page.figure(_drawn(scored, varied), "score of each trial by each setting")
    return page


def _drawn(results: Sequence[Result], varied: Sequence[Varied]) -> np.ndarray:
    figure = new_figure(8, 2.6 * len(varied))
    axes = figure.subplots(len(varied), 1, squeeze=False)[:, 0]
    scores = [result.score for result in results]
    for ax, each in zip(axes, varied):
        values = [result.trial.values[each.flag] for result in results]
        if each.choices:
            ax.plot([each.choices.index(value) for value in values], scores, "o", color="#0072b2", alpha=0.7)
            ax.set_xticks(range(len(each.choices)), each.choices)
        else:
            ax.plot(values, scores, "o", color="#0072b2", alpha=0.7)
            ax.set_xscale("log" if each.log else "linear")
        style(ax, f"score by {each.flag}")
    return drawn_figure(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    arguments = read(Arguments, words[:split], "sweep")
    results = sweep(arguments, make_console(), words[split + 1 :])
    write_json_result(
        arguments.json,
        [
            {"trial": r.trial.number, "score": r.score, "what": r.what, "values": dict(r.trial.values)}
            | {"workdir": str(r.trial.folder)}
            for r in results
        ],
    )


if __name__ == "__main__":
    run_command(main)
