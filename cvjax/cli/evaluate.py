"""`python -m cvjax.cli.evaluate CHECKPOINT`: the scores of a checkpoint, by the code that the training loop uses."""

import dataclasses
import json
import pathlib
from typing import Annotated, Any

import tyro
from rich.console import Console

from cvjax.cli._main import run
from cvjax.data.catalogue import open_source
from cvjax.runs.config import EvalConfig, InputConfig, from_json
from cvjax.runs.load import load_for_inference
from cvjax.runs.segmentation import make_evaluator
from cvjax.training.parallel import Mode, make_strategy
from cvjax.visual.tables import iou_table


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Scores a checkpoint on a split of the data that it was trained on, or of another set.

    Attributes:
      checkpoint: a run's work folder (its best checkpoint is taken) or one checkpoint's folder.
      data: name of another data set with the same classes.
      data_dir, manual_dir: where to look for it, if elsewhere than the run did.
      split: the run's own evaluation split by default.
      scales: image scales whose probabilities are averaged.
      flip: average with the mirrored image too.
      window: height and width of a sliding window.
      overlap: fraction that neighbouring windows share.
      output_stride: of the backbone, if other than in training.
      batch_size: over all devices; the run's own by default.
      parallel: jit or pmap.
      on_bad_record: stop at a damaged record, or pass it over and count it.
      json: write the report to this file.
    """

    checkpoint: Annotated[str, tyro.conf.Positional]
    data: str | None = None
    data_dir: str | None = None
    manual_dir: str | None = None
    split: str | None = None
    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    window: tuple[int, int] | None = None
    overlap: float | None = None
    output_stride: int | None = None
    batch_size: int | None = None
    parallel: Mode = "jit"
    on_bad_record: str | None = None
    json: str | None = None


def evaluate_checkpoint(arguments: Arguments) -> dict[str, Any]:
    """The report of `Segmentation.report` for a checkpoint; what is not given is as in the run.

    Raises:
      UserError: a missing or foreign checkpoint, or missing data.
    """
    overrides = {} if arguments.output_stride is None else {"output_stride": arguments.output_stride}
    loaded = load_for_inference(arguments.checkpoint, **overrides)
    run_config = loaded.config["run"]
    reading = _given(InputConfig(**from_json(run_config["input"])), arguments, "manual_dir", "on_bad_record")
    scoring = _given(
        EvalConfig(**from_json(run_config["eval"])), arguments, "scales", "flip", "window", "overlap", "batch_size"
    )
    source = open_source(
        arguments.data or loaded.config["data"]["name"],
        arguments.split or reading.eval_split,
        data_dir=arguments.data_dir or run_config["data_dir"],
        manual_dir=reading.manual_dir,
    )
    strategy = make_strategy(arguments.parallel, scoring.batch_size)
    score = make_evaluator(loaded.model, loaded.task, source, scoring, reading, strategy)
    report = score(strategy.place_state(loaded.variables))
    return report | {"checkpoint": str(loaded.place), "data": source.name, "split": source.split}


def _given(config: Any, arguments: Arguments, *names: str) -> Any:
    values = {name: getattr(arguments, name) for name in names}
    return dataclasses.replace(config, **{name: value for name, value in values.items() if value is not None})


def main() -> None:
    """Command line."""
    arguments = tyro.cli(Arguments, prog="python -m cvjax.cli.evaluate", description=Arguments.__doc__)
    report = evaluate_checkpoint(arguments)
    console = Console()
    console.print(iou_table(report))
    console.print(
        f"{report['checkpoint']}: mIoU {report['miou']:.4f}, pixel accuracy {report['pixel_accuracy']:.4f}, mean"
        f" accuracy {report['mean_accuracy']:.4f} on {report['examples']} images of {report['data']}"
        f" {report['split']}" + (f", {report['skipped']} bad records passed over" if report["skipped"] else ""),
        highlight=False,
        soft_wrap=True,
    )
    if arguments.json is not None:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
