"""This module says what must be the same on all hosts of a run."""

from typing import Any

from cvjax.data.dataset import Dataset
from cvjax.data.identity import fingerprint_of, identity_of
from cvjax.engine.checkpoint import complete_steps
from cvjax.engine.config import RunConfig, as_json
from cvjax.engine.distributed import code_facts
from cvjax.storage import as_path, file_and_key, is_remote


def host_facts(config: RunConfig, train_set: Dataset, eval_set: Dataset) -> dict[str, Any]:
    """Returns what must be the same on all hosts of a run: code, configuration, both splits, and the checkpoints.

    Where the data lie may differ, and so may the number of worker processes.
    """
    settings = as_json(config)
    for own in ("workdir", "data_dir", "cluster"):
        del settings[own]
    start, key = (None, None) if config.init is None else file_and_key(config.init)
    if start is not None and is_remote(start):  # a run at a URL; of a file there is a copy here
        settings["init"] = (sorted(start.files_below().items()), key)
    elif start is not None and start.exists():
        files = sorted(path for path in start.rglob("*") if path.is_file()) if start.is_dir() else [start]
        settings["init"] = (fingerprint_of(files), key)
    for own in ("manual_dir", "proposals_from", "split_file", "workers"):
        settings["input"].pop(own, None)
    facts = {**code_facts(), "configuration": settings}
    for name, dataset in (("training", train_set), ("evaluation", eval_set)):
        facts[f"{name} split"] = {"data": dataset.name, "examples": len(dataset), **identity_of(dataset)}
    steps = complete_steps(as_path(config.workdir) / "checkpoints")
    return facts | {"latest checkpoint": steps[-1] if steps else "none"}
