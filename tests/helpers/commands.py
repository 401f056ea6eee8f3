"""Experiments in this process: the configuration that a command line says, and the run of a configuration."""

import inspect
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from cvjax.cli.commandline import parse
from cvjax.engine.config import RunConfig, resolve


def configure(experiment: ModuleType, argv: Sequence[object] = ()) -> Any:
    """Reads a command line as `python -m experiments.NAME` does; the default preset is that of its last line."""
    found = re.search(
        r'^    main\(parse, PRESETS, __doc__(?:, default="(\w+)")?\)$', inspect.getsource(experiment), re.M
    )
    return parse(
        experiment.PRESETS,
        experiment.__doc__,
        experiment.__name__,
        default=found[1] or "quick",
        argv=[str(word) for word in argv],
    )


def run(config: RunConfig) -> Any:
    """Runs a configuration by its own runner."""
    return resolve(config.runner)(config)
