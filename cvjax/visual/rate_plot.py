"""This module draws the loss over a learning rate that rises, with the rate that it suggests."""

import pathlib
from collections.abc import Sequence

import numpy as np

from cvjax.visual import plots


def draw_rates(
    path: str | pathlib.Path,
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    marks: Sequence[tuple[str, float]],
) -> None:
    """Draws losses over learning rates, on a logarithmic axis, into a PNG file.

    Args:
      path: File to write.
      rates: Learning rate of each step.
      losses, smoothed: Loss of each step, and its running mean.
      marks: Names and rates to mark, the suggestion first.

    Raises:
      ConfigError: The picture cannot be written.
    """
    figure = plots.new_figure(8, 4)
    ax = figure.subplots()
    ax.plot(rates, losses, color="#2f6db5", linewidth=0.8, alpha=0.35, label="loss of each step")
    ax.plot(rates, smoothed, color="#2f6db5", linewidth=1.8, label="running mean")
    for (name, rate), color in zip(marks, ("#2e8b57", "#8a6d3b", "#9aa0a8")):
        ax.axvline(rate, color=color, linewidth=1.2, linestyle="--", label=f"{name}: {rate:.2g}")
    # A loss that has blown up would flatten all that comes before.
    low, start = float(np.min(smoothed)), float(smoothed[0])
    ax.set_ylim(low - 0.1 * abs(start - low) - 1e-9, max(start, low) + 0.5 * abs(start - low) + 1e-9)
    ax.set_xscale("log")
    ax.set_xlabel("learning rate", fontsize=9, color="#50555c")
    ax.legend(frameon=False, fontsize=9)
    plots.style(ax, "training loss over a rising learning rate")
    plots.save_figure(figure, path)
