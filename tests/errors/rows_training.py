"""How long and how fast a run trains, and on what part of its data: settings that do not go together or are none."""

import pathlib

from bad_inputs import BadInput
from rows_runs import _TRAIN, _images, _run


def _metrics(folder: pathlib.Path) -> None:
    _images(folder)
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')


def _two_checkpoints(folder: pathlib.Path) -> None:
    _run(folder, steps=(5, 10))


ROWS = [
    BadInput(
        "patience, and no evaluation before the end",
        f"{_TRAIN} --patience 3 --eval-every 0",
        _images,
        ("--patience", "--eval-every 0"),
    ),
    BadInput(
        "the progress of another run, and no time budget",
        f"{_TRAIN} --progress-from DATA/metrics.jsonl",
        _images,
        ("--progress-from", "--hours"),
    ),
    BadInput(
        "the progress of a run that had no time budget",
        f"{_TRAIN} --hours 1 --progress-from DATA/metrics.jsonl",
        _metrics,
        ("DATA/metrics.jsonl", "no progress", "--hours"),
    ),
    BadInput(
        "a time budget for a run that had a number of steps",
        f"{_TRAIN} --hours 1 --resume",
        _run,
        ("DATA/run/checkpoints", "a number of steps", "leave out --hours", "--init"),
    ),
    BadInput("no fraction of the data", f"{_TRAIN} --input.fraction 0", _images, ("--input.fraction is 0", "above 0")),
    BadInput(
        "a sweep of the learning rate that does not rise",
        "cvjax.cli.training.lr deeplab_voc quick --low 1 --high 0.1",
        lambda folder: None,
        ("from 1 to 0.1", "--low below --high"),
    ),
    BadInput(
        "an average of more checkpoints than a run keeps",
        "cvjax.cli.convert DATA/run DATA/mean --average 5",
        _two_checkpoints,
        ("DATA/run/checkpoints", "2 checkpoints, fewer than 5", "5, 10", "--keep"),
    ),
    BadInput(
        "statistics of an average, and no average",
        "cvjax.cli.convert DATA/run DATA/mean --average-bn 5",
        _two_checkpoints,
        ("--average-bn", "--average or --average-steps"),
    ),
]
