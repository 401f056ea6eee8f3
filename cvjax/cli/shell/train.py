"""`cvjax train NAME [PRESET]` is `python -m experiments.NAME [PRESET]`; alone it lists the experiments."""

import runpy
import sys
from collections.abc import Sequence

from cvjax.cli.commands import COMMANDS
from cvjax.cli.shell.examples import EXAMPLES
from cvjax.cli.shell.experiments import PACKAGE, experiment_files, experiment_sentence
from cvjax.cli.shell.names import no_such, refuse
from cvjax.cli.shell.pages import page

MORE = "cvjax train EXPERIMENT --help shows its presets and flags."
USAGE = "cvjax train EXPERIMENT [PRESET] [--field value] [--group.field value]"


def main(argv: Sequence[str] | None = None) -> None:
    """Trains an experiment. `argv` is the process's own by default.

    The experiment runs as the process's main module, as `python -m` has it: its worker processes look for it there.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    files = experiment_files()
    if not files:
        refuse(f"the package {PACKAGE} is not installed beside cvjax; install both from this repository")
    if not words or words[0] in ("-h", "--help"):
        rows = {name: experiment_sentence(path) for name, path in files.items()}
        row = COMMANDS["train"]
        print(page(USAGE, row.sentence, {"experiments": rows}, EXAMPLES["train"]) + f"\n{MORE}\n", end="")
        return
    name = words[0]
    if name.startswith("-"):
        refuse(f"the name of an experiment comes before {name}; cvjax train lists them")
    if name not in files:
        refuse(no_such("experiment", name, files, "cvjax train"))
    sys.argv[1:] = words[1:]
    runpy.run_module(f"{PACKAGE}.{name}", run_name="__main__", alter_sys=True)
