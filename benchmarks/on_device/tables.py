"""The results of `benchmarks/accelerator.py` as Markdown."""

from collections.abc import Sequence

from paired import Message, ratio
from reporting import cell, describe, table

from on_device.rows import FLAGS, TORCH_SIDES

_TITLES = {
    "training": "Training steps",
    "flags": "Training steps with XLA's options for convolutions",
    "operators": "Operators",
    "lowerings": "Forms of layers",
}


def write(record: Message) -> str:
    """All rows by group, and who is missing where."""
    settings, rows = record["settings"], record["rows"]
    tiny = " This is the tiny form, which shows that the program works; its figures mean nothing." * settings["tiny"]
    lines = [
        "# On one accelerator",
        "",
        f"{describe(record['machine'])} bfloat16; medians of {settings['rounds']} rounds at most. "
        "`benchmarks/accelerator.py` says what is measured. Columns with a stroke are ratios of times: at 2 the second "
        f"contestant is twice as fast as the first.{tiny}",
        "",
    ]
    for group, section in (("training", _training), ("flags", _flags), ("operators", _times), ("lowerings", _times)):
        mine = [row for row in rows if row["group"] == group]
        if mine:
            lines += [f"## {_TITLES[group]}", "", section(mine), ""]
    return "\n".join([*lines, *_missing(rows)]).rstrip() + "\n"


def _missing(rows: Sequence[Message]) -> list[str]:
    """Who is missing from which rows, a reason once, as items of a Markdown list."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for side, reason in row["absent"].items():
            found.setdefault((side, reason), []).append(f"{row['case']} ({row['mode']})")
    return [f"- Without {side}: {'; '.join(cases)}: {reason}." for (side, reason), cases in found.items()]


def _training(rows: Sequence[Message]) -> str:
    sides = ("cvjax", *TORCH_SIDES)
    header = ["net", "images", *(f"{side} images/s" for side in sides), *(f"{side} / cvjax" for side in TORCH_SIDES)]
    header += [*(f"{side} GB" for side in sides), "cvjax program GB"]
    header += ["cvjax compile s", "torch-compile compile s"]
    body = []
    for row in rows:
        facts = [row["facts"].get(side, {}) for side in sides]
        body.append(
            [
                row["case"],
                _images(row),
                *(cell(rate(row, side)) for side in sides),
                *(cell(ratio(row["times"], side, "cvjax")) for side in TORCH_SIDES),
                *(_giga(fact.get("peak_bytes")) for fact in facts),
                _giga(facts[0].get("program_bytes")),
                cell(facts[0].get("compile_s")),
                cell(facts[2].get("compile_s")),
            ]
        )
    return table(header, body)


def _flags(rows: Sequence[Message]) -> str:
    sides = ("cvjax", *FLAGS)
    header = ["net", "images", *(f"{side} images/s" for side in sides), *(f"cvjax / {side}" for side in FLAGS)]
    header += [f"{side} program GB" for side in sides]
    body = [
        [
            row["case"],
            _images(row),
            *(cell(rate(row, side)) for side in sides),
            *(cell(ratio(row["times"], "cvjax", side)) for side in FLAGS),
            *(_giga(row["facts"].get(side, {}).get("program_bytes")) for side in sides),
        ]
        for row in rows
    ]
    return table(header, body)


def _times(rows: Sequence[Message]) -> str:
    names = list(dict.fromkeys(side for row in rows for side in row["sides"] if side in row["seconds"])) or ["cvjax"]
    others = [name for name in names if name != "cvjax"]
    header = ["case", "mode", *(f"{name} ms" for name in names), *(f"{other} / cvjax" for other in others)]
    body = [
        [row["case"], row["mode"]]
        + [cell(1e3 * row["seconds"][name] if name in row["seconds"] else None) for name in names]
        + [cell(ratio(row["times"], other, "cvjax")) for other in others]
        for row in rows
    ]
    return table(header, body)


def rate(row: Message, side: str) -> float | None:
    """Images a second; None if the side did not take part."""
    return row["work"]["batch"] / row["seconds"][side] if side in row["seconds"] else None


def _images(row: Message) -> str:
    work = row["work"]
    return f"{work['batch']} of {work['size']}x{work['size']}"


def _giga(count: float | None) -> str:
    return cell(None if count is None else count / 1e9)
