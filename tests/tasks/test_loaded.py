"""What is rebuilt from a checkpoint is of a task that was asked for."""

import orbax.checkpoint as ocp
import pytest

from cvjax.errors import CheckpointError
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.load import TASKS
from cvjax.tasks.loaded import rebuild

_MODEL = {"format": 2, "model": {"name": "unet", "options": {}}}


@pytest.fixture
def place(tmp_path):
    """A checkpoint's metadata alone, read before all else."""

    def write(metadata):
        (tmp_path / "variables").mkdir()
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as writer:
            writer.save(tmp_path / "info", metadata)
        return tmp_path

    return write


def test_another_task_is_refused_by_name(place):
    with pytest.raises(CheckpointError, match=r"info is of the task 'segmentation'; give a checkpoint of detection$"):
        rebuild([Detection], place({**_MODEL, "task": {"kind": "segmentation"}}))


@pytest.mark.parametrize("metadata", [_MODEL, {**_MODEL, "task": {"kind": "depth"}}])
def test_tasks_that_this_version_lacks_are_refused(place, metadata):
    kinds = "classification, detection, masks, segmentation"
    with pytest.raises(CheckpointError, match=f"is of the task .*; give a checkpoint of {kinds}$"):
        rebuild(TASKS, place(metadata))
