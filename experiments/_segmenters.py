"""What the experiments with segmentation on PASCAL VOC share: the command line."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cvjax.cli._main import run as run_command
from cvjax.datasets.voc.segmentation import find_voc
from cvjax.engine.commandline import configure_run
from cvjax.tasks.segmentation.config import SegmentationConfig
from cvjax.tasks.segmentation.kind import run

Config = TypeVar("Config", bound=SegmentationConfig)


def configure_segmenter(
    presets: Mapping[str, Config], name: str, text: str, argv: Sequence[str] | None = None
) -> Config:
    """The configuration of a command line; without a preset, that of VOC 2012 where it is, else of the scenes.

    Args:
      presets: of the experiment, among them `quick` and `voc`.
      name: of its module.
      text: its docstring.
      argv: arguments, those of the process by default.
    """
    return configure_run(
        presets,
        _has_voc,
        instead="voc",
        what="no VOC 2012 is prepared or unpacked",
        module=f"experiments.{name}",
        docstring=text,
        argv=argv,
    )


def main(configure: Callable[[], SegmentationConfig]) -> None:
    """An experiment's command: reads its command line and trains."""
    run_command(lambda: run(configure()))


def _has_voc(where: pathlib.Path, config: SegmentationConfig) -> bool:
    return find_voc(where, config.input.manual_dir and pathlib.Path(config.input.manual_dir)) is not None
