"""This module plots precision over recall of a detector's classes."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cvjax.visual import plots

_NAMED = 20
"""Largest number of classes that each have a color and a place in the legend; with more, only the mean has them."""
_STYLES = ("-", "--")


def plot_precision_recall(precision: np.ndarray, ap: Mapping[str, float], path: str | pathlib.Path) -> None:
    """Draws precision over recall into a PNG file: a line a class, best first in the legend, and their mean.

    Args:
      precision: [C, R], best precision at recalls of at least 0 ... 1, evenly spaced; nan for classes without objects,
        which are left out. `DetectionScores` reports it.
      ap: Average precision by class name, for C classes.
      path: Path of the file.

    Raises:
      ValueError: The number of rows is not the number of classes.
      ConfigError: The picture cannot be written.
    """
    if len(precision) != len(ap):
        raise ValueError(f"{len(ap)} classes need as many rows of precision, not {len(precision)}")
    shown = sorted(((value, name, row) for (name, value), row in zip(ap.items(), precision) if not np.isnan(value)))[
        ::-1
    ]
    named = len(shown) <= _NAMED
    figure = plots.new_figure(8.4 if named else 6.4, 5.6)
    ax = figure.subplots()
    mean = f"mean of {len(shown)} classes" if len(shown) != 1 else "one class"
    plots.style(ax, f"precision over recall, {mean}" if shown else "precision over recall: no objects to be found")
    recall = np.linspace(0, 1, precision.shape[1])
    colors = _colors()
    for number, (value, name, row) in enumerate(shown):
        look = {"color": "#9aa0a8", "linewidth": 0.6, "alpha": 0.6}
        if named:
            style = _STYLES[number // len(colors) % len(_STYLES)]
            look = {"color": colors[number % len(colors)], "linewidth": 1.4, "linestyle": style}
            look["label"] = f"{100 * value:5.1f}  {name}"
        ax.plot(recall, _until_nought(row), **look)
    if len(shown) > 1:
        value = float(np.mean([value for value, _, _ in shown]))
        rows = np.mean([row for _, _, row in shown], axis=0)
        ax.plot(recall, _until_nought(rows), color="#16181c", linewidth=2.4, label=f"{100 * value:5.1f}  mean")
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.set_xlabel("recall", fontsize=9, color="#50555c")
    ax.set_ylabel("best precision from there on", fontsize=9, color="#50555c")
    if shown:
        legend = ax.legend(
            *_last_first(ax.get_legend_handles_labels(), len(shown) > 1),
            title="average precision %",
            title_fontsize=8,
            frameon=False,
            fontsize=8,
            labelcolor="#50555c",
            loc="center left" if named else "upper right",
            bbox_to_anchor=(1.01, 0.5) if named else None,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a dollar in the name of a class is a dollar
    plots.save_figure(figure, path)


def _until_nought(row: np.ndarray) -> np.ndarray:
    """Ends a line where it reaches the axis, because there is no precision beyond the last recall that is reached."""
    return np.where(np.append(False, row[:-1] == 0), np.nan, row)


def _last_first(entries: tuple[list, list], move: bool) -> tuple[list, list]:
    """Moves the last entry to the head of the legend: the mean, which is drawn last so that it lies on top."""
    handles, labels = ([part[-1], *part[:-1]] if move else part for part in entries)
    return handles, labels


def _colors() -> list:
    import matplotlib
    from matplotlib.colors import ListedColormap

    ten = matplotlib.colormaps["tab10"]
    assert isinstance(ten, ListedColormap)
    return list(cast(Sequence[Any], ten.colors))
