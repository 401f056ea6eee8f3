"""`cvjax train NAME [PRESET]` is `python -m experiments.NAME [PRESET]`; alone it lists the experiments."""

import sys
from collections.abc import Sequence

from cvjax.cli.shell.experiments import PACKAGE, experiment_files
from cvjax.cli.shell.starting import check_installed, check_name, run_page, show_pages

MORE = "cvjax train EXPERIMENT --help shows its presets and flags."
USAGE = "cvjax train EXPERIMENT [PRESET] [--field value] [--group.field value]"


def main(argv: Sequence[str] | None = None) -> None:
    """Trains an experiment. `argv` is the process's own by default.

    The experiment runs as the process's main module, as `python -m` has it: its worker processes look for it there.
    """
    words, files = list(sys.argv[1:] if argv is None else argv), experiment_files()
    check_installed(PACKAGE, files)
    if not words or words[0] in ("-h", "--help"):
        show_pages("train", "experiments", files, USAGE, MORE)
        return
    check_name("cvjax train", "an experiment", words[0], list(files))
    run_page(PACKAGE, words)
