"""This module draws what a training step needs of a chip: memory, bytes by kind of operation, and least times."""

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cvjax.visual import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GRAY = "#2f6db5", "#c2703d", "#9aa0a8"


def plot_step(
    path: str | pathlib.Path,
    *,
    title: str,
    memory: Mapping[str, float],
    room: float,
    kinds: Mapping[str, float],
    seconds: Mapping[str, float],
) -> None:
    """Draws three panels of bars into a PNG file of 1440 pixels' width.

    Args:
      path: Path of the file.
      title: Title, printed above.
      memory: Bytes on a chip by what they hold.
      room: Bytes that the chip has.
      kinds: Bytes that an image moves through the memory, by kind of operation.
      seconds: Least time of a step for each resource; the longest stands out.

    Raises:
      ConfigError: The picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The object interface with its own canvas: no global state, no window system, safe in threads.
    figure = Figure(figsize=(12, 5.2), dpi=120, layout="constrained")
    drawing = FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.25, 0.9))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color="#222222")
    used = sum(memory.values())
    _bars(left, {name: size / 1e9 for name, size in memory.items() if size}, f"memory of a chip: {used / 1e9:.2f} GB")
    left.set_xlabel(f"GB, of {room / 1e9:.0f} GB", fontsize=9, color="#50555c")
    ranked = dict(sorted(kinds.items(), key=lambda item: -item[1]))
    _bars(
        middle,
        {name: size / 1e6 for name, size in ranked.items()},
        f"through memory: {sum(kinds.values()) / 1e6:.0f} MB",
    )
    middle.set_xlabel("MB an image", fontsize=9, color="#50555c")
    _bars(right, {name: 1000 * value for name, value in seconds.items()}, "a step takes at least", most=True)
    right.set_xlabel("ms, by published peaks", fontsize=9, color="#50555c")
    drawing.draw()
    canvas.save_png(path, np.asarray(drawing.buffer_rgba())[..., :3].copy())


def _bars(ax: "Axes", values: Mapping[str, float], title: str, most: bool = False) -> None:
    top = max(values.values(), default=0.0)
    colors = [_ORANGE if most and value == top else _BLUE for value in values.values()]
    places = range(len(values))
    ax.barh(places, list(values.values()), color=colors, height=0.7)
    ax.set_yticks(places, [name.replace(", ", ",\n") for name in values], fontsize=9)
    ax.invert_yaxis()
    for place, value in zip(places, values.values()):
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        ax.annotate(text, (value, place), (3, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_xlim(0, 1.2 * top or 1)
    ax.locator_params(axis="x", nbins=5)
    ax.set_title(title, loc="left", fontsize=10, color="#222222")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_GRAY)
    ax.tick_params(colors="#50555c", length=3)
    ax.tick_params(axis="y", length=0)
