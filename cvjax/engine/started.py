"""This module starts an experiment as a command; what runs is imported once the command line is read."""

import sys
from collections.abc import Callable, Mapping

from cvjax.engine.command import run_command, take_flag, write_json_result
from cvjax.engine.config import RunConfig, resolve
from cvjax.engine.guards.stop import status
from cvjax.errors import ConfigError

Parse = Callable[..., RunConfig]


def main(parse: Parse, presets: Mapping[str, RunConfig], docstring: str | None, default: str = "quick") -> None:
    """Runs an experiment: reads its command line, and trains as the configuration says.

    Args:
      parse: Function that reads the command line, `cvjax.cli.commandline.parse`.
      presets: Complete configurations by name, among them `quick`.
      docstring: Docstring of the experiment; None where Python leaves docstrings out.
      default: Preset of a command without arguments, where its dataset is at hand.
    """

    def start() -> None:
        # The module that was started with -m, whose own name is __main__.
        spec = sys.modules["__main__"].__spec__
        if spec is None:
            raise ConfigError("an experiment is started by its name: cvjax train NAME")
        sys.argv[1:], place = take_flag(sys.argv[1:], "--json")
        config = parse(presets, docstring, spec.name, default=default)
        # Late: --help and a command that is refused need neither the loop nor what it reads and writes with.
        import jax

        from cvjax.engine.run import result_of

        outcome = resolve(config.runner)(config)
        if jax.process_index() == 0:
            write_json_result(place, result_of(config, outcome))
        if outcome.signal is not None:
            sys.exit(status(outcome.signal))

    run_command(start)
