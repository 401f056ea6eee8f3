"""This module reads a command's arguments with tyro, in the one style of help and refusals that all commands have."""

import ast
import contextlib
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from cvjax.cli.shell.examples import EXAMPLES
from cvjax.cli.shell.names import nearest
from cvjax.cli.shell.pages import WIDEST, examples_of
from cvjax.errors import ConfigError

T = TypeVar("T")

EVERYWHERE = (
    "every command also takes:\n"
    "  --quiet      Print errors and the result alone.\n"
    "  --traceback  Print where an error comes from.\n"
)
_UNBROKEN = 20_000
"""Width in letters of what tyro refuses, which is read and not shown."""
_TITLES = {"positional arguments": "arguments", "subcommands": "commands"}


class _Page(io.StringIO):
    """Holds what tyro prints; it draws boxes with letters where it does not know the encoding."""

    encoding = "utf-8"


class _Refused(Exception):
    """Carries the sentence with which tyro's parse error is refused."""


def read(
    kind: type[T],
    argv: Sequence[str] | None,
    command: str,
    *,
    default: Any = tyro.MISSING_NONPROP,
    description: str | None = None,
) -> T:
    """Reads arguments into a dataclass; `--help` prints its page and ends the process.

    Args:
      kind: Dataclass of the arguments.
      argv: Words of the command line, those of the process by default.
      command: Name of the command, as it stands behind `cvjax`.
      default: Value that holds the defaults, where the class has others.
      description: Sentences about the command; those of the class by default.

    Raises:
      ConfigError: A flag that does not exist, a value that is none, or an argument that is missing.
    """
    return _read(kind, argv, command, default=default, description=description)


def read_known(kind: type[T], argv: Sequence[str] | None, command: str) -> tuple[T, list[str]]:
    """Reads arguments as `read` does, and returns also the words that are none of them."""
    return _read(kind, argv, command, return_unknown_args=True)


def _read(kind: Any, argv: Sequence[str] | None, command: str, **options: Any) -> Any:
    prog = f"cvjax {command}"
    refused, shown = _Page(), _Page()
    try:
        with _laid_out(argv), _hooked(), contextlib.redirect_stderr(refused), contextlib.redirect_stdout(shown):
            return tyro.cli(kind, args=argv, prog=prog, **options)
    except _Refused as error:
        sentence = str(error)
    except SystemExit as ended:
        if not ended.code:
            name = re.sub(r" \[.*|^(train) .*", r"\1", command)
            print(_plain(shown.getvalue()) + "\n" + EVERYWHERE + examples_of(EXAMPLES.get(name, ())), end="")
            raise
        sentence = _sentence(refused.getvalue(), lambda: _flags(kind, prog, options))
    way = f"cvjax {re.sub(r' .PRESET.$', '', command)} --help"
    sentence = sentence.rstrip(". ")
    raise ConfigError(f"{sentence}{' ' if sentence.endswith('?') else '; '}{way} lists what there is")


@contextlib.contextmanager
def _laid_out(argv: Sequence[str] | None) -> Iterator[None]:
    """Has tyro lay out the boxes of its help below one another, and break no word of what it refuses."""
    before, helps = os.environ.get("COLUMNS"), {"-h", "--help"} & set(sys.argv[1:] if argv is None else argv)
    # On a wide terminal boxes stand side by side, and a narrow one cuts paths into pieces.
    os.environ["COLUMNS"] = str(min(WIDEST, shutil.get_terminal_size().columns) if helps else _UNBROKEN)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _hooked() -> contextlib.AbstractContextManager[None]:
    """Returns the context in which tyro hands over what it refuses; of a tyro without such a hook the box is read."""
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        return contextlib.nullcontext()
    return on_parse_error(_on_refusal)


def _on_refusal(event: Any) -> None:
    """Says in a sentence what tyro is about to say in a box; what is not known here keeps the box."""
    kind = type(event).__name__
    if kind == "MissingArgs" and not event.unrecognized_tokens:
        _refuse(f"{_listed([_name(context.arg) for context in event.missing_arguments])} must be given")
    elif kind == "InvalidChoice":
        choices = [choice for choice in event.choices if choice != "None"]
        near = nearest(event.value, choices)
        meant = f"did you mean {near}? it" if near else "it"
        _refuse(f"{_name(event.argument)} cannot be {event.value!r}; {meant} is one of {', '.join(choices)}")
    elif kind == "BadValue" and event.reason == "too_few_values":
        count = event.argument.lowered.nargs
        _refuse(f"{_name(event.argument)} needs {'a value' if count == 1 else f'{count} values'} behind it")
    elif kind == "InstantiationFailure" and event.argument is not None:
        given = re.search(r"(?:from|arguments) (\[.*?\])", event.message)
        name, takes = _name(event.argument), str(event.argument.lowered.metavar).replace("{None}|", "").strip("{}")
        if given and takes:
            _refuse(f"{name} takes {takes}, not {' '.join(ast.literal_eval(given[1]))}")
        _refuse(f"{name}: {_joined(event.message)}")


def _refuse(sentence: str) -> NoReturn:
    raise _Refused(sentence)


def _name(argument: Any) -> str:
    """Returns what a person types for an argument: its flag, or its place's name."""
    if not argument.is_positional():
        return max(argument.lowered.name_or_flags, key=len)
    metavar = str(argument.lowered.metavar)
    return argument.field.intern_name.upper() if metavar.startswith("{") else metavar


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _joined(text: str) -> str:
    return " ".join(text.split())


def _sentence(box: str, flags: Any) -> str:
    """Makes a sentence of a box of tyro's: what was not recognized with the nearest flag, or the box's first part."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines() if not line.startswith("╰")]
    text = _joined(" ".join(lines[1:]).split("────")[0])
    unknown = re.search(r"Unrecognized options: (.*)$", text)
    if not unknown:
        return text or "the arguments cannot be read"
    words = [word for word in re.split(r",? ", unknown[1]) if word]
    wrong = next((word for word in words if word.startswith("-")), words[0])
    if not wrong.startswith("-"):
        return f"{wrong!r} is one word too many"
    near = nearest(wrong.partition("=")[0], flags())
    return f"there is no flag {wrong}" + (f"; did you mean {near}?" if near else "")


def _flags(kind: Any, prog: str, options: dict[str, Any]) -> list[str]:
    """Returns the flags that the page of help lists."""
    page = _Page()
    with _laid_out(["--help"]), contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], prog=prog, **options)
    return flags_of(page.getvalue())


def flags_of(page: str) -> list[str]:
    """Returns the flags in a page of help, tyro's or ours, each once."""
    lines = re.findall(r"^[│ ] ?((?:-\w, )?--.*)$", page, re.MULTILINE)
    return list(dict.fromkeys(flag for line in lines for flag in re.findall(r"(?:^|, )(--[\w.-]+)", line)))


def _plain(page: str) -> str:
    """Returns a page of help without boxes, and without the type and default that say only that nothing is given."""
    lines = []
    for line in page.splitlines():
        title = re.match(r"╭─ (.*?) ─*╮", line)
        if title:
            lines.append(f"{_TITLES.get(title[1], title[1])}:")
        elif line.startswith("╰"):
            lines.append("")
        elif line.startswith("│"):
            inner = line.strip("│").strip(" ") if "────" in line else line.strip("│").rstrip()
            if "────" not in inner:
                lines.append(" " + inner)
        else:
            lines.append(line)
    width = min(WIDEST, shutil.get_terminal_size().columns)
    lines = [part for line in lines for part in ((line[:1].strip() and textwrap.wrap(line, width)) or [line])]
    text = "\n".join(lines).rstrip() + "\n"
    text = re.sub(r"\{None\}\|(.*?)(?=  |$)", r"\1       ", text, flags=re.MULTILINE)  # in its column
    text = re.sub(r"[^\S\n]+$", "", text, flags=re.MULTILINE)
    text = text.replace("[-h] ", "").replace("[OPTIONS]", "[--flag value]")
    return re.sub(r"\s+\(default:\s+None\)", "", text)
