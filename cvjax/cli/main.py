"""`cvjax NAME ...` runs the command NAME of `cvjax.cli.commands`; nothing of another command is imported for it."""

import importlib
import itertools
import sys
from collections.abc import Sequence

from cvjax.cli.commands import COMMANDS, GROUPS, first_words, members
from cvjax.cli.shell.names import no_such, refuse
from cvjax.cli.shell.pages import page

_HELP = ("-h", "--help")
_BY_THEMSELVES = ("train", "study", "completion")
"""Commands that need no `run_command`: an experiment or study calls it itself, and completion must answer at once."""
_EVERYWHERE = ("--quiet", "--traceback")
_EXAMPLES = (
    "cvjax train deeplab_voc quick",
    "cvjax evaluate runs/deeplab_voc/quick",
    "cvjax predict runs/deeplab_voc/quick a.jpg",
)


def overview() -> str:
    """Returns the help of `cvjax`: all commands with a sentence each."""
    rows = {word: GROUPS[word] if word in GROUPS else COMMANDS[word].sentence for word in first_words()}
    flags = {"--help": "Show this, or with a command its own help.", "--version": "Show the version."}
    usage = "cvjax COMMAND ..."
    return page(usage, "Classic convolutional vision in JAX.", {"commands": rows, "options": flags}, _EXAMPLES)


def group_page(group: str) -> str:
    """Returns the help of a group of commands."""
    rows = {name: row.sentence for name, row in members(group).items()}
    example = f"cvjax {group} {next(iter(rows))} --help"
    return page(f"cvjax {group} COMMAND ...", GROUPS[group], {"commands": rows}, (example,))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    words = list(sys.argv[1:] if argv is None else argv)
    leading = list(itertools.takewhile(lambda word: word in _EVERYWHERE, words))
    words = [*words[len(leading) :], *leading]  # commands take them behind their names
    if not words or words[0] in (*_HELP, *_EVERYWHERE):
        print(overview(), end="")
    elif words[0] == "--version":
        from importlib.metadata import version

        print(f"cvjax {version('cvjax')}")
    else:
        _run(words)


def _run(words: list[str]) -> None:
    name, rest = words[0], words[1:]
    if name in GROUPS:
        if not rest or rest[0] in _HELP:
            print(group_page(name), end="")
            return
        if rest[0] not in members(name):
            refuse(no_such("command", rest[0], members(name), f"cvjax {name} --help"))
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name not in COMMANDS:
        # Whoever leaves the group out means its command.
        known = {word.split(" ")[-1]: word for word in (*first_words(), *COMMANDS)}
        refuse(no_such("command", name, known.values() if name not in known else [known[name]], "cvjax --help"))
    if name in _BY_THEMSELVES:
        importlib.import_module(COMMANDS[name].module).main(rest)
        return
    from cvjax.engine.command import run_command

    sys.argv[1:] = rest
    run_command(lambda: importlib.import_module(COMMANDS[name].module).main())
