"""Nothing in docs/adding is left unrun: each page has its test, which knows all of its commands and blocks."""

import pathlib
import re

from documented import ADDING, PAGES

TESTS = {
    "dataset.md": "test_add_a_data_set.py",
    "model.md": "test_add_a_model.py",
    "task.md": "test_add_a_task.py",
}


def test_every_page_has_a_test():
    assert {page.name for page in PAGES if page.parent == ADDING} == set(TESTS)
    for page, name in TESTS.items():
        assert f'WorkedExample("{page}"' in (pathlib.Path(__file__).parent / name).read_text()
        assert f"`tests/adding/{name}`" in (ADDING / page).read_text()


def test_blocks_are_of_kinds_that_are_run():
    for page in TESTS:
        kinds = re.findall(r"^```(.*)\n", (ADDING / page).read_text(), re.M)
        assert set(kinds[::2]) == {"python", "diff", "sh"}
        assert set(kinds[1::2]) == {""}


def test_every_command_is_run():
    """Each test runs as many commands as its page has; `run` refuses others."""
    for page, name in TESTS.items():
        shown = "\n".join(re.findall(r"```sh\n(.*?)```", (ADDING / page).read_text(), re.S)).split("\n")
        commands = [line for line in shown if line]
        text = (pathlib.Path(__file__).parent / name).read_text()
        starts = re.findall(r'example\.command\("([^"]+)"\)', text)
        unrun = [command for command in commands if not any(command.startswith(start) for start in starts)]
        assert not unrun, (page, unrun)
