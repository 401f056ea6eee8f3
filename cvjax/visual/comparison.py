"""This module draws several runs beside one another: their curves, and their predictions of one image."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from cvjax.visual import canvas, plots
from cvjax.visual.curves import MANY, PANELS, Series, moving_mean

# Okabe and Ito's colors, which color-blind readers tell apart; dashes tell them apart in greyscale, too.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("-", "--", "-.", ":")
_TITLE = 24
_GAP = 6


def draw_curves(runs: Mapping[str, Mapping[str, Series]]) -> np.ndarray | None:
    """Draws loss, learning rate and validation score of several runs over steps, one panel each.

    Args:
      runs: Of each run by its name, the steps and values of every metric by name, as
        `cvjax.visual.curves.read_metrics` reads them. A run without a metric has no line in its panel.

    Returns:
      Picture, uint8 [H, W, 3], or None where no run has any of these metrics.
    """
    panels = [panel for panel in PANELS if any(panel[0] in series for series in runs.values())]
    if not panels:
        return None
    figure = plots.new_figure(8, 0.9 + 2.3 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (metric, title, _, percent) in zip(axes, panels):
        for number, (name, series) in enumerate(runs.items()):
            if metric not in series:
                continue
            steps, values = series[metric]
            if metric == "loss" and len(steps) >= MANY:
                values, title = moving_mean(values, len(steps) // MANY * 2 + 1), "training loss (moving mean)"
            ax.plot(
                steps,
                100 * values if percent else values,
                color=_COLORS[number % len(_COLORS)],
                linestyle=_DASHES[number % len(_DASHES)],
                linewidth=1.6,
                marker="o" if len(steps) < MANY else "",
                markersize=3.5,
                label=name,
            )
        plots.style(ax, title)
        ax.margins(x=0.02, y=0.12)
    axes[-1].set_xlabel("step (optimizer updates)", fontsize=9, color="#50555c")
    lines, names = axes[0].get_legend_handles_labels()
    legend = figure.legend(lines, names, loc="outside upper left", frameon=False, fontsize=9, ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names of folders may hold dollar signs
    return plots.drawn_figure(figure)


def side_by_side(pictures: Sequence[np.ndarray], titles: Sequence[str], side: int = 320) -> np.ndarray:
    """Draws pictures in a row, each `side` pixels wide, below their titles.

    Args:
      pictures: uint8 [H, W, 3] each, of any sizes.
      titles: Title of each.
      side: Width of a picture in pixels.

    Returns:
      Picture, uint8 [height, width, 3].
    """
    sizes = [(max(1, round(side * picture.shape[0] / picture.shape[1])), side) for picture in pictures]
    width = len(pictures) * (side + _GAP) - _GAP
    made = Image.new("RGB", (width, _TITLE + max(height for height, _ in sizes)), canvas.PAPER)
    draw = ImageDraw.Draw(made)
    for number, (picture, title, size) in enumerate(zip(pictures, titles, sizes, strict=True)):
        left = number * (side + _GAP)
        place = (left, _TITLE // 2)
        draw.text(place, canvas.fit_text(title, side), fill=canvas.INK, font=canvas.font(), anchor="lm")
        made.paste(Image.fromarray(canvas.resize_photo(picture, size)), (left, _TITLE))
    return np.asarray(made)
