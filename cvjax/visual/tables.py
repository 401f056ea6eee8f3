"""This module formats numbers for people, and the per-class table of a report for the terminal and Markdown."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.console
    import rich.table

# By the key of a report's score of each class: what that is called, and the scores of the whole split.
_KINDS = {
    "iou": (
        "IoU %",
        (
            ("mean IoU", "miou"),
            ("pixel accuracy", "pixel_accuracy"),
            ("mean accuracy", "mean_accuracy"),
            ("frequency-weighted IoU", "fwiou"),
            ("mean IoU of an image", "image_miou"),
            ("boundary IoU", "boundary_iou"),
            ("mean IoU of an object's mask", "mask_iou"),
            ("objects above an IoU of 0.5", "found_50"),
            ("objects above an IoU of 0.7", "found_70"),
        ),
    ),
    "accuracy": (
        "accuracy %",
        (("top-1", "top1"), ("top-5", "top5"), ("mean accuracy", "mean_accuracy"), ("calibration error", "ece")),
    ),
}
_TRIMAP = "trimap_miou_"
_BAR = 20
_MOST = 60
"""Largest number of classes that the terminal shows in full. With more classes it shows the hardest alone."""


def percent(value: float) -> str:
    """Formats a fraction as percent with two decimals, and nan as a dash: the class does not occur."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def quantity(number: float) -> str:
    """Formats a number as people say it: three digits at most, and K, M, G or T; 25557032 is 25.6 M."""
    for unit in ("", "K", "M", "G"):
        if float(f"{number:.3g}") < 1000:  # rounded first, so that 999.9 becomes 1 K
            return f"{number:.3g} {unit}".strip()
        number /= 1000
    return f"{number:.3g} T"


def report_table(report: dict[str, Any], title: str = "") -> "rich.table.Table":
    """Makes a `rich` table of the score of each class, with a bar, then the scores of the whole split.

    Args:
      report: Report that `segmentation_report` or `classification_report` returned.
      title: Name of the run or checkpoint, printed above.
    """
    import rich.box
    import rich.table
    import rich.text

    key, column, summary = _kind(report)
    scores = list(report[key].items())
    if len(scores) > _MOST:
        title = f"{title} the {_MOST} hardest of {len(scores)} classes".strip()
        scores = sorted(scores, key=lambda item: math.inf if math.isnan(item[1]) else item[1])[:_MOST]
    table = rich.table.Table(
        title=rich.text.Text(title) if title else None, box=rich.box.SIMPLE_HEAD, title_justify="left"
    )
    table.add_column("class", no_wrap=True)
    table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="green")
    for name, value in scores:
        bar = "" if math.isnan(value) else "█" * round(_BAR * value)
        # Text, not str: a class name with square brackets is no markup.
        table.add_row(rich.text.Text(str(name)), percent(value), bar)
    table.add_section()
    for label, key in summary:
        table.add_row(rich.text.Text(label, style="bold"), rich.text.Text(percent(report[key]), style="bold"), "")
    return table


def report_markdown(report: dict[str, Any]) -> str:
    """Returns the same table as GitHub Markdown, with every class in it and a newline at the end."""
    key, column, summary = _kind(report)
    rows = [(str(name), percent(value)) for name, value in report[key].items()]
    rows += [(f"**{label}**", f"**{percent(report[key])}**") for label, key in summary]
    lines = [f"| class | {column} |", "| --- | ---: |"]
    lines += ["| " + name.replace("|", "\\|") + f" | {value} |" for name, value in rows]
    return "\n".join(lines) + "\n"


def _kind(report: dict[str, Any]) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    key = next(key for key in _KINDS if key in report)
    column, summary = _KINDS[key]
    shown = [(label, name) for label, name in summary if name in report]
    shown += [
        (f"mean IoU within {name.removeprefix(_TRIMAP)} px of a border", name)
        for name in report
        if name.startswith(_TRIMAP)
    ]
    return key, column, tuple(shown)
