"""The commands that README and docs show, and what a page says that one of them needs."""

import pathlib
import re
from typing import NamedTuple

from cvjax.cli.commands import COMMANDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`((?:python -m )?(?:cvjax\.cli\.\w+|[a-z]+_(?:voc|imagenet|isbi|masks)|camvid) [^`]+)`")


class Documented(NamedTuple):
    """A command of a page.

    Attributes:
      page: Name of the page's file.
      text: The command, without what precedes `-m` and without its remark.
      around: What a reader sees with it: its line or table row, and what its block's paragraph says.
    """

    page: str
    text: str
    around: str


def blocks(page: pathlib.Path, language: str) -> list[str]:
    """The blocks of a page in a language."""
    return [text for kind, text in _BLOCK.findall(page.read_text()) if kind == language]


def module_call(words: str) -> str:
    """A call of `cvjax` as one of the command's module."""
    name = next(name for name in sorted(COMMANDS, key=len, reverse=True) if f"{words} ".startswith(f"{name} "))
    rest = words.removeprefix(name).strip()
    return f"experiments.{rest}" if name == "train" else f"{COMMANDS[name].module} {rest}".strip()


def commands() -> list[Documented]:
    """Each call of ours, in the order of the pages; those in blocks come before those in sentences."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = []
        for match in _BLOCK.finditer(text):
            if match[1] == "sh":
                paragraph = text[: match.start()].rstrip().rpartition("\n\n")[2]
                lines += [(line, f"{paragraph}\n{line}") for line in match[2].replace("\\\n", " ").splitlines()]
        for line in _BLOCK.sub("", text).splitlines():
            lines += [("python -m " + re.sub(r"^python -m ", "", call), line) for call in _INLINE.findall(line)]
        for line, around in lines:
            for part in re.split(r"&&", re.sub(r"\s+#.*", "", line)):
                part = re.sub(r"^cvjax (.+)", lambda match: f"python -m {module_call(match[1])}", part.strip())
                call = re.search(r"python -m (.+)", part.strip('"'))
                if call and not call[1].startswith(("venv", "pytest")):
                    found.append(Documented(page.name, call[1].strip().rstrip('"'), around))
    return found
