"""The commands that README and docs show, and what a page says that one of them needs."""

import pathlib
import re
from typing import NamedTuple

from cvjax.cli.commands import COMMANDS, GROUPS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADDING = ROOT / "docs" / "adding"
"""Folder of pages whose commands need what the page adds. They are run by tests/adding, each page in its own tree."""
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_EXPERIMENT = r"[a-z]+_(?:voc|imagenet|isbi|masks)|camvid"
_INLINE = re.compile(rf"`((?:python -m )?(?:cvjax\.cli\.\w+|cvjax(?! train)|{_EXPERIMENT}) [^`]+)`")
_PYTHON = re.compile(r"python -m (.+)")
_CVJAX = re.compile(r"^(?:\w+=\S+ )*(?:\S*/)?cvjax ([a-z].*)")


class Documented(NamedTuple):
    """A command of a page.

    Attributes:
      page: Name of the page's file.
      text: The command as a module and its arguments, without what precedes them and without its remark.
      around: What a reader sees with it: its line or table row, and what its block's paragraph says.
    """

    page: str
    text: str
    around: str


def blocks(page: pathlib.Path, language: str) -> list[str]:
    """The blocks of a page in a language."""
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def commands() -> list[Documented]:
    """Each call of ours, in the order of the pages but those of `ADDING`; blocks come before sentences."""
    found = []
    for page in PAGES:
        if page.parent == ADDING:
            continue
        text = page.read_text()
        lines = []
        for match in BLOCK.finditer(text):
            if match[1] == "sh":
                paragraph = text[: match.start()].rstrip().rpartition("\n\n")[2]
                lines += [(line, f"{paragraph}\n{line}") for line in match[2].replace("\\\n", " ").splitlines()]
        sentences = BLOCK.sub("", text).splitlines()
        for number, line in enumerate(sentences):
            calls = _INLINE.findall(line)
            calls = [call if call.startswith(("python", "cvjax ")) else f"python -m {call}" for call in calls]
            shown = [call for call in calls if "EXPERIMENT" not in call and " " in (_as_module(call) or "")]
            near = " ".join(part.strip() for part in sentences[max(0, number - 1) : number + 2])
            lines += [(call, near) for call in shown]  # the others are names
        for line, around in lines:
            for part in re.split(r"&&", re.sub(r"\s+#.*", "", line)):
                text = _as_module(part.strip().strip('"'))
                if text and not text.startswith(("venv", "pytest")):
                    found.append(Documented(page.name, text, around))
    return found


def _as_module(line: str) -> str | None:
    """Returns a command as a module and its arguments; None for a line that is none of ours, or one that only lists."""
    call = _CVJAX.search(line)
    if call is None:
        other = _PYTHON.search(line)
        return other and other[1].strip().rstrip('"')
    first, *rest = call[1].split()
    if first in GROUPS:
        first, rest = f"{first} {rest[0]}" if rest else first, rest[1:]
    if first == "train":
        return f"experiments.{' '.join(rest)}" if rest else None
    if first == "study":
        return _as_study(rest)
    if first in GROUPS or first == "completion":
        return None
    return " ".join([COMMANDS[first].module, *rest])


def _as_study(words: list[str]) -> str | None:
    """Returns a start of one study as its module, one of several as that command; None for what only lists them."""
    names = [word for word in words[:2] if not word.startswith("-")]
    if not names:
        return None
    one = len(names) == 1 and names != ["all"]
    return " ".join([f"experiments.studies.{names[0]}", *words[1:]] if one else ["cvjax.cli.studying.several", *words])
