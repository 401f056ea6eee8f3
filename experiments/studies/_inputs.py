"""What a net sees when it is scored, and how many classes it tells apart, for studies with nets of their own."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from cvjax.engine.config import RunConfig, resolve
from cvjax.engine.evaluate import whole_split
from cvjax.engine.run import training_split
from cvjax.engine.short_run import ShortRun


def scored_inputs(run: ShortRun) -> Iterator[tuple[jax.Array, Mapping[str, np.ndarray]]]:
    """Gives the normalized images [B, H, W, 3] that a run is scored on, with their batches.

    The last batch may hold rows that are no examples; `valid` [B] of the batch tells which are.
    """
    prepare: Any = jax.jit(lambda batch: run.scoring.prepare(batch, None)[0])
    for batch in whole_split(run.scoring, run.eval_set)():
        yield prepare(batch), batch


def classes_of(config: RunConfig) -> int:
    """Returns the number of classes of the data that a run trains on."""
    return len(training_split(resolve(config.task), config).class_names)
