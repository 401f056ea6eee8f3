"""This module plots training curves from the metrics file: loss, learning rate and validation score over steps."""

import json
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from cvjax.errors import DataError
from cvjax.storage import AnyPath, as_path
from cvjax.visual import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = tuple[np.ndarray, np.ndarray]
PANELS = (
    ("loss", "training loss", "#2f6db5", False),
    ("learning_rate", "learning rate", "#8a6d3b", False),
    ("val/miou", "validation mIoU (%)", "#2e8b57", True),
    ("val/top1", "validation top-1 accuracy (%)", "#2e8b57", True),
    ("val/map", "validation mAP at 0.5 (%)", "#2e8b57", True),
)
"""Metric, title, color, and whether fractions are shown as percent, of each panel."""
MANY = 60
"""Number of points from which a line needs no markers, and a noisy loss gets a moving average."""


def read_metrics(path: str | AnyPath) -> dict[str, Series]:
    """Reads a metrics file: one JSON object a line, each with "step" and some numbers.

    Where a run was resumed, steps go back. From there on the later lines replace what the earlier ones said about the
    same and all later steps, metric by metric. A last line that was cut off by a crash is passed over.

    Args:
      path: JSON-lines file.

    Returns:
      Steps and values of every metric by name: steps are int64 [n] and strictly rising, values are float64 [n].

    Raises:
      DataError: No such file, or a line that is not such an object.
    """
    place = as_path(path)
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the metrics file {path}: {error}; give a run's JSON-lines file") from error
    series: dict[str, list[tuple[int, float]]] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # no newline behind it: the run died, or is still writing
                continue
            raise DataError(
                f'{path}, line {number}: not a JSON object with a "step"; remove the line and plot again'
            ) from error
        for name, value in entry.items():
            if name == "step" or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            points = series.setdefault(name, [])
            while points and points[-1][0] >= step:
                points.pop()
            points.append((step, float(value)))
    return {
        name: (np.array([step for step, _ in points], np.int64), np.array([value for _, value in points]))
        for name, points in series.items()
    }


def plot_curves(jsonl_path: str | AnyPath, png_path: str | pathlib.Path) -> None:
    """Draws loss, learning rate and the validation's score over steps, one panel each, into a PNG file.

    A metric that the file lacks gets no panel. The best value of the score is marked.

    Raises:
      DataError: The file cannot be read, or has none of these metrics.
      ConfigError: The picture cannot be written.
    """
    import matplotlib.ticker

    series = read_metrics(jsonl_path)
    panels = [panel for panel in PANELS if panel[0] in series]
    if not panels:
        wanted = ", ".join(panel[0] for panel in PANELS)
        raise DataError(f"{jsonl_path} has none of {wanted}; train for some steps first")
    figure = plots.new_figure(8, 0.6 + 2.3 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (name, title, color, percent) in zip(axes, panels):
        steps, values = series[name]
        if percent:
            values = values * 100
        elif name == "learning_rate":
            values, title = _without_exponent(values, title)
        _draw_line(ax, steps, values, color, smooth=name == "loss")
        plots.style(ax, title)
        ax.margins(x=0.02, y=0.12)
        if name == "learning_rate":
            ax.set_ylim(bottom=0)
    name, _, color, percent = panels[-1]
    if percent:
        _mark_best(axes[-1], *series[name], color)
    axes[-1].set_xlabel("step (optimizer updates)", fontsize=9, color="#50555c")
    axes[-1].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=8))
    axes[-1].xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda step, _: f"{step:,.0f}"))
    plots.save_figure(figure, png_path)


def _draw_line(ax: "Axes", steps: np.ndarray, values: np.ndarray, color: str, *, smooth: bool) -> None:
    if not smooth or len(steps) < MANY:
        marker = {"marker": "o", "markersize": 3.5} if len(steps) < MANY else {}
        ax.plot(steps, values, color=color, linewidth=1.5, **marker)
        return
    ax.plot(steps, values, color=color, linewidth=0.8, alpha=0.3, label="each logged step")
    window = len(steps) // MANY * 2 + 1
    ax.plot(steps, moving_mean(values, window), color=color, linewidth=1.7, label=f"mean of {window}")
    ax.legend(frameon=False, fontsize=8, loc="upper right", labelcolor="#50555c")


def _mark_best(ax: "Axes", steps: np.ndarray, values: np.ndarray, color: str) -> None:
    if np.isnan(values).all():
        return
    best = int(np.nanargmax(values))
    place = (steps[best], 100 * values[best])
    # The limits are those of all panels together; the text goes to the side that has the room.
    late = steps[best] > sum(ax.get_xlim()) / 2
    ax.plot(*place, "o", color=color, markersize=6)
    ax.annotate(
        f"best {place[1]:.2f} at step {place[0]:,}",
        place,
        xytext=(-8 if late else 8, -12),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        fontsize=8,
        color="#222222",
    )


def _without_exponent(values: np.ndarray, title: str) -> tuple[np.ndarray, str]:
    """Scales small values to 1..10, and says the power of ten in the title. It leaves larger values as they are."""
    top = np.nanmax(np.abs(values), initial=0)
    if not 0 < top < 0.1:
        return values, title
    exponent = int(np.floor(np.log10(top)))
    return values / 10.0**exponent, f"{title} (units of $10^{{{exponent}}}$)"


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the centered mean of up to `window` neighbors, fewer at the ends, without values that are not finite."""
    finite = np.isfinite(values)
    ones = np.ones(window)
    total = np.convolve(np.where(finite, values, 0), ones, mode="same")
    count = np.convolve(finite.astype(float), ones, mode="same")
    return np.divide(total, count, out=np.full(len(values), np.nan), where=(count > 0) & finite)
