"""`cvjax study NAME` is `python -m experiments.studies.NAME`; alone it lists them, with several names it runs each."""

import runpy
import sys
from collections.abc import Sequence

from cvjax.cli.commands import COMMANDS
from cvjax.cli.shell.examples import EXAMPLES
from cvjax.cli.shell.experiments import STUDIES, experiment_sentence, study_files
from cvjax.cli.shell.names import no_such, refuse
from cvjax.cli.shell.pages import page

ALL = "all"
MORE = "cvjax study NAME --help shows a study's flags; cvjax study all --help those of several."
USAGE = "cvjax study NAME [--flag value] | cvjax study NAME NAME... | cvjax study all"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one study or several, or lists them. `argv` is the process's own by default.

    A single study runs as the process's main module, as `python -m` has it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    files = study_files()
    if not files:
        refuse(f"the package {STUDIES} is not installed beside cvjax; install both from this repository")
    if not words or words[0] in ("-h", "--help"):
        rows = {name: experiment_sentence(path) for name, path in files.items()}
        sentence = COMMANDS["study"].sentence
        print(page(USAGE, sentence, {"studies": rows}, EXAMPLES["study"]) + f"\n{MORE}\n", end="")
        return
    if words[0].startswith("-"):
        refuse(f"the name of a study comes before {words[0]}; cvjax study lists them")
    for name in _names(words):
        if name not in files and name != ALL:
            refuse(no_such("study", name, (*files, ALL), "cvjax study"))
    if words[0] != ALL and len(_names(words)) == 1:
        sys.argv[1:] = words[1:]
        runpy.run_module(f"{STUDIES}.{words[0]}", run_name="__main__", alter_sys=True)
        return
    from cvjax.cli.studying import several
    from cvjax.engine.command import run_command

    sys.argv[1:] = words
    run_command(several.main)


def _names(words: Sequence[str]) -> list[str]:
    """Returns the words before the first flag."""
    flags = [place for place, word in enumerate(words) if word.startswith("-")]
    return list(words[: flags[0]] if flags else words)
