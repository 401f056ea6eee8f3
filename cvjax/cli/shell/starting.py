"""This module starts the pages of a package, experiments or studies, by their names, as `python -m` does."""

import pathlib
import runpy
import sys
from collections.abc import Mapping, Sequence

from cvjax.cli.commands import COMMANDS
from cvjax.cli.shell.examples import EXAMPLES
from cvjax.cli.shell.experiments import experiment_sentence
from cvjax.cli.shell.names import no_such, refuse
from cvjax.cli.shell.pages import page


def show_pages(command: str, title: str, files: Mapping[str, pathlib.Path], usage: str, more: str) -> None:
    """Prints the help of a command that starts pages: each with the first line of its docstring.

    Args:
      command: Name of the command.
      title: What the pages are, in the plural.
      files: File of each page by its name.
      usage: Usage of the command.
      more: Last line.
    """
    rows = {name: experiment_sentence(path) for name, path in files.items()}
    print(page(usage, COMMANDS[command].sentence, {title: rows}, EXAMPLES[command]) + f"\n{more}\n", end="")


def check_installed(package: str, files: Mapping[str, pathlib.Path]) -> None:
    """Refuses a command of which no page is installed."""
    if not files:
        refuse(f"the package {package} is not installed beside cvjax; install both from this repository")


def check_name(command: str, what: str, name: str, names: Sequence[str]) -> None:
    """Refuses a word that names none of the pages.

    Args:
      command: Command that lists them.
      what: What they are, with an article: "a study".
      name: Word in the place of a name.
      names: Names that exist.
    """
    if name.startswith("-"):
        refuse(f"the name of {what} comes before {name}; {command} lists them")
    if name not in names:
        refuse(no_such(what.partition(" ")[2], name, names, command))


def run_page(package: str, words: Sequence[str]) -> None:
    """Runs the page that the first word names as the process's main module, with the other words as its arguments."""
    sys.argv[1:] = words[1:]
    runpy.run_module(f"{package}.{words[0]}", run_name="__main__", alter_sys=True)
