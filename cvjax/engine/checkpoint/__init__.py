"""This folder writes and reads checkpoints: variables, optimizer and data position together, by orbax.

Orbax writes them in the background. The folder of checkpoints has one subfolder for each step:

    variables/   {"params", "batch_stats"} as trained
    ema/         the same, averaged; only in runs that average
    optimizer/   {"opt_state", "step"}
    info/        metadata as JSON: the run's configuration, the data position and the scores at that step
    files.json   the size and digest of each of these files, see `cvjax.engine.checkpoint.digests`

The folder of a step gets its name only once it is complete. Older folders are removed only after that. So a process
that is killed at any moment leaves the last complete checkpoint intact. A checkpoint whose files have changed since is
never read: the one before it is, and the reader is told.
"""

from cvjax.engine.checkpoint.manager import Checkpoints, Restored
from cvjax.engine.checkpoint.reading import (
    check_same_variables,
    complete_steps,
    find_checkpoint,
    read_metadata,
    read_stored_variables,
    read_variables,
)

__all__ = [
    "Checkpoints",
    "Restored",
    "check_same_variables",
    "complete_steps",
    "find_checkpoint",
    "read_metadata",
    "read_stored_variables",
    "read_variables",
]
