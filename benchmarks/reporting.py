"""The results' files of paired measurements: the machine, Markdown tables, and JSON that grows row by row."""

import json
import math
import os
import pathlib
import platform
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from paired import Contestant, Message, processors

OLDEST_JAX = "0.10"
"""Of pyproject.toml; results' files of other versions say so in their names."""


def machine(contestants: Iterable[Contestant]) -> Message:
    """Where the figures come from: processor, threads, and what each contestant says of itself."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), None)
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": processors(),
        "contestants": {contestant.name: contestant.hello for contestant in contestants},
    }


def describe(where: Message) -> str:
    """The machine as a sentence."""
    versions: dict[str, str] = {}
    for hello in where["contestants"].values():
        versions.update(hello["versions"])
    listing = ", ".join(f"{library} {version}" for library, version in versions.items())
    device = place(where)
    on = "" if device == "cpu" else f"{device.upper()}; host: "
    return f"{on}{where['processor']}, {where['cores']} cores, {where['threads']} threads; {listing}."


def place(where: Message) -> str:
    """The name of the device in file names: "cpu", or the accelerator's, such as "h200"."""
    devices = {hello["device"] for hello in where["contestants"].values()}
    if len(devices) != 1:
        raise SystemExit(
            f"the contestants run on different devices: {', '.join(sorted(devices))}; install the accelerator's build "
            "of each, or hide it from all with CUDA_VISIBLE_DEVICES="
        )
    return devices.pop().lower().removeprefix("nvidia").strip().replace(" ", "-")


def stem_of(name: str, where: Message, threads: int | None) -> str:
    """What results' files are called, without suffix: NAME_DEVICE.

    Behind it come _threadsN where so many were asked for, and _jax0MINOR where JAX is not the oldest that cvjax runs
    on, so that figures of both stand side by side.
    """
    versions = {hello["versions"].get("jax", OLDEST_JAX) for hello in where["contestants"].values()}
    newer = sorted({version.split(".")[1] for version in versions} - {OLDEST_JAX.split(".")[1]})
    threaded = f"_threads{threads}" if threads else ""
    return f"{name}_{place(where)}{threaded}" + "".join(f"_jax0{minor}" for minor in newer)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: float | None) -> str:
    """A figure at three digits, or a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def notes(rows: Iterable[Message]) -> list[str]:
    """Who is missing from which row, and why, as items of a Markdown list."""
    return [
        f"- Without {name}: {row['case']} ({_mode_of(row)}): {reason}."
        for row in rows
        for name, reason in row["absent"].items()
    ]


def _mode_of(row: Message) -> str:
    return f"{row['mode']}, batch {row['batch']}" if "batch" in row else row["mode"]


class Report:
    """The results' files, written anew with every row, so that a run that is stopped leaves what it has.

    Rows that an earlier run measured on the same machine with the same settings stay, unless they are measured again;
    so a long run can be made in parts.

    Attributes:
      record: what goes into the JSON file: `machine`, `settings`, `rows`.
    """

    def __init__(self, stem: pathlib.Path, where: Message, settings: Message, write: Callable[[Message], str]):
        """`stem` is the files' path without suffix; `write` makes Markdown of a record."""
        self._json, self._markdown = stem.with_suffix(".json"), stem.with_suffix(".md")
        self._write = write
        self.record = {"machine": where, "settings": settings, "rows": []}
        if self._json.is_file():
            earlier = json.loads(self._json.read_text())
            if all(earlier.get(key) == json.loads(json.dumps(self.record[key])) for key in ("machine", "settings")):
                self.record = earlier

    def add(self, row: Message) -> None:
        """Adds a row, in the place of the one of the same `case`, `mode` and, where rows have it, `batch`."""
        rows = self.record["rows"]
        same = [i for i, old in enumerate(rows) if _identity(old) == _identity(row)]
        if same:
            rows[same[0]] = row
        else:
            rows.append(row)
        self._json.parent.mkdir(parents=True, exist_ok=True)
        _replace(self._json, json.dumps(self.record, indent=1) + "\n")
        _replace(self._markdown, self._write(self.record))


def _identity(row: Message) -> tuple[Any, ...]:
    return row["case"], row["mode"], row.get("batch")


def _replace(path: pathlib.Path, text: str) -> None:
    """Writes a file that is whole at any moment, the old one or the new one."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)
