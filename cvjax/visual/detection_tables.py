"""This module shows a detector's report as tables for the terminal and Markdown.

The tables are average precision by class and size, and kinds of errors.
"""

from typing import TYPE_CHECKING, Any

from cvjax.visual.tables import percent

if TYPE_CHECKING:
    import rich.table

_COCO = (
    *(("COCO AP", "coco_ap"), ("COCO AP at 0.5", "coco_ap50"), ("COCO AP at 0.75", "coco_ap75")),
    *(("COCO AP small", "coco_ap_small"), ("COCO AP medium", "coco_ap_medium"), ("COCO AP large", "coco_ap_large")),
    ("COCO AR of 100", "coco_ar100"),
)

Table = tuple[list[str], list[list[str]], list[list[str]]]
"""Head, rows of the classes, and rows below for all classes together."""


def average_precisions(report: dict[str, Any]) -> Table:
    """Returns the average precision of each class in percent: area, 11 points, and each size of object.

    The last column is the number of objects to be found.
    """
    sizes = report["ap_by_size"]
    head = ["class", "AP", "AP 11 pt", *(f"AP {size}" for size in sizes), "objects"]
    rows = [
        [
            name,
            percent(value),
            percent(report["ap_11"][name]),
            *(percent(each[name]) for each in sizes.values()),
            str(report["objects"][name]),
        ]
        for name, value in report["ap"].items()
    ]
    means = [percent(report["map"]), percent(report["map_voc07"]), *(percent(report[f"map_{size}"]) for size in sizes)]
    return head, rows, [["mean", *means, str(sum(report["objects"].values()))]]


def error_shares(report: dict[str, Any]) -> Table:
    """Returns the share of each kind of error in percent, and the number of detections, for each class.

    Of a class with N objects only the N best detections count.
    """
    errors = report["errors"]
    kinds: list[str] = list(next(iter(errors.values()), ()))
    total = {kind: sum(counts[kind] for counts in errors.values()) for kind in kinds}

    def row(name: str, counts: dict[str, int]) -> list[str]:
        number = sum(counts.values())
        shares = [percent(count / number) if number else "-" for count in counts.values()]
        return [name, *shares, str(number)]

    return ["class", *kinds, "detections"], [row(*item) for item in errors.items()], [row("all", total)]


def coco_scores(report: dict[str, Any]) -> Table:
    """Returns COCO's main numbers in percent, where the report has them."""
    return ["score", "%"], [[label, percent(report[key])] for label, key in _COCO if key in report], []


def detection_tables(report: dict[str, Any], title: str = "") -> list["rich.table.Table"]:
    """Returns the tables of a report of `DetectionScores` for the terminal.

    Args:
      report: Report, see `cvjax.tasks.detection.metrics.DetectionScores.report`.
      title: Name of the run or checkpoint, printed above the first table.
    """
    import rich.box
    import rich.table
    import rich.text

    made = []
    for head, rows, below in _present(report):
        table = rich.table.Table(
            title=rich.text.Text(title) if title and not made else None,
            box=rich.box.SIMPLE_HEAD,
            title_justify="left",
        )
        for number, name in enumerate(head):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*map(rich.text.Text, row))  # Text, not str: a name with square brackets is no markup
        table.add_section()
        for row in below:
            table.add_row(*(rich.text.Text(value, style="bold") for value in row))
        made.append(table)
    return made


def detection_markdown(report: dict[str, Any]) -> str:
    """Returns the same tables as GitHub Markdown, with a newline at the end."""
    parts = []
    for head, rows, below in _present(report):
        bold = [[f"**{value}**" for value in row] for row in below]
        lines = ["| " + " | ".join(value.replace("|", "\\|") for value in row) + " |" for row in (head, *rows, *bold)]
        lines.insert(1, "| --- |" + " ---: |" * (len(head) - 1))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _present(report: dict[str, Any]) -> list[Table]:
    made = [average_precisions(report), error_shares(report), coco_scores(report)]
    return [table for table in made if table[1]]
