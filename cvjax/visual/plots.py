"""This module plots a classifier's evaluation, and has the look that all plots share."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cvjax.visual import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 60
"""Largest number of classes that the confusion matrix names."""
_NUMBERED = 25
"""Largest number of classes for which the confusion matrix shows the figures too."""


def new_figure(width: float, height: float) -> "Figure":
    """Makes an empty figure of a size in inches; `save_figure` writes it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The object interface with its own canvas: no global state, no window system, safe in threads.
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def drawn_figure(figure: "Figure") -> np.ndarray:
    """Returns the pixels of a figure of `new_figure`, uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawing = figure.canvas
    assert isinstance(drawing, FigureCanvasAgg)  # of `new_figure`
    drawing.draw()
    return np.asarray(drawing.buffer_rgba())[..., :3].copy()


def save_figure(figure: "Figure", path: str | pathlib.Path) -> None:
    """Writes a figure into a PNG file.

    Raises:
      ConfigError: The place cannot be written.
    """
    canvas.save_png(path, drawn_figure(figure))


def style(ax: "Axes", title: str) -> None:
    """Gives a panel the shared look: a title on the left, faint lines, no box."""
    ax.set_title(title, loc="left", fontsize=10, color="#222222")
    ax.grid(axis="y", color="#e4e6ea", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#9aa0a8")
    ax.tick_params(colors="#50555c", labelsize=9)


def plot_confusion(confusion: np.ndarray, class_names: Sequence[str], path: str | pathlib.Path) -> None:
    """Draws a confusion matrix into a PNG file.

    A row shows how the examples of a true class spread over the predicted classes, in percent.

    Args:
      confusion: [C, C] counts; rows are the truth.
      class_names: Names of C classes; shown up to 60 of them, with figures up to 25.
      path: Path of the file.

    Raises:
      ConfigError: The picture cannot be written.
    """
    count = len(class_names)
    share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(14.0, 4.0 + 0.3 * count)
    figure = new_figure(side + 1.0, side)
    ax = figure.subplots()
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    style(ax, "confusion: percent of each true class (row) by predicted class (column)")
    ax.grid(False)
    ax.set_xlabel("predicted", fontsize=9, color="#50555c")
    ax.set_ylabel("true", fontsize=9, color="#50555c")
    if count <= _NAMED:
        ax.set_xticks(range(count), class_names, rotation=90, fontsize=8, parse_math=False)
        ax.set_yticks(range(count), class_names, fontsize=8, parse_math=False)
    if count <= _NUMBERED:
        for row, column in zip(*np.nonzero(share >= 0.5)):
            color = "white" if share[row, column] > 55 else "#222222"
            ax.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=ax, shrink=0.7).ax.tick_params(labelsize=8, colors="#50555c")
    save_figure(figure, path)


def plot_reliability(bins: Sequence[dict[str, Any]], ece: float, path: str | pathlib.Path) -> None:
    """Draws a reliability diagram into a PNG file: a net's accuracy at each confidence, and the number of examples.

    Args:
      bins: Bins with "count", "accuracy" and "confidence", as
        `cvjax.tasks.classification.calibration.calibration_report` gives them.
      ece: Expected calibration error, for the title.
      path: Path of the file.

    Raises:
      ConfigError: The picture cannot be written.
    """
    sure, right, counts = (np.array([b[key] for b in bins]) for key in ("confidence", "accuracy", "count"))
    figure = new_figure(6, 7)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style(above, f"reliability: expected calibration error {100 * ece:.2f}%")
    above.plot([0, 1], [0, 1], "--", color="#9aa0a8", linewidth=1, label="as right as sure")
    above.plot(sure, right, "o-", color="#2f6db5", linewidth=1.5, markersize=4, label="this net")
    above.vlines(sure, sure, right, color="#c8553d", linewidth=1.2, label="gap")
    above.set(xlim=(0, 1), ylim=(0, 1))
    above.set_ylabel("accuracy", fontsize=9, color="#50555c")
    above.legend(frameon=False, fontsize=8, loc="upper left", labelcolor="#50555c")
    style(below, "examples")
    below.bar(sure, counts, width=0.04, color="#2f6db5")
    below.set_xlabel("confidence (probability of the predicted class)", fontsize=9, color="#50555c")
    save_figure(figure, path)
