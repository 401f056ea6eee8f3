"""Sends a run's figures to the programs in which people look at their runs.

A tracker is a module of this package with a function `open_tracker(facts) -> Tracker`. TensorBoard's files are written
by default. The others are extras, and are set up as their own documentation says: by environment variables and logins.
"""

import dataclasses
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from cvjax.errors import ConfigError
from cvjax.files import write_json
from cvjax.storage import AnyPath

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
IDENTITIES = "trackers.json"
"""File of the work folder with the number that each tracker gave the run, under which a resumed run goes on."""
_PACKAGES: Mapping[str, str] = {"wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}


class Tracker(Protocol):
    """Takes the figures of one run."""

    @property
    def identity(self) -> str | None:
        """Returns what the tracker calls the run, so that a resumed run goes on under it; None where it needs none."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes finite figures by name, such as `train/loss` and `val/miou`, at a step."""
        ...

    def flush(self) -> None:
        """Writes what was taken to where it belongs."""
        ...

    def close(self, *, finished: bool) -> None:
        """Ends; `finished` says that the run came to its end, and was not stopped and did not fail."""
        ...


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """Holds what trackers are told of a run.

    Attributes:
      name: Name of the run, by default the last two parts of its work folder.
      project: Name under which runs are gathered.
      folder: Local folder for files of the run.
      settings: Configuration by flag, such as {"optim.learning-rate": 0.1}.
      identity: What the tracker called the run before it was resumed; None for a new run.
    """

    name: str
    project: str
    folder: AnyPath
    settings: Mapping[str, Any]
    identity: str | None = None


def check_trackers(names: Sequence[str]) -> None:
    """Checks that the packages of trackers are there, before anything is written.

    Raises:
      ConfigError: A package is missing, or a tracker is named twice.
    """
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"--trackers names {name} twice; name each once")
        package = _PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(f"--trackers {name} needs a package that is not here; pip install 'cvjax[{name}]'")


class Trackers:
    """Sends figures to several trackers. One that fails costs a line and its own figures, and the run goes on.

    Args:
      names: Names of the trackers.
      facts: Facts of the run.
      workdir: Work folder, which keeps what the trackers call the run.
      say: Function that prints a line.
    """

    def __init__(self, names: Sequence[str], facts: RunFacts, workdir: AnyPath, say: Callable[[str], None]) -> None:
        self._say = say
        self._open: dict[str, Tracker] = {}
        known = _known_identities(workdir)
        for name in names:
            module = importlib.import_module(f"{__name__}.{name}")
            mine = dataclasses.replace(facts, identity=known.get(name))
            self._call(name, lambda open_tracker=module.open_tracker, mine=mine: open_tracker(mine), keep=True)
        found = {name: tracker.identity for name, tracker in self._open.items() if tracker.identity is not None}
        if found and found != known:
            write_json(workdir / IDENTITIES, known | found)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends figures of a step."""
        self._each(lambda tracker: tracker.log(step, values))

    def flush(self) -> None:
        """Has all trackers write what they hold."""
        self._each(lambda tracker: tracker.flush())

    def close(self, *, finished: bool = False) -> None:
        """Ends all trackers."""
        self._each(lambda tracker: tracker.close(finished=finished))
        self._open.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            self._call(name, lambda tracker=tracker: act(tracker))

    def _call(self, name: str, act: Callable[[], Any], keep: bool = False) -> None:
        try:
            made = act()
        except OSError as error:
            # A disk that is full ends a run, as for all else that it writes; TensorBoard's files lie in its folder.
            if name == "tensorboard":
                raise
            self._give_up(name, error)
        except Exception as error:
            self._give_up(name, error)
        else:
            if keep:
                self._open[name] = made

    def _give_up(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        self._say(f"warning: {name} takes no more figures ({why}); the run goes on, and metrics.jsonl has them all")


Track = Callable[[AnyPath, Callable[[str], None]], Trackers]
"""Opens a run's trackers, given the local folder of its files and a function that prints a line."""


def open_trackers(
    names: Sequence[str],
    project: str,
    workdir: AnyPath,
    settings: Mapping[str, Any],
    folder: AnyPath,
    say: Callable[[str], None],
) -> Trackers:
    """Opens the trackers of a run.

    Args:
      names: Names of the trackers.
      project: Name under which they gather runs.
      workdir: Work folder of the run, or its URL.
      settings: Configuration of the run by flag.
      folder: Local folder of the run's files: the work folder, or what is copied to its URL.
      say: Function that prints a line.
    """
    name = "/".join(str(workdir).rstrip("/").split("/")[-2:])
    return Trackers(names, RunFacts(name, project, folder, settings), workdir, say)


def tensorboard_alone(folder: AnyPath, say: Callable[[str], None]) -> Trackers:
    """Opens TensorBoard's files in a folder."""
    return Trackers(("tensorboard",), RunFacts("", "", folder, {}), folder, say)


def _known_identities(workdir: AnyPath) -> dict[str, str]:
    """Returns what trackers called the run before; nothing of a file that is damaged, as a new number does no harm."""
    try:
        found = json.loads((workdir / IDENTITIES).read_text(encoding="utf-8"))
        return {name: value for name, value in found.items() if isinstance(value, str)}
    except (OSError, ValueError, AttributeError):
        return {}
