"""Numbers as people read them, and the per-class table of a segmentation report, for the terminal and as Markdown."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.console
    import rich.table

_SUMMARY = (("mean IoU", "miou"), ("pixel accuracy", "pixel_accuracy"), ("mean accuracy", "mean_accuracy"))
_BAR = 20


def percent(value: float) -> str:
    """A fraction as percent with two decimals; a dash for nan: the class does not occur."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def quantity(number: float) -> str:
    """A number as people say it: three digits at most, and K, M, G or T; 25557032 is 25.6 M."""
    for unit in ("", "K", "M", "G"):
        if float(f"{number:.3g}") < 1000:
            return f"{number:.3g} {unit}".strip()
        number /= 1000
    return f"{number:.3g} T"


def iou_table(report: dict[str, Any], title: str = "") -> "rich.table.Table":
    """A `rich` table of the IoU of each class, with a bar, then the means.

    Args:
        report: as `cvjax.tasks.metrics.segmentation_report` returns it.
        title: printed above; the run or checkpoint.
    """
    import rich.box
    import rich.table
    import rich.text

    table = rich.table.Table(title=title or None, box=rich.box.SIMPLE_HEAD, title_justify="left")
    table.add_column("class", no_wrap=True)
    table.add_column("IoU %", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="green")
    for name, value in report["iou"].items():
        bar = "" if math.isnan(value) else "█" * round(_BAR * value)
        # Text, not str: a class name with square brackets is no markup.
        table.add_row(rich.text.Text(str(name)), percent(value), bar)
    table.add_section()
    for label, key in _SUMMARY:
        table.add_row(
            rich.text.Text(label, style="bold"), rich.text.Text(percent(report[key]), style="bold"), ""
        )
    return table


def print_report(
    report: dict[str, Any], title: str = "", console: "rich.console.Console | None" = None
) -> None:
    """Print `iou_table` to the terminal (or the console given)."""
    import rich.console

    (console or rich.console.Console()).print(iou_table(report, title))


def iou_markdown(report: dict[str, Any]) -> str:
    """The same table as GitHub Markdown; ends with a newline."""
    rows = [(str(name), percent(value)) for name, value in report["iou"].items()]
    summary = [(f"**{label}**", f"**{percent(report[key])}**") for label, key in _SUMMARY]
    lines = ["| class | IoU % |", "| --- | ---: |"]
    lines += ["| " + name.replace("|", "\\|") + f" | {value} |" for name, value in rows + summary]
    return "\n".join(lines) + "\n"
