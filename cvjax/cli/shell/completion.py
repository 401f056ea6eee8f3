"""`cvjax completion SHELL` prints what a shell needs to complete the words behind `cvjax`.

That asks `cvjax completion words -- WORD...` at each key, which answers from sources without importing them.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

from cvjax.cli.commands import COMMANDS, GROUPS, first_words, members
from cvjax.cli.shell.examples import EXAMPLES
from cvjax.cli.shell.experiments import experiment_files, study_files
from cvjax.cli.shell.names import no_such, refuse
from cvjax.cli.shell.pages import page
from cvjax.cli.shell.sources import command_flags, experiment_flags, presets, study_flags

SCRIPTS = {
    "bash": """\
_cvjax() {
    local IFS=$'\\n'
    COMPREPLY=($("${COMP_WORDS[0]}" completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _cvjax cvjax
""",
    "zsh": """\
autoload -Uz compinit && (( $+functions[compdef] )) || compinit
_cvjax() {
    local -a found
    found=(${(f)"$("${words[1]}" completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -a found; else _files; fi
}
compdef _cvjax cvjax
""",
}
"""Text for each shell; files are completed by the shell itself, where there is nothing to say."""

_OF_EXPERIMENTS = ("train", "aot", "lr", "sweep")
"""Commands that take an experiment and a preset; all but the last take the experiment's flags, too."""
_EVERYWHERE = ("--help", "--quiet", "--traceback")


def candidates(words: Sequence[str]) -> list[str]:
    """Returns what the last word may become.

    Args:
      words: Words behind `cvjax`; the last one is unfinished, or empty.
    """
    *before, last = words or ("",)
    return [word for word in _all(list(before), flag=last.startswith("-")) if word.startswith(last)]


def _all(before: list[str], *, flag: bool) -> list[str]:
    if not before:
        return ["--help", "--version"] if flag else list(first_words())
    name, rest = before[0], before[1:]
    if name in GROUPS:
        if not rest:
            return list(members(name))
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name not in COMMANDS:
        return []
    if name == "study":
        return _of_studies(rest, flag=flag)
    if flag:
        of_run = experiment_flags(rest[0]) if rest and name in _OF_EXPERIMENTS[:-1] else []
        return list(dict.fromkeys([*command_flags(COMMANDS[name].module), *of_run, *_EVERYWHERE]))
    return _arguments(name, rest)


def _of_studies(rest: list[str], *, flag: bool) -> list[str]:
    names = list(study_files())
    if not flag:
        return [] if any(word.startswith("-") for word in rest) else [*names, "all"]
    several = (len(rest) > 1 and not rest[1].startswith("-")) or rest[:1] == ["all"]
    flags = command_flags("cvjax.cli.studying.several") if several else study_flags(rest[0]) if rest else []
    return list(dict.fromkeys([*flags, *_EVERYWHERE]))


def _arguments(name: str, rest: list[str]) -> list[str]:
    """Returns what may stand at a place, or as the value of the flag before it."""
    if rest and rest[-1] == "--model.name":
        return _models()
    if rest and rest[-1].startswith("-"):
        return []
    if name in _OF_EXPERIMENTS:
        return list(experiment_files()) if not rest else presets(rest[0]) if len(rest) == 1 else []
    if name in ("inspect", "models"):
        return _models() if not rest or name == "models" else []
    return list(SCRIPTS) if name == "completion" and not rest else []


def _models() -> list[str]:
    table = pathlib.Path(__file__).with_name("models.json").read_text(encoding="utf-8")
    return [row["name"] for row in json.loads(table)]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    words = list(sys.argv[1:] if argv is None else argv)
    row = COMMANDS["completion"]
    if not words or words[0] in ("-h", "--help"):
        shells = {shell: f"Print the script for {shell}." for shell in SCRIPTS}
        print(page("cvjax completion SHELL", row.sentence, {"shells": shells}, EXAMPLES["completion"]), end="")
    elif words[0] == "words":
        print("\n".join(candidates(words[2:])))
    elif words[0] in SCRIPTS:
        print(SCRIPTS[words[0]], end="")
    else:
        refuse(no_such("shell", words[0], SCRIPTS, "cvjax completion --help"))
