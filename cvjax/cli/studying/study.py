"""`cvjax study NAME` is `python -m experiments.studies.NAME`; alone it lists them, with several names it runs each."""

import sys
from collections.abc import Sequence

from cvjax.cli.shell.experiments import STUDIES, study_files
from cvjax.cli.shell.starting import check_installed, check_name, run_page, show_pages

ALL = "all"
MORE = "cvjax study NAME --help shows a study's flags; cvjax study all --help those of several."
USAGE = "cvjax study NAME [--flag value] | cvjax study NAME NAME... | cvjax study all"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one study or several, or lists them. `argv` is the process's own by default.

    A single study runs as the process's main module, as `python -m` has it.
    """
    words, files = list(sys.argv[1:] if argv is None else argv), study_files()
    check_installed(STUDIES, files)
    if not words or words[0] in ("-h", "--help"):
        show_pages("study", "studies", files, USAGE, MORE)
        return
    names = _names(words)
    for name in names or words[:1]:
        check_name("cvjax study", "a study", name, [*files, ALL])
    if len(names) == 1 and names != [ALL]:
        run_page(STUDIES, words)
        return
    from cvjax.cli.studying import several
    from cvjax.engine.command import run_command

    sys.argv[1:] = words
    run_command(several.main)


def _names(words: Sequence[str]) -> list[str]:
    """Returns the words before the first flag."""
    flags = [place for place, word in enumerate(words) if word.startswith("-")]
    return list(words[: flags[0]] if flags else words)
