"""The per-class table."""

import io

import numpy as np
import rich.console

from cvjax.tasks.segmentation.scores.regions import segmentation_report
from cvjax.visual import tables

REPORT = segmentation_report(np.array([[6, 2, 0], [0, 4, 0], [0, 0, 0]]), ("[red]ground", "cat|dog", "cow"))


def printed(report, width: int) -> str:
    console = rich.console.Console(file=io.StringIO(), width=width)
    console.print(tables.report_table(report, "run 7"))
    return console.file.getvalue()


def test_terminal_table():
    lines = [line.split() for line in printed(REPORT, 80).splitlines() if line.strip()]
    assert lines[0] == ["run", "7"]
    assert ["[red]ground", "75.00", "█" * 15] in lines
    assert ["cat|dog", "66.67", "█" * 13] in lines
    assert ["cow", "-"] in lines
    assert ["mean", "IoU", "70.83"] in lines
    assert ["pixel", "accuracy", "83.33"] in lines
    assert ["mean", "accuracy", "87.50"] in lines


def test_markdown_table():
    assert tables.report_markdown(REPORT) == (
        "| class | IoU % |\n"
        "| --- | ---: |\n"
        "| [red]ground | 75.00 |\n"
        "| cat\\|dog | 66.67 |\n"
        "| cow | - |\n"
        "| **mean IoU** | **70.83** |\n"
        "| **pixel accuracy** | **83.33** |\n"
        "| **mean accuracy** | **87.50** |\n"
        "| **frequency-weighted IoU** | **72.22** |\n"
    )
