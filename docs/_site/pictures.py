"""Draws docs/pictures/rooms.svg and docs/pictures/way_of_data.svg: `python docs/_site/pictures.py` writes both.

The rooms are the layers of the contract in pyproject.toml, so the picture follows what import-linter enforces, and the
tests hold the files to what this draws. A picture has a ground of its own, so it can be read on a dark page, and what
it says with shades it says with words, too.
"""

import itertools
import pathlib
import tomllib
from collections.abc import Callable
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
INK, FAINT, GROUND, LINE = "#1b2733", "#51606e", "#fbfbf8", "#5d6b78"
MONO, SANS = "Menlo, Consolas, 'DejaVu Sans Mono', monospace", "Helvetica, Arial, 'Liberation Sans', sans-serif"
WIDTH = 520
# What each room is for, in the words that fit into its box.
ROOMS = {
    "experiments": "recipes as values, studies of the field's claims",
    "cvjax.api": "the package's verbs",
    "cvjax.experiment": "what recipes are written with",
    "cvjax.cli": "commands",
    "cvjax.tasks": "classification, segmentation, detection, masks of objects",
    "cvjax.engine": "the run of any task; imports neither tasks nor models",
    "cvjax.inspection": "a look inside nets",
    "cvjax.visual": "pictures and pages",
    "cvjax.datasets": "data sets by name, folders of one's own",
    "cvjax.data": "records, decoding, order, the loader",
    "cvjax.weights": "weights from other programs, and back",
    "cvjax.models": "one file an architecture; needs jax, flax and numpy alone",
    "cvjax.nn": "layers; with ops the only room that knows platforms",
    "cvjax.ops": "pure functions of arrays",
    "cvjax.runtime": "what is asked of the compiler and the processes",
    "cvjax.storage": "paths at URLs",
    "cvjax.errors": "",
    "cvjax.files": "",
    "cvjax.imagenet": "",
    "cvjax.shapes": "",
}
SHADES = {
    "#f3d9b1": ("experiments", "cvjax.api", "cvjax.experiment", "cvjax.cli"),
    "#cfe3f1": ("cvjax.tasks", "cvjax.engine", "cvjax.inspection", "cvjax.visual"),
    "#dcebd0": ("cvjax.datasets", "cvjax.data"),
    "#ecdcec": ("cvjax.weights", "cvjax.models", "cvjax.nn", "cvjax.ops"),
}


class Station(NamedTuple):
    """A station on the way of the data.

    Attributes:
      name: What happens.
      detail: What it is then.
      file: Where it is written.
    """

    name: str
    detail: str
    file: str


HOST = (
    Station("record", "encoded bytes, as on disk", "cvjax/data/dataset.py"),
    Station("decode, crop, flip, scale", "image uint8, and its mask, boxes or label", "cvjax/data/reader.py"),
    Station("batch", "arrays [B, ...] of the examples that (seed, step) names", "cvjax/data/loader.py"),
    Station("one global jax.Array an entry", "each host puts in its rows", "cvjax/data/prefetch.py"),
)
DEVICES = (
    Station("prepare", "normalized, recolored, mixed: float32 [B, H, W, 3]", "cvjax/engine/task.py"),
    Station("model.apply", "logits, or a detector's losses", "cvjax/models"),
    Station("loss", "a sum and its weight, over all devices", "cvjax/engine/step.py"),
    Station("gradients", "summed over devices and micro-batches", "cvjax/engine/step.py"),
    Station("optax", "update of the parameters", "cvjax/engine/optim.py"),
    Station("new TrainState", "parameters, statistics, optimizer, averages", "cvjax/engine/state.py"),
)
KEPT = Station("checkpoint", "state, position in the data, configuration, scores", "cvjax/engine/checkpoint")


def layers() -> list[list[str]]:
    """The rooms from the roof down; those of one layer stand side by side."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (found for found in contracts if found["type"] == "layers")
    return [layer.split(" : ") for layer in contract["layers"]]


def rooms() -> str:
    """The picture of the rooms."""
    shade = {name: color for color, names in SHADES.items() for name in names}
    left, gap, height = 46, 6, 46
    width = WIDTH - left - 16
    parts, y = [], 40
    for layer in layers():
        each = (width - gap * (len(layer) - 1)) / len(layer)
        for place, name in enumerate(layer):
            x = left + place * (each + gap)
            parts.append(_box(x, y, each, height, shade.get(name, "#e4e4e0")))
            about = ROOMS[name]
            parts.append(_text(x + 10, y + (20 if about else 28), name, 14 if len(layer) < 3 else 11, mono=True))
            parts.append(_text(x + 10, y + 37, about, 12.5, FAINT) if about else "")
        y += height + gap
    arrow = _arrow([(24, 48), (24, y - 10)])
    title = _text(16, 26, "A room imports only from rooms below it", 15, bold=True)
    return _svg(y + 10, "The rooms of cvjax, from the roof down", [title, arrow, *parts])


def way_of_data() -> str:
    """The picture of the data's way from a file to a step."""
    height, gap, left = 52, 20, 30
    width = WIDTH - left - 60
    parts: list[str] = []
    y = 16

    def band(title: str, stations: tuple[Station, ...], color: str) -> list[float]:
        nonlocal y
        inner = len(stations) * (height + gap) - gap
        parts.append(_box(12, y, WIDTH - 24, inner + 50, color))
        parts.append(_text(24, y + 22, title, 14, bold=True))
        y += 34
        tops = []
        for station in stations:
            tops.append(y)
            parts.append(_station(station, left, y, width, height))
            y += height + gap
        y += 20 - gap + 16
        return tops

    host = band("on each host", HOST, "#dcebd0")
    y += 6
    devices = band("on the devices, one compiled step", DEVICES, "#cfe3f1")
    y += 6
    kept = band("on disk, or at a URL", (KEPT,), "#f3d9b1")
    beside_titles, tops = left + 320, [*host, *devices, *kept]
    for above, below in itertools.pairwise(tops):
        parts.append(_arrow([(beside_titles, above + height), (beside_titles, below)]))
    right, out = left + width, left + width + 18
    last, first = devices[-1] + height / 2, devices[1] + height / 2
    parts.append(_arrow([(right, last), (out, last), (out, first), (right, first)]))
    parts.append(_text(out + 16, (first + last) / 2 + 36, "next step", 12.5, FAINT, turned=True))
    return _svg(y, "The way of the data, from a file to a step and a checkpoint", parts)


def _station(station: Station, x: float, y: float, width: float, height: float) -> str:
    name = _text(x + 12, y + 21, station.name, 14, bold=True)
    file = _text(x + width - 10, y + 20, station.file, 11.5, FAINT, mono=True, end=True)
    return _box(x, y, width, height, GROUND) + name + file + _text(x + 12, y + 41, station.detail, 13)


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:.4g}" height="{height:g}"'
    return f'<rect {place} rx="5" fill="{fill}" stroke="{LINE}" stroke-width="0.8"/>\n'


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    fill: str = INK,
    *,
    bold: bool = False,
    mono: bool = False,
    end: bool = False,
    turned: bool = False,
) -> str:
    style = f'font-family="{MONO if mono else SANS}" font-size="{size:g}" fill="{fill}"'
    style += ' font-weight="bold"' * bold + ' text-anchor="end"' * end
    style += f' transform="rotate(-90 {x:g} {y:g})"' if turned else ""
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>\n'


def _arrow(points: list[tuple[float, float]]) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#head)"/>\n'


def _svg(height: float, title: str, parts: list[str]) -> str:
    tip = f'<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/>'
    size = 'markerWidth="8" markerHeight="8" refX="7" refY="4"'
    marker = f'<marker id="head" {size} orient="auto" markerUnits="userSpaceOnUse">{tip}</marker>'
    sides = f'width="{WIDTH}" height="{height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {sides} viewBox="0 0 {WIDTH} {height:g}" role="img">\n'
    ground = f'<rect {sides} rx="8" fill="{GROUND}"/>\n'
    return f"{head}<title>{escape(title)}</title>\n<defs>{marker}</defs>\n{ground}{''.join(parts)}</svg>\n"


FILES: dict[str, Callable[[], str]] = {"rooms.svg": rooms, "way_of_data.svg": way_of_data}

if __name__ == "__main__":
    for name, draw in FILES.items():
        (PICTURES / name).write_text(draw(), encoding="utf-8")
