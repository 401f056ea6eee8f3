"""This module draws bars along the depth of a model: the activations and the parameters of its layers."""

import pathlib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cvjax.visual import canvas
from cvjax.visual.tables import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACTIVATIONS, _PARAMS = "#2f6db5", "#c2703d"
_BAND = "#f2f4f7"
_FEW = 24
"""Largest number of layers that each have their name below. With more layers, groups of them have names."""
_WIDTH, _LINE = 1360, 17
"""About the width of a panel, and the distance from one slanted name to the next, in pixels."""


def plot_layers(
    path: str | pathlib.Path, names: Sequence[str], params: Sequence[int], activations: Sequence[int], title: str = ""
) -> None:
    """Draws activations and parameters of every layer, one panel each, into a PNG file of 1440 pixels' width.

    Layers whose names begin alike ("stage1_0/conv1", "stage1_1/conv2") stand on a band of their own.

    Args:
      path: Path of the file.
      names: Names of the layers in their order, parts separated by slashes.
      params: Number of parameters of each layer.
      activations: Number of values that each layer puts out.
      title: Title, printed above.

    Raises:
      ConfigError: The picture cannot be written.
    """
    import matplotlib.ticker
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The object interface with its own canvas: no global state, no window system, safe in threads.
    figure = Figure(figsize=(12, 5.6), dpi=120, layout="constrained")
    drawing = FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color="#222222")
    places = np.arange(len(names))
    bands = _bands(names)
    for ax, values, text, color in (
        (upper, activations, "activations", _ACTIVATIONS),
        (lower, params, "parameters", _PARAMS),
    ):
        ax.bar(places, values, width=0.9 if len(names) <= 100 else 1.0, color=color, linewidth=0)
        for first, last, _ in bands[::2]:
            ax.axvspan(first - 0.5, last + 0.5, color=_BAND, linewidth=0, zorder=0)
        ax.set_title(text, loc="left", fontsize=10, color="#222222")
        ax.grid(axis="y", color="#dfe2e7", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color("#9aa0a8")
        ax.tick_params(colors="#50555c", labelsize=9, length=3)
        ax.tick_params(axis="x", length=0)
        ax.set_xlim(-0.5, max(1, len(names)) - 0.5)
        ax.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: quantity(value)))
    if len(names) <= _FEW:
        _label(lower, range(len(names)), names, 1)
    else:
        middles = [(first + last) / 2 for first, last, _ in bands]
        _label(lower, middles, [name for *_, name in bands], min(last - first + 1 for first, last, _ in bands))
    drawing.draw()
    canvas.save_png(path, np.asarray(drawing.buffer_rgba())[..., :3].copy())


def _label(ax: "Axes", places: Sequence[float], names: Sequence[str], narrowest: float) -> None:
    """Writes names below an axis of bars: level where the narrowest place (in bars) has the room, slanted elsewhere."""
    bar = _WIDTH / ax.get_xlim()[1]
    if max((canvas.text_width(name, 15) for name in names), default=0) < narrowest * bar:
        ax.set_xticks(places, names, fontsize=9)
        return
    kept = slice(None, None, -(-len(names) * _LINE // _WIDTH) or 1)
    ax.set_xticks(
        _apart(places[kept], _LINE / bar), names[kept], fontsize=9, rotation=40, ha="right", rotation_mode="anchor"
    )


def _apart(places: Sequence[float], distance: float) -> np.ndarray:
    """Moves rising places to the left just far enough that they keep a distance."""
    moved = np.array(places, float)
    for i in range(len(moved) - 2, -1, -1):
        moved[i] = min(moved[i], moved[i + 1] - distance)
    return moved


def _bands(names: Sequence[str]) -> list[tuple[int, int, str]]:
    """Returns (first, last, name) of neighboring layers whose names begin alike, apart from the number of a block.

    A first part that most of the layers share, such as a backbone, tells little. There the next part of the name
    counts.
    """
    depth = dict.fromkeys(names, 1)
    for _ in range(max((name.count("/") for name in names), default=0)):
        groups = defaultdict(list)
        for name in names:
            groups[_group(name, depth[name])].append(name)
        largest = max(groups.values(), key=len)
        deeper = sum(name.count("/") > depth[name] for name in largest)
        if len(largest) > 0.6 * len(names) and deeper > 0.5 * len(largest):
            depth |= {name: depth[name] + 1 for name in largest}
    bands: list[tuple[int, int, str]] = []
    for i, name in enumerate(names):
        group = _group(name, depth[name])
        if bands and bands[-1][2] == group:
            bands[-1] = (bands[-1][0], i, group)
        else:
            bands.append((i, i, group))
    return bands


def _group(name: str, depth: int) -> str:
    """Returns the first parts of a name, without a numbered word after the last underscore, such as 3 or layer12."""
    return re.sub(r"_[a-z]*\d+$", "", "/".join(name.split("/")[:depth]))
