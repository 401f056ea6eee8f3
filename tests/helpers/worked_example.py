"""A page of docs/adding in a copy of this tree: its files are written, its lines are added, its commands are run."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from documented import ADDING, BLOCK, ROOT

SCENES = {"train": 16, "val": 8, "test": 8}
"""Number of embedded scenes in the copy."""
_LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
_FILE, _PATCH = re.compile(r"# ((?:\w+/)+\w+\.\w+)\n"), re.compile(r"\+\+\+ (\S+)\n")


class WorkedExample:
    """Holds a page and the copy of the tree that it was applied to.

    Args:
      page: Page of docs/adding.
      place: Empty folder for the copy.
      tests: Files and folders of tests/ that the page's commands need.

    Attributes:
      tree: The copy.
      files: Paths that the page writes.
      lines: Lines that it adds to files that are there, by path.
      commands: Its commands, in order.
    """

    def __init__(self, page: str, place: pathlib.Path, tests: Sequence[str] = ()) -> None:
        self.tree = place
        text = (ADDING / page).read_text()
        # Compiled files stay valid, because times are copied.
        for folder in (
            "cvjax",
            "experiments",
            *(f"tests/{name}" for name in tests if (ROOT / "tests" / name).is_dir()),
        ):
            shutil.copytree(ROOT / folder, place / folder, symlinks=True)
        for name in ("pyproject.toml", *(f"tests/{name}" for name in tests if (ROOT / "tests" / name).is_file())):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
        render = place / "cvjax" / "datasets" / "scenes" / "render.py"
        render.write_text(re.sub(r"^SIZES = .*$", f"SIZES = {SCENES}", render.read_text(), flags=re.M))
        self.files, self.lines, self.commands = [], {}, []
        for kind, block in BLOCK.findall(text):
            if kind == "sh":
                self.commands += block.replace("\\\n", " ").splitlines()
            elif kind == "diff":
                self._add_lines(block)
            else:
                self._write(block)

    def _write(self, block: str) -> None:
        found = _FILE.match(block)
        assert found, f"the block does not say which file it is: {block[:80]!r}"
        path = self.tree / found[1]
        assert not path.exists(), f"{found[1]} is there already; the page shall add a file"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block[found.end() :])
        self.files.append(found[1])

    def _add_lines(self, block: str) -> None:
        found = _PATCH.match(block)
        assert found, f"the block does not say which file it changes: {block[:80]!r}"
        rows = block[found.end() :].splitlines()
        assert {row[:1] for row in rows} == {" ", "+"}, f"the block does more than add lines: {block}"
        before, after = [row[1:] for row in rows if row[0] == " "], [row[1:] for row in rows]
        path = self.tree / found[1]
        lines = path.read_text().splitlines()
        places = [n for n in range(len(lines)) if lines[n : n + len(before)] == before]
        assert len(places) == 1, f"{found[1]} has these neighbors {len(places)} times: {before}"
        lines[places[0] : places[0] + len(before)] = after
        path.write_text("\n".join(lines) + "\n")
        self.lines.setdefault(found[1], []).extend(row[1:] for row in rows if row[0] == "+")

    def command(self, start: str) -> str:
        """The only command that starts with these words."""
        (found,) = (command for command in self.commands if command.startswith(start))
        return found

    def check_form(self) -> None:
        """Asks ruff whether the files that the page writes have the form of all others."""
        files = [path for path in (*self.files, *self.lines) if path.endswith(".py")]
        for words in (("check", "--no-cache"), ("format", "--check", "--no-cache")):
            command = [sys.executable, "-m", "ruff", *words, *files]
            done = subprocess.run(command, cwd=self.tree, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr

    def draw_scenes(self) -> None:
        """Draws the scenes in this process, which takes less time than workers' starts."""
        from cvjax.datasets.scenes.prepare import prepare_scenes

        prepare_scenes(self.tree / "data", workers=0, progress=False, sizes=SCENES)

    def run(self, command: str, *more: object, status: int = 0, **variables: object) -> str:
        """Runs a command of the page in the copy, as a process of its own, and returns what it says.

        Args:
          command: Command, as the page has it.
          *more: Further words, which make it small.
          status: Status that it must end with.
          **variables: Variables of the environment.
        """
        assert command in self.commands
        program, *words = shlex.split(command, comments=True)
        programs = {"cvjax": ["-m", "cvjax"], "python": [], "lint-imports": ["-c", _LINT]}
        environment = os.environ | {
            "PYTHONPATH": str(self.tree),
            "CVJAX_DATA_DIR": str(self.tree / "data"),
            "JAX_NUM_CPU_DEVICES": "1",
            "COLUMNS": "200",
            **{name: str(value) for name, value in variables.items()},
        }
        done = subprocess.run(
            [sys.executable, *programs[program], *words, *map(str, more)],
            cwd=self.tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


def read_losses(metrics: pathlib.Path) -> Iterator[float]:
    """The training loss of each step that metrics.jsonl has."""
    for line in metrics.read_text().splitlines():
        row: Mapping[str, float] = json.loads(line)
        if "loss" in row:
            yield row["loss"]
