"""Runs several studies, each as a process of its own, and gathers what they found on one page."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from cvjax.cli.shell.experiments import STUDIES, study_files
from cvjax.cli.shell.reading import read
from cvjax.cli.shell.sources import study_task
from cvjax.data.photos import read_photo
from cvjax.engine.command import write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError
from cvjax.storage import checked_url
from cvjax.visual.page import Page

_FILE = "study.json"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Runs several studies, or all, one after the other, each as far as it is not measured yet.

    The page index.html in the work folder shows the figures of all that are there.

    Attributes:
      names: Names of studies, or all.
      workdir: Folder that takes a folder for each study.
      labels: Name of a data set with labels, or path of one's own; by default the embedded scenes.
      masks: Name of a data set with masks, or path of one's own.
      void: Labels in the masks that are ignored, beside 255; 11 in CamVid's.
      boxes: Name of a data set with boxes, or path of one's own.
      data_dir: Folder of prepared data sets.
      seeds: Number of seeds; by default each study's own.
      trial: Run each with the smallest settings that take every path, to see whether all is there.
      json: File to write the tables to; - is standard output.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME...")]
    workdir: str = "runs/studies"
    labels: str | None = None
    masks: str | None = None
    void: tuple[int, ...] = ()
    boxes: str | None = None
    data_dir: str | None = None
    seeds: int | None = None
    trial: bool = False
    json: str | None = None


def run_studies(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Runs the studies and writes the page; returns the table of each by its name.

    Raises:
      ConfigError: A work folder at a URL, or studies that failed, which are named once the others are done.
      KeyboardInterrupt: A study was stopped by a signal.
    """
    if checked_url(arguments.workdir) is not None:
        raise ConfigError(f"--workdir {arguments.workdir} is a URL, and several studies write to a disk; give a folder")
    folder, files = pathlib.Path(arguments.workdir).expanduser(), study_files()
    names = list(files) if "all" in arguments.names else list(dict.fromkeys(arguments.names))
    folder.mkdir(parents=True, exist_ok=True)
    failed, found = [], {}
    for number, name in enumerate(names, 1):
        console.print(f"{name} ({number} of {len(names)})", style="bold")
        begun = time.monotonic()
        if _run(arguments, name, study_task(name), folder / name):
            failed.append(name)
            console.print(f"{name} failed; its error stands above", soft_wrap=True)
            continue
        found[name] = _record(folder / name)["table"]
        console.print(f"{name}: {time.monotonic() - begun:.0f} s. {found[name]['verdict']}", soft_wrap=True)
    shown = {}
    for name in (name for name in files if (folder / name / "figure.png").exists()):
        try:
            shown[name] = _record(folder / name)
        except (ValueError, TypeError):
            console.print(f"{name} is not on the page: {folder / name / _FILE} holds no measurements", soft_wrap=True)
    _page(folder, shown).write(folder / "index.html")
    console.print(_table(found))
    console.print(f"written: {folder}/index.html", soft_wrap=True)
    if failed:
        raise ConfigError(f"of {len(names)} studies {', '.join(failed)} failed; mend what stands above and start again")
    return found


def _run(arguments: Arguments, name: str, task: str, place: pathlib.Path) -> int:
    """Runs a study and returns whether it failed, as its exit status."""
    data = {"classification": arguments.labels, "segmentation": arguments.masks, "detection": arguments.boxes}
    flags = {"--workdir": str(place), "--data": data.get(task), "--data-dir": arguments.data_dir}
    flags["--seeds"] = None if arguments.seeds is None else str(arguments.seeds)
    words = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
    if task == "segmentation" and arguments.void:
        words += ["--void", *map(str, arguments.void)]
    words += ["--trial"] if arguments.trial else []
    from cvjax.engine.guards.stop import status

    code = subprocess.run([sys.executable, "-m", f"{STUDIES}.{name}", *words], check=False).returncode
    if code in (status(2), status(15)):
        raise KeyboardInterrupt  # what it measured is kept
    return code


def _record(place: pathlib.Path) -> dict[str, Any]:
    """Returns what a study that ended wrote into its folder.

    Raises:
      ValueError: That is damaged, or the study did not come to its end.
    """
    record = json.loads((place / _FILE).read_text(encoding="utf-8"))
    if "table" not in record:
        raise ValueError(f"{place} has no table")
    return record


def _page(folder: pathlib.Path, records: Mapping[str, dict[str, Any]]) -> Page:
    page = Page("Studies", "The field's claims, and what was measured here.")
    for name, record in records.items():
        page.heading(name)
        page.figure(read_photo(folder / name / "figure.png"), record["table"]["verdict"])
        page.table(record["table"]["columns"], record["table"]["rows"])
        page.text(", ".join(f"{field} {value}" for field, value in record["settings"].items()))
    return page


def _table(found: dict[str, Any]) -> Table:
    table = Table("study", "what was found")
    for name, row in found.items():
        table.add_row(name, row["verdict"])
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "study")
    write_json_result(arguments.json, run_studies(arguments, make_console()))
