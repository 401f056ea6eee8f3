"""One host of a tiny run: `python one_host.py JSON`, with the fields below. It keeps a list of the records it opens.

`manual_dir`, `workdir`, `opened` (the list's file), `number`, `count`, `port` (no cluster if `count` is 1), `silence`
(seconds after which a host is lost), `pause` (seconds before each record), `run` (further fields of the configuration).
"""

import dataclasses
import json
import sys
import time
from typing import ClassVar

import denoising

from cvjax.engine.command import run_command
from cvjax.engine.distributed import ClusterConfig
from cvjax.engine.guards.stop import status
from cvjax.engine.run import train
from cvjax.tasks.scale_crop import ScaleAndCropData

SETTINGS = {"steps": 24, "batch_size": 8, "log_every": 1, "eval_every": 0, "checkpoint_every": 2, "keep": 1}
ASKED = json.loads(sys.argv[1]) if __name__ == "__main__" else {}


class Opening:
    """A data set that writes down which of its records are opened."""

    def __init__(self, source):
        self.source = source

    def __getattr__(self, name):
        return getattr(self.source, name)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        with open(ASKED["opened"], "a") as file:
            file.write(f"{self.source.split} {index}\n")
        time.sleep(ASKED.get("pause", 0))
        return self.source[index]


@dataclasses.dataclass(frozen=True)
class Config(denoising.DenoisingConfig):
    """The run of a task that says what it opens."""

    task: ClassVar[str] = "__main__:Task"


@dataclasses.dataclass(frozen=True)
class Task(denoising.Denoising):
    """The task that says what it opens."""

    config_class = Config

    @classmethod
    def open(cls, config, split):
        return Opening(super().open(config, split))

    def draw_examples(self, *_):
        return []


def main():
    cluster = ClusterConfig()
    if ASKED["count"] > 1:
        place = {"num_processes": ASKED["count"], "process_id": ASKED["number"]}
        cluster = ClusterConfig(coordinator=f"127.0.0.1:{ASKED['port']}", silence=ASKED.get("silence", 6.0), **place)
    config = Config(
        workdir=ASKED["workdir"],
        data="image_folder_segmentation",
        input=ScaleAndCropData(crop=(32, 32), manual_dir=ASKED["manual_dir"]),
        cluster=cluster,
        **(SETTINGS | ASKED.get("run", {})),
    )
    outcome = train(config)
    if outcome.signal is not None:
        sys.exit(status(outcome.signal))


if __name__ == "__main__":
    run_command(main)
