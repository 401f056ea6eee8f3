"""What all commands have in common: refusals of one sentence, `--quiet`, `--traceback`, `--json -`, pages of help."""

import dataclasses
import json
import logging
import pathlib
import re
import signal
import sys
from typing import Annotated, Literal

import pytest
import tyro

from cvjax.cli import evaluate, inspect
from cvjax.cli.commands import first_words, members
from cvjax.cli.main import main
from cvjax.cli.shell import reading
from cvjax.cli.shell.reading import read
from cvjax.engine import command
from cvjax.engine.command import run_command, take_asked, take_flag, write_json_result
from cvjax.engine.guards import stop
from cvjax.engine.guards.ending import LOST, ending_of
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Does something.

    Attributes:
      place: A place.
      batch_size: A number.
      side: Two numbers.
      way: A way.
      dry: Whether to do nothing.
    """

    place: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PLACE")]
    batch_size: int | None = None
    side: tuple[int, int] = (1, 2)
    way: Literal["fast", "slow"] = "fast"
    dry: bool = False


REFUSED = {
    "": "PLACE must be given",
    "a b": "'b' is one word too many",
    "a --batch-sise 3": "there is no flag --batch-sise; did you mean --batch-size?",
    "a --xyzzy": "there is no flag --xyzzy",
    "a --batch-size many": "--batch-size takes INT, not many",
    "a --side 1": "--side needs 2 values behind it",
    "a --way fsat": "--way cannot be 'fsat'; did you mean fast? it is one of fast, slow",
    "a --side 1 x": "--side takes INT INT, not 1 x",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_refusal_is_one_sentence(words):
    with pytest.raises(ConfigError) as refused:
        read(Arguments, words.split(), "nothing")
    sentence = str(refused.value)
    assert sentence.startswith(REFUSED[words])
    assert sentence.endswith("cvjax nothing --help lists what there is")
    assert "\n" not in sentence
    assert "│" not in sentence


@pytest.mark.parametrize("words", [words for words in REFUSED if "side" not in words])
def test_a_tyro_without_hooks_is_refused_in_a_line_too(words, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro._errors", None)
    with pytest.raises(ConfigError) as refused:
        read(Arguments, words.split(), "nothing")
    assert "\n" not in str(refused.value)
    assert "─" not in str(refused.value)
    if "no flag" in REFUSED[words]:
        assert str(refused.value).startswith(REFUSED[words])


def test_words_that_are_right_are_read():
    assert read(Arguments, "a --batch-size 3 --dry --side 4 5".split(), "nothing") == Arguments(
        "a", 3, (4, 5), dry=True
    )
    assert reading.read_known(Arguments, "a --more 3".split(), "nothing") == (Arguments("a"), ["--more", "3"])


def test_help_has_one_order_and_no_boxes(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out
    parts = (
        "usage: cvjax evaluate",
        "Scores a checkpoint",
        "\narguments:",
        "\noptions:",
        "\nevery command",
        "\nexamples:",
    )
    order = [page.index(part) for part in parts]
    assert order == sorted(order)
    assert not set("│╭─╯") & set(page)
    assert "{None}" not in page
    assert "(default: None)" not in " ".join(page.split())
    flags = reading.flags_of(page)
    assert {f"--{field.name.strip('_').replace('_', '-')}" for field in dataclasses.fields(evaluate.Arguments)[1:]} < {
        *flags
    }


def test_what_every_command_takes_is_taken_off():
    assert take_asked(["a", "--quiet", "--n", "3"]) == (["a", "--n", "3"], command.Asked(quiet=True))
    assert take_asked(["--traceback", "--json", "-"]) == (["--json", "-"], command.Asked(traceback=True, machine=True))
    assert take_asked(["--json=-"])[1].machine
    assert not take_asked(["--json", "a", "-"])[1].machine
    assert take_flag(["a", "--json", "b", "c"], "--json") == (["a", "c"], "b")
    assert take_flag(["--json=b"], "--json") == ([], "b")
    assert take_flag(["a"], "--json") == (["a"], None)
    with pytest.raises(ConfigError, match="--json needs a value"):
        take_flag(["--json"], "--json")


def _says() -> None:
    make_console(note=True).print("a note")
    make_console(stderr=True).print("progress")
    print("a result")
    print("a warning", file=sys.stderr)
    for _ in range(2):  # as by the opener of each split
        logging.getLogger("cvjax.datasets.own").warning("passed over %d", 2)
    write_json_result("-", {"a": [1, float("nan")]})


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        ("", "a note\na result\n{json}", "progress\na warning\npassed over 2\n"),
        ("--quiet", "a result\n{json}", ""),
        ("--json -", "{json}", "a note\nprogress\na result\na warning\npassed over 2\n"),
        ("--json - --quiet", "{json}", ""),
    ],
)
def test_quiet_shows_the_result_alone_and_json_is_alone_on_stdout(words, out, err, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cvjax", *words.split()])
    before = sys.stdout, sys.stderr
    run_command(_says)
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    shown, _, text = said.out.partition("{")
    assert shown == out.partition("{")[0]
    assert json.loads("{" + text) == {"a": [1, None]}
    assert said.err == err


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_errors_are_seen_by_those_who_asked_for_quiet(quiet, monkeypatch, capsys):
    def mistaken() -> None:
        raise ConfigError("no such thing")

    monkeypatch.setattr(sys, "argv", ["cvjax", *quiet])
    with pytest.raises(SystemExit) as ended:
        run_command(mistaken)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: no such thing\n"


def test_traceback_shows_where_a_users_error_comes_from(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cvjax"])
    with pytest.raises(SystemExit) as ended:
        main(["--traceback", "models", "no-such-model-at-all"])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("error: no model fits")


def test_the_page_about_commands_has_them_all_and_every_status():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    named = set(re.findall(r"`cvjax ([a-z-]+)`", page))
    assert named >= set(first_words())
    (listed,) = re.findall(r"what there is for data sets: (.*) \|", page)
    assert set(listed.split(", ")) == set(members("data"))
    rows = dict(re.findall(r"^\| ([\d, ]+) \| (.*) \|$", page.partition("## How a command ends")[2], re.M))
    told = {int(number) for numbers in rows for number in numbers.split(", ")}
    user, stopped = ending_of(ConfigError(""))[0], ending_of(KeyboardInterrupt())[0]
    assert told == {0, command.BUG, user, LOST, stopped, stop.status(signal.SIGTERM)}
    assert "bug" in rows[str(command.BUG)]
    assert "another host" in rows[str(LOST)]


def test_a_result_goes_to_stdout_or_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cvjax"])
    main(["inspect", "nin_cifar", "--json", "-"])
    said = capsys.readouterr()
    main(["inspect", "nin_cifar", "--json", str(tmp_path / "a.json")])
    assert json.loads(said.out) == json.loads((tmp_path / "a.json").read_text())
    assert said.err == capsys.readouterr().out  # people's table
    assert inspect.inspect(inspect.Arguments("nin_cifar")).as_text() == said.err
