"""docs/adding/model.md: its file and its two lines make a model of the zoo; all of its commands are run."""

import json

import pytest
from worked_example import WorkedExample, read_losses

TESTS = ("conftest.py", "helpers", "models/test_every_model.py", "models/test_registry.py", "cli/test_cli_models.py")
HERE = ("-n", "0", "-p", "no:cacheprovider")
SMALL = "--steps 4 --log-every 0 --batch-size 8 --input.workers 0 --input.crop 32 32 --eval.batch-size 8".split()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return WorkedExample("model.md", tmp_path_factory.mktemp("model"), TESTS)


def test_it_is_one_file_one_line_and_a_line_of_a_test(example):
    assert example.files == ["cvjax/models/classification/mobilenet.py"]
    assert {path: len(lines) for path, lines in example.lines.items()} == {
        "cvjax/models/registry.py": 1,
        "tests/models/test_registry.py": 1,
    }


def test_its_file_has_the_houses_form(example):
    example.check_form()


def test_the_commands_know_it(example):
    assert "4.23 M parameters, 569 M multiply-adds" in example.run(example.command("cvjax inspect"))
    page = example.run(example.command("cvjax train resnet_imagenet quick --help"))
    assert "--model.width-multiplier" in page
    assert "Factor on the channels of all layers" in page


@pytest.mark.slow
def test_the_tests_hold_it(example):
    said = example.run(example.command("python -m pytest tests/models"), *HERE, "-v")
    assert "a_logit_a_class_and_maps_by_name[mobilenet] PASSED" in said
    assert "test_counts_known_from_elsewhere PASSED" in said
    table = example.command("python -m pytest tests/cli")
    assert "the rows of mobilenet were added to models.json" in example.run(table, *HERE, status=1)
    example.run(table, *HERE)
    line = example.run(example.command("cvjax models")).splitlines()[-1]
    assert line.split() == ["mobilenet", "classification", "4.23", "0.57", "224"]


@pytest.mark.slow
def test_it_trains(example):
    example.draw_scenes()
    said = example.run(
        example.command("cvjax train resnet_imagenet quick --model.name"), *SMALL, "--model.width-multiplier", "0.1"
    )
    assert "mobilenet on scenes: 16 training and 8 val images" in said
    run = example.tree / "runs" / "mobilenet"
    assert len(list(read_losses(run / "metrics.jsonl"))) == 4
    evaluated = example.run(example.command("cvjax evaluate"), "--json", example.tree / "again.json")
    assert "top-1" in evaluated
    report, again = (json.loads(path.read_text()) for path in (run / "report.json", example.tree / "again.json"))
    assert again["top1"] == report["top1"]
    assert again["loss"] == pytest.approx(report["loss"], rel=1e-5)


def test_its_page_has_no_other_commands(example):
    starts = ("cvjax inspect", "cvjax models", "cvjax train", "cvjax evaluate", "python -m pytest tests/")
    assert len(example.commands) == 7
    assert all(command.startswith(starts) for command in example.commands)
