"""This module knows which values the numbers of a configuration may have, and says so before a run starts."""

import dataclasses
import fnmatch
import math
from collections.abc import Iterator, Mapping
from typing import Any

from cvjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class _Limit:
    """Says what a number may be: from `least` (or above it, if `above`) to `most` (or below it, if `below`)."""

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False

    def allows(self, value: float) -> bool:
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below or math.isinf(self.most) else value <= self.most
        return low and high  # nan is neither

    def words(self, whole: bool) -> str:
        if math.isinf(self.least):
            return "a number"
        text = ("a whole number " if whole else "a number ") + ("above" if self.above else "from")
        text += f" {self.least:.15g}"
        if math.isinf(self.most):
            return text if self.above else f"{text} on"
        joint = ("and" if self.below else "and up to") if self.above else "to"
        return f"{text} {joint} {'below ' if self.below else ''}{self.most:.15g}"


_COUNT, _NUMBER_OF = _Limit(1), _Limit(0)
_FACTOR, _POSITIVE = _Limit(0), _Limit(0, above=True)
_SHARE, _PART, _INSIDE = _Limit(0, 1), _Limit(0, 1, below=True), _Limit(0, 1, above=True, below=True)

# By field, as in a flag; the first pattern that fits counts. A field of several numbers holds each of them to it.
_LIMITS: dict[str, _Limit] = {
    "steps": _COUNT,
    "epochs": _POSITIVE,
    "hours": _POSITIVE,
    "batch_size": _COUNT,
    "seed": _Limit(0, 2**32 - 1),
    "log_every": _NUMBER_OF,
    "eval_every": _NUMBER_OF,
    "patience": _COUNT,
    "min_delta": _FACTOR,
    "checkpoint_every": _NUMBER_OF,
    "keep": _COUNT,
    "spatial": _COUNT,
    "stall_minutes": _FACTOR,
    "cluster.wait": _POSITIVE,
    "cluster.silence": _POSITIVE,
    "distill.weight": _SHARE,
    "distill.temperature": _POSITIVE,
    "*_weight": _FACTOR,
    "loss_stride": _COUNT,
    "focal_gamma": _FACTOR,
    "ohem_threshold": _FACTOR,
    "mixup": _FACTOR,
    "cutmix": _FACTOR,
    "class_balance": _FACTOR,
    "penalty": _FACTOR,
    "near": _PART,
    "images": _COUNT,
    "most_pairs": _COUNT,
    "svm.cost": _POSITIVE,
    "svm.batch": _COUNT,
    "svm.rounds": _COUNT,
    "svm.positive_weight": _POSITIVE,
    "svm.feature_norm": _POSITIVE,
    "svm.tolerance": _POSITIVE,
    "svm.iterations": _COUNT,
    "model.*dropout": _PART,
    "model.*momentum": _SHARE,
    "model.*epsilon": _POSITIVE,
    "optim.learning_rate": _FACTOR,
    "optim.momentum": _PART,
    "optim.weight_decay": _FACTOR,
    "optim.*_lr_mult": _FACTOR,
    "optim.lr_mults": _FACTOR,
    "optim.clip_norm": _POSITIVE,
    "optim.accumulate": _COUNT,
    "optim.ema_decay": _PART,
    "optim.warmup": _PART,
    "optim.power": _FACTOR,
    "optim.milestones": _INSIDE,
    "optim.decay_every": _INSIDE,
    "optim.decay_factor": _FACTOR,
    "optim.end_fraction": _FACTOR,
    "input.fraction": _Limit(0, 1, above=True),
    "input.balance": _FACTOR,
    "input.balance_threshold": _Limit(0, 1, above=True),
    "input.hold_out": _INSIDE,
    "input.hold_out_seed": _Limit(0, 2**32 - 1),
    "input.crop": _COUNT,
    "input.resize": _COUNT,
    "input.flip": _SHARE,
    "input.brightness": _FACTOR,
    "input.contrast": _FACTOR,
    "input.saturation": _FACTOR,
    "input.pca_noise": _FACTOR,
    "input.exposure": _Limit(1),
    "input.hsv_saturation": _Limit(1),
    "input.repeated_aug": _COUNT,
    "input.workers": _NUMBER_OF,
    "eval.batch_size": _COUNT,
    "eval.crop": _COUNT,
    "eval.resize": _COUNT,
    "eval.pad_multiple": _COUNT,
    "eval.scales": _POSITIVE,
    "eval.window": _COUNT,
    "eval.overlap": _PART,
    "eval.trimap": _COUNT,
    "eval.em_thresholds": _SHARE,
    "eval.boxes": _COUNT,
    "eval.short_side": _COUNT,
    "eval.long_side": _COUNT,
    "eval.score_threshold": _Limit(-math.inf, above=True),
    "eval.nms_threshold": _SHARE,
    "eval.max_detections": _COUNT,
}


_NEVER_EMPTY = {"eval.scales"}


def check_limits(config: Any) -> None:
    """Checks every number of a configuration that has a limit.

    Raises:
      ConfigError: One lies outside of its limit; the message names the flag, the value and the limit.
    """
    for name, value in _fields(config):
        limit = next((limit for pattern, limit in _LIMITS.items() if fnmatch.fnmatchcase(name, pattern)), None)
        if limit is None:
            continue
        if name in _NEVER_EMPTY and not value:
            raise ConfigError(f"--{name.replace('_', '-')} is empty; give one number or more")
        for number in _numbers(value):
            if not limit.allows(number):
                flag = "--" + name.replace("_", "-")
                raise ConfigError(f"{flag} is {_shown(value)}; give {limit.words(_whole(value))}{_hint(name)}")


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        elif isinstance(value, Mapping):  # the options of a model, whose flags have no word for that
            yield from _options(value, prefix)
        else:
            yield prefix + field.name, value


def _options(options: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _options(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _whole(value: Any) -> bool:
    return all(isinstance(number, int) for number in _numbers(value))


def _hint(name: str) -> str:
    return {
        "log_every": ", where 0 shows no lines",
        "eval_every": ", where 0 evaluates at the end alone",
        "checkpoint_every": ", where 0 saves at the end alone",
        "stall_minutes": ", where 0 waits forever",
        "input.workers": ", where 0 decodes in threads of the run's own process",
    }.get(name, "")
