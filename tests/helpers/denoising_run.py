"""A run of the denoising task as a process of its own.

`python denoising_run.py WORKDIR DATA_DIR [resume] [slow] [HOST:PORT NUMBER]`, the last as one of two processes.
"""

import dataclasses
import sys
import time
from unittest import mock

from denoising import DenoisingConfig

from cvjax.engine import run
from cvjax.engine.config import ClusterConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.errors import UserError
from cvjax.tasks.scale_crop import ScaleAndCropData


def config(workdir: object, data_dir: object, *, resume: bool = False) -> DenoisingConfig:
    """Twelve steps on a prepared folder, a checkpoint after every third."""
    return DenoisingConfig(
        workdir=str(workdir),
        data_dir=str(data_dir),
        data="image_folder_segmentation",
        steps=12,
        batch_size=8,
        log_every=1,
        eval_every=6,
        checkpoint_every=3,
        keep=2,
        resume=resume,
        optim=OptimizerConfig(name="adamw", learning_rate=1e-2, warmup=0.0),
        input=ScaleAndCropData(crop=(48, 48), workers=0),
    )


def slowly(stream):
    """A stream of which every batch takes a while, so that a run can be killed between two steps."""

    def slow(*arguments, **options):
        for batch in stream(*arguments, **options):
            time.sleep(0.5)
            yield batch

    return slow


if __name__ == "__main__":
    chosen = config(sys.argv[1], sys.argv[2], resume="resume" in sys.argv)
    if sys.argv[-1].isdigit():
        cluster = ClusterConfig(coordinator=sys.argv[-2], num_processes=2, process_id=int(sys.argv[-1]))
        chosen = dataclasses.replace(chosen, cluster=cluster)
    streaming = slowly(run.train_stream) if "slow" in sys.argv else run.train_stream
    with mock.patch.object(run, "train_stream", streaming):
        try:
            run.train(chosen)
        except UserError as error:
            sys.exit(f"error: {error}")
