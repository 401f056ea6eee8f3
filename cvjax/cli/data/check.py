"""`cvjax data check DATA` counts and measures a data set, and reports what may be wrong with it.

Every finding names its file. Findings are warnings: the exit status is 0, or 1 with `--strict` if there are any.
"""

import dataclasses
import sys
from collections.abc import Sequence

import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cvjax.cli.data.opening import DataArguments, open_splits, own_path, target_of, title_of
from cvjax.cli.shell.reading import read
from cvjax.data.annotations import KEEP
from cvjax.datasets.findings.duplicates import DISTANCE, LIKENESS
from cvjax.datasets.findings.finding import TITLES, Finding, Kind
from cvjax.datasets.findings.report import DataReport, make_report
from cvjax.datasets.findings.survey import TINY, survey
from cvjax.datasets.registry import said_name
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError
from cvjax.visual.page import cells
from cvjax.visual.sheets.check_page import balance_table, boxes_table, check_page, splits_table


@dataclasses.dataclass(frozen=True)
class Arguments(DataArguments):
    """Counts and measures a data set, and reports what may be wrong with it: files, boxes, labels, duplicates."""

    tiny: float = TINY
    """Length in pixels that the shorter side of a box should have."""
    distance: int = DISTANCE
    """Number of bits of 64 in which the hashes of nearly equal pictures differ at most."""
    likeness: float = LIKENESS
    """Correlation that small copies of nearly equal pictures have at least."""
    ignore: tuple[Kind, ...] = ()
    """Kinds of findings to leave out."""
    strict: bool = False
    """End with status 1 if there are findings."""
    show: int = 24
    """Number of findings of each kind on the page and in the terminal."""
    html: str | None = None
    """File to write the page to."""
    json: str | None = None
    """File to write figures and all findings to."""


def check(arguments: Arguments) -> DataReport:
    """Reads the splits and returns the report on them.

    Raises:
      UserError: The data cannot be opened, or a limit makes no sense.
    """
    if not 0 <= arguments.distance <= 64 or not 0 < arguments.likeness <= 1 or arguments.tiny < 0 or arguments.show < 0:
        raise ConfigError(
            f"--distance is {arguments.distance}, --likeness {arguments.likeness}, --tiny {arguments.tiny:g} and --show"
            f" {arguments.show}; give 0 to 64 bits, a correlation above 0 and up to 1, and no negative numbers"
        )
    target = target_of(arguments)
    sources, failed = open_splits(arguments, target, KEEP)
    surveys = [survey(source, target, tiny=arguments.tiny) for source in sources]
    report = make_report(
        said_name(sources[0].name, own_path(arguments)),
        surveys,
        distance=arguments.distance,
        likeness=arguments.likeness,
        ignore=arguments.ignore,
    )
    closed = [
        Finding("unreadable", split, str(error)) for split, error in failed if "unreadable" not in arguments.ignore
    ]
    return dataclasses.replace(report, findings=(*closed, *report.findings))


def print_report(report: DataReport, console: Console, shown: int) -> None:
    """Prints the tables of a report, and the first findings of each kind."""
    tables = [splits_table(report), balance_table(report)]
    if report.target == "boxes":
        tables.append(boxes_table(report))
    for header, rows in tables:
        table = Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for number, name in enumerate(header):
            words = any(isinstance(row[number], str) for row in rows)
            table.add_column(name, justify="left" if words else "right", no_wrap=True)
        columns = [cells([row[number] for row in rows]) for number in range(len(header))]
        for row in zip(*columns, strict=True):
            table.add_row(*(Text(text or "-") for text in row))
        console.print(table)
    for kind, found in report.by_kind().items():
        console.print(Text(f"{TITLES[kind]}: {len(found)}", style="bold"))
        for finding in found[:shown]:
            console.print(Text(f"  {finding.line()}"), soft_wrap=True)
        if len(found) > shown:
            console.print(Text(f"  and {len(found) - shown} more; --json FILE has all"))
    if not report.findings:
        console.print("no findings")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "data check")
    report = check(arguments)
    print_report(report, make_console(), arguments.show)
    write_json_result(arguments.json, report.as_json())
    if arguments.html is not None:
        sources = [one.source for one in report.surveys]
        check_page(report, title_of(arguments, sources), arguments.show).write(arguments.html)
    if arguments.strict and report.findings:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
