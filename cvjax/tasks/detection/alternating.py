"""Trains Faster R-CNN by the four steps of its paper (1506.01497, section 3.2), each a detection run of its own.

    WORKDIR/1_proposals   trains the RPN, from the weights of a classifier
    WORKDIR/2_detector    trains a detector on the stored proposals of step 1, from the weights of the same classifier
    WORKDIR/3_proposals   trains the RPN on the frozen convolutions of step 2
    WORKDIR/4_detector    trains the detector's own layers again; the result shares its convolutions with the RPN

Steps 2 and 4 have half as many training steps as 1 and 3. The scores of 1 and 3 mean little: their detector is not
trained yet, or not on these proposals.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from cvjax.data.box_rows import restore_boxes
from cvjax.datasets.proposals.files import write_proposals
from cvjax.datasets.proposals.identity import digest_of_source
from cvjax.engine import run
from cvjax.engine.checkpoint import find_checkpoint
from cvjax.engine.evaluate import whole_split
from cvjax.engine.guards.lock import one_run
from cvjax.engine.loop import Outcome
from cvjax.errors import ConfigError
from cvjax.runtime.compiler import compiled
from cvjax.storage import AnyPath, as_path, written_folder
from cvjax.tasks.detection.config import DetectionConfig
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.loaded import rebuild

STEPS = ("1_proposals", "2_detector", "3_proposals", "4_detector")
_NOT_PROPOSALS = "[!r]*"  # parameters' paths begin with backbone, fpn, rpn, predictor, box_head
_CONVOLUTIONS = "backbone/[!h]*"  # all of the backbone but dense layers, which are in `head`


def train(config: DetectionConfig) -> Outcome:
    """Trains a detector, end to end or by the four steps, as configured; see `cvjax.engine.run.train`."""
    if not config.four_steps:
        return run.train(config)
    run.check_run(config)
    with one_run(as_path(config.workdir)):
        return train_four_steps(config)


def train_four_steps(config: DetectionConfig) -> Outcome:
    """Trains by the four steps; with `resume` it continues in the step where it was stopped.

    Args:
      config: Configuration of the whole run. `steps` or `epochs` are those of the RPN. The model is a Faster R-CNN with
        the fields `train_rpn`, `train_detector` and `freeze_backbone`.

    Returns:
      The outcome of the last step, or of the one that was stopped by a signal.

    Raises:
      UserError: See `cvjax.engine.run.train`; also, the run has several processes.
    """
    if jax.process_count() > 1 or config.cluster.coordinator is not None:
        raise ConfigError("the four steps hand proposals on from one process; train end to end on several")
    folder = as_path(config.workdir)
    config = run.with_steps(config, len(run.training_split(Detection, config)))
    shared = ("fpn/*",) if config.model.name.endswith("_fpn") else ()
    kept = folder / STEPS[0] / "proposals"
    # Name, fields of the model, parameters that stay, fields of the run, and where the proposals come from.
    plan: list[tuple[str, dict[str, Any], tuple[str, ...], dict[str, Any], AnyPath | None]] = [
        (STEPS[0], {"train_detector": False}, (), {}, None),
        (STEPS[1], {"train_rpn": False}, ("rpn/*",), {"steps": _half(config)}, kept),
        (
            STEPS[2],
            {"train_detector": False, "freeze_backbone": True},
            (_NOT_PROPOSALS,),
            {"init": str(folder / STEPS[1])},
            None,
        ),
        (
            STEPS[3],
            {"train_rpn": False, "freeze_backbone": True},
            ("rpn/*", _CONVOLUTIONS, *shared),
            {"init": str(folder / STEPS[2]), "steps": _half(config)},
            None,
        ),
    ]
    outcome = None
    for name, of_model, frozen, of_run, proposals in plan:
        step = dataclasses.replace(
            config,
            four_steps=False,
            workdir=str(folder / name),
            model=config.model.replace(**of_model),
            optim=dataclasses.replace(config.optim, frozen=(*config.optim.frozen, *frozen)),
            **of_run,
        )
        if proposals is not None:
            count = _write_proposals(config, folder / STEPS[0], proposals)
            step = dataclasses.replace(
                step, input=dataclasses.replace(step.input, proposals=count, proposals_from=str(proposals))
            )
        outcome = run.train(step)
        if outcome.stopped:
            break
    assert outcome is not None  # there are four steps
    return outcome


def _half(config: DetectionConfig) -> int:
    assert config.steps is not None  # `run.with_steps` has been here
    return max(1, config.steps // 2)


def _write_proposals(config: DetectionConfig, net: AnyPath, folder: AnyPath) -> int:
    """Writes an RPN's proposals for both splits, unless they exist; returns the largest number per image."""
    loaded = rebuild([Detection], find_checkpoint(net))
    # As many as training has, from as many anchors; evaluation's are fewer.
    before, after = loaded.model.rpn_pre_nms_top_n[0], loaded.model.rpn_post_nms_top_n[0]
    model = loaded.model.clone(rpn_pre_nms_top_n=(before, before), rpn_post_nms_top_n=(after, after))

    @compiled
    def propose(variables: Any, images: jax.Array, sizes: jax.Array) -> Any:
        return model.apply(variables, loaded.task.normalize(images), sizes, method="propose")

    variables, data = jax.device_put(loaded.variables), config.input
    task = loaded.task.reconfigured(input=data, eval=config.eval)
    for split in (data.train_split, data.eval_split):
        _, source = task.matched(Detection.open(config, split))
        place = folder / source.name / source.split
        if place.is_dir():
            continue
        boxes: list[np.ndarray] = [np.zeros((0, 4), np.float32)] * len(source)
        for batch in whole_split(task, source)():
            found = jax.device_get(propose(variables, batch["image"], batch["size"]))
            original = restore_boxes(found.boxes, batch["scale"], batch["original_size"])
            for row in np.flatnonzero(batch["valid"]):
                boxes[batch["index"][row]] = original[row][found.valid[row]].astype(np.float32)
        ids = [str(index) for index in range(len(source))]
        origin = {"checkpoint": str(loaded.place), "images": digest_of_source(source, here=False)}
        with written_folder(place.parent) as local:
            write_proposals(local / source.split, ids, boxes, origin)
    return after
