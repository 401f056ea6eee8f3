"""The page docs/lessons.md, which follows from the studies and from the records of their runs in docs/lessons."""

import importlib
import json
import pathlib
import pkgutil
from typing import Any

from cvjax.engine.config import as_json
from experiments import studies
from experiments.studies._study import Finding, Study

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "lessons.md"
RECORDS = PAGE.with_suffix("")
NAMES = [module.name for module in pkgutil.iter_modules(studies.__path__) if module.name[0] != "_"]
# In the order in which one would teach them.
CHAPTERS = {
    "What nets are made of": "parameters kernels bottleneck separable flattening any_size",
    "Deeper": "activations auxiliary depth paths merge attention scaling lineage",
    "Every pixel": "upsampling odd_sizes skips resolution pyramid crf deformable",
    "Objects": "proposals",
}
HEAD = """# Lessons

The lineage of convolutional nets is a chain of claims. Each is a study here that runs within minutes on a laptop: nets
are small, budgets are the same for all that is compared, and error bars are the standard deviation over seeds. Where a
claim does not show at this scale, its page says so; that is no word against the paper's own scale.

`cvjax study` lists the studies, `cvjax study all` runs them all, and one that was stopped goes on where it was. Each
figure below follows from the record beside it, in the folder `docs/lessons`, which a run of the study wrote on 2 cores.
"""


def study(name: str) -> Study:
    """The study of a name."""
    return importlib.import_module(f"experiments.studies.{name}").STUDY


def record(name: str) -> dict[str, Any]:
    """What the run of a study wrote."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def started(name: str) -> str:
    """The command that measured a record: the study with the settings that are not its own."""
    about, ran = study(name), record(name)["settings"]
    usual = as_json(about.settings)
    changed = {field: value for field, value in ran.items() if field != "data" and usual[field] != value}
    if about.task != "none" and ran["data"] != "scenes":
        changed = {"data": "FOLDER"} | changed
    flags = [f"--{field.replace('_', '-')} {_words(value)}" for field, value in changed.items()]
    return " ".join(["cvjax study", name, *flags])


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def section(name: str) -> str:
    """The part of the page about a study."""
    about, found = study(name), record(name)
    finding = Finding(**found["table"])
    minutes = sum(cell["seconds"] for cell in found["cells"].values()) / 60
    data = found["settings"]["data"]
    took = f"{minutes:.1f} minutes" if minutes >= 1 else f"{60 * minutes:.0f} seconds"
    plain = about.task == "none" or data == "scenes"
    command = f"`{started(name)}`" + ("" if plain else f", with {data} in the folder")
    lines = [
        f"### {about.claim}",
        f"![{about.claim}](lessons/{name}.png)",
        f"The paper: {about.paper} Here: {finding.verdict} {about.meaning}",
        f"{command}: {took}.",
        f"<details><summary>Table</summary>\n\n{finding.markdown().partition(chr(10) * 2)[0]}\n\n</details>",
    ]
    return "\n\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, names in CHAPTERS.items():
        parts += [f"## {title}\n", *map(section, names.split())]
    return "\n".join(parts)
