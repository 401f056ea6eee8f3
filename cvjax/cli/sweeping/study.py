"""Keeps the trials of a sweep with optuna in a file of its folder, so that a sweep that was stopped goes on."""

import dataclasses
import importlib
import importlib.util
import json
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cvjax.cli.sweeping.varied import Varied
from cvjax.errors import CheckpointError, ConfigError
from cvjax.files import write_json

_LOG = "study.log"
_SETTINGS = "sweep.json"


@dataclasses.dataclass(frozen=True)
class Trial:
    """Holds one run of a sweep.

    Attributes:
      number: Number of the trial, from 0.
      values: Value of each varied setting by its flag.
      folder: Work folder of its run.
      resumed: Whether an earlier start of the sweep began it.
    """

    number: int
    values: Mapping[str, Any]
    folder: pathlib.Path
    resumed: bool


@dataclasses.dataclass(frozen=True)
class Result:
    """Holds what came of a trial.

    Attributes:
      trial: The trial.
      score: Score of its run; None if the run failed or was given up.
      what: `complete`, `pruned` or `failed`.
    """

    trial: Trial
    score: float | None
    what: str


def check_optuna() -> None:
    """Checks that the package that chooses values is there.

    Raises:
      ConfigError: It is not.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("cvjax sweep needs the package optuna; pip install 'cvjax[sweep]'")


class Study:
    """Chooses the values of trials and remembers their scores.

    Args:
      folder: Folder of the sweep.
      varied: Settings that vary.
      settings: What else makes the sweep what it is: experiment, preset, further flags.
      seed: Seed of the choices.
      prune: Whether runs that are behind half of the others are given up.

    Raises:
      CheckpointError: The folder holds another sweep, or files that are none.
    """

    def __init__(
        self, folder: pathlib.Path, varied: Sequence[Varied], settings: Mapping[str, Any], *, seed: int, prune: bool
    ) -> None:
        self._optuna: Any = importlib.import_module("optuna")
        journal: Any = importlib.import_module("optuna.storages.journal")
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        self._folder, self._varied = folder, varied
        wanted = {**settings, "vary": [dataclasses.asdict(each) for each in varied], "seed": seed}
        wanted = json.loads(json.dumps(wanted))
        place = folder / _SETTINGS
        if place.exists():
            _check_same(place, wanted)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(place, wanted)
        # A lock by opening a file works on network disks, too.
        log = str(folder / _LOG)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what optuna calls experimental
            backend = journal.JournalFileBackend(log, lock_obj=journal.JournalFileOpenLock(log))
            pruner = self._optuna.pruners.MedianPruner() if prune else self._optuna.pruners.NopPruner()
            self._study = self._optuna.create_study(
                storage=self._optuna.storages.JournalStorage(backend),
                study_name="sweep",
                direction="maximize",
                load_if_exists=True,
                pruner=pruner,
            )
        self._running: dict[int, Any] = {}
        # A start that goes on draws other numbers than the first one did, and the same as any that goes on there.
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed + len(self._study.trials))

    def next_trial(self) -> Trial:
        """Returns a trial that an earlier start left unfinished, or a new one."""
        states = self._optuna.trial.TrialState
        for old in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            if old.number not in self._running:
                return self._begun(self._optuna.trial.Trial(self._study, old._trial_id), resumed=True)
        return self._begun(self._study.ask(), resumed=False)

    def _begun(self, trial: Any, *, resumed: bool) -> Trial:
        self._running[trial.number] = trial
        # Of a trial that was begun before, these are the values of then.
        values = {each.flag: each.suggested(trial) for each in self._varied}
        return self._as_trial(trial.number, values, resumed=resumed)

    def given_up(self, trial: Trial, step: int, score: float) -> bool:
        """Takes the score of a running trial, and returns whether it is to be given up."""
        running = self._running[trial.number]
        running.report(score, step)
        return bool(running.should_prune())

    def end(self, trial: Trial, score: float | None, *, pruned: bool = False) -> None:
        """Takes what came of a trial: its score, or None of one that failed or was given up."""
        states = self._optuna.trial.TrialState
        if score is not None and not pruned:
            self._study.tell(trial.number, score)
        else:
            self._study.tell(trial.number, state=states.PRUNED if pruned else states.FAIL)

    def results(self) -> list[Result]:
        """Returns the trials that came to an end, the best first."""
        found = []
        for each in self._study.get_trials(deepcopy=False):
            what = each.state.name.lower()
            if what in ("complete", "pruned", "fail"):
                score = each.value if what == "complete" else None
                what = "failed" if what == "fail" else what
                found.append(Result(self._as_trial(each.number, each.params, resumed=False), score, what))
        return sorted(found, key=lambda result: (result.score is None, -(result.score or 0.0), result.trial.number))

    def _as_trial(self, number: int, values: Mapping[str, Any], *, resumed: bool) -> Trial:
        return Trial(number, dict(values), self._folder / f"trial-{number:03d}", resumed)


def run_trials(study: Study, count: int, run: Callable[[Trial], tuple[float | None, bool]]) -> list[Result]:
    """Runs trials until there are so many that ended.

    Args:
      study: The study.
      count: Number of trials, with those of earlier starts.
      run: Function that runs a trial, and returns its score and whether it was given up.
    """
    while len(study.results()) < count:
        trial = study.next_trial()
        score, pruned = run(trial)
        study.end(trial, score, pruned=pruned)
    return study.results()


def _check_same(place: pathlib.Path, wanted: Mapping[str, Any]) -> None:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place} cannot be read as the settings of a sweep; give another --workdir") from error
    other = sorted(name for name in wanted if not isinstance(found, dict) or found.get(name) != wanted[name])
    if other:
        raise CheckpointError(
            f"{place.parent} holds a sweep with other settings ({', '.join(other)}); repeat its command to go on, or"
            " give another --workdir"
        )
