"""Reads which settings a sweep varies, and over what: `optim.learning-rate=log:1e-4..1e-1`, `optim.name=sgd,adamw`."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

from cvjax.errors import ConfigError

_FORMS = "FLAG=LOW..HIGH, FLAG=log:LOW..HIGH or FLAG=A,B,C"
_OWNED = ("workdir", "resume", "config")
"""Flags that the sweep gives each run itself."""


@dataclasses.dataclass(frozen=True)
class Varied:
    """Holds a setting and the values that it may take.

    Attributes:
      flag: Flag of the run without its dashes.
      low, high: Ends of a range, both included; None for a choice.
      log: Whether the range is searched by its logarithm.
      whole: Whether the values of the range are whole numbers.
      choices: Values of a choice, as words of a command line; several words are one value, such as "96 128".
    """

    flag: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()

    def suggested(self, trial: Any) -> str | int | float:
        """Returns the value that one of optuna's trials suggests."""
        if self.choices:
            return trial.suggest_categorical(self.flag, list(self.choices))
        if self.whole:
            return trial.suggest_int(self.flag, int(self.low or 0), int(self.high or 0), log=self.log)
        return trial.suggest_float(self.flag, self.low, self.high, log=self.log)

    def words(self, value: Any) -> list[str]:
        """Returns the words of a command line that set the flag to a value; True and False are flags without one."""
        if value in ("True", "False"):
            start, dot, name = self.flag.rpartition(".")
            return [f"--{self.flag}" if value == "True" else f"--{start}{dot}no-{name}"]
        return [f"--{self.flag}", *(value.split() if isinstance(value, str) else [repr(value)])]


def read_varied(texts: Sequence[str]) -> list[Varied]:
    """Reads the settings that a sweep varies.

    Raises:
      ConfigError: There are none, or one of them has no such form, is there twice, or is the sweep's own.
    """
    if not texts:
        raise ConfigError(f"a sweep varies at least one setting; give --vary {_FORMS}")
    found = [_read(text) for text in texts]
    flags = [each.flag for each in found]
    for flag in flags:
        if flags.count(flag) > 1:
            raise ConfigError(f"--vary names {flag} twice; give its values once")
    return found


def _read(text: str) -> Varied:
    flag, equals, values = text.partition("=")
    flag = flag.strip().lstrip("-").replace("_", "-")
    if not equals or not flag or not values.strip():
        raise ConfigError(f"--vary {text} has no such form; give {_FORMS}")
    if flag in _OWNED:
        raise ConfigError(f"--vary {flag} is what a sweep gives each run itself; leave it out")
    found = re.fullmatch(r"(log:)?\s*([^,]+?)\.\.([^,]+)", values.strip())
    if found is None:
        choices = tuple(" ".join(choice.split()) for choice in values.split(","))
        if len(choices) < 2 or "" in choices or len(set(choices)) < len(choices):
            raise ConfigError(f"--vary {text} is no choice of several values; give {_FORMS}")
        return Varied(flag, choices=choices)
    low, high = (_number(word, text) for word in (found[2], found[3]))
    log = found[1] is not None
    if not low < high or (log and low <= 0):
        above = ", and above 0 for log:" if log else ""
        raise ConfigError(f"--vary {text} has no range; give a low value below the high one{above}")
    whole = all(re.fullmatch(r"[+-]?\d+", word.strip()) for word in (found[2], found[3]))
    return Varied(flag, low, high, log, whole)


def _number(word: str, text: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"--vary {text}: {word.strip()} is no number; give {_FORMS}")
    return value
