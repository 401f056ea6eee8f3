"""This module joins the processes of a pod into one run."""

import collections
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cvjax.data.identity import digest_of_files
from cvjax.engine.guards.hosts import HostWatch
from cvjax.engine.guards.joining import join, place, store
from cvjax.engine.guards.pulse import Pulse
from cvjax.errors import ConfigError, UserError

_ROOM = 1 << 16  # Bytes that each host hands to the others at a time; the arrays of all hosts have one size.
_LONGEST = 100  # Characters of a value that a host hands over as it is.
_SHOWN = 4  # How many differences a message lists.


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Says which processes make up the run. Every host starts the same command.

    Attributes:
      distributed: Let JAX find the cluster (TPU pods, SLURM, Open MPI, Kubernetes describe themselves).
      coordinator: Address `host:port` of process 0, where the cluster does not describe itself.
      num_processes: Number of processes, with `coordinator`.
      process_id: Number of this process, with `coordinator`.
      wait: Seconds for which the hosts wait for one another at the start.
      silence: Seconds without a sign of life after which a host counts as lost, and the others stop.
    """

    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    wait: float = 300.0
    silence: float = 40.0


def initialize(config: ClusterConfig, pulse: Pulse | None = None) -> HostWatch | None:
    """Connects this process to the others. Call it once in each process, before anything touches a device.

    Args:
      config: Which processes make up the run.
      pulse: What the run does; other hosts hear of it.

    Returns:
      What watches over the other hosts, for `cvjax.engine.guards.hosts.watched`; None where there are none.

    Raises:
      ConfigError: Only some of the flags are given, or no cluster answers.
    """
    given = [value is not None for value in (config.coordinator, config.num_processes, config.process_id)]
    if not config.distributed and not any(given):
        return None
    if any(given) and not all(given):
        raise ConfigError(
            "--cluster.coordinator, --cluster.num-processes and --cluster.process-id go together; give all three, or"
            " none and --cluster.distributed to let JAX find the cluster"
        )
    if "cpu" in os.environ.get("JAX_PLATFORMS", ""):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        lost = join(
            wait=config.wait,
            silence=config.silence,
            coordinator_address=config.coordinator,
            num_processes=config.num_processes,
            process_id=config.process_id,
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no cluster could be joined ({str(error).splitlines()[0]}); start the command on every host, or give"
            " --cluster.coordinator HOST:PORT --cluster.num-processes N --cluster.process-id I"
        ) from error
    number, count = place()
    if count == 1:
        return None
    return HostWatch(
        store(),
        number=number,
        count=count,
        silence=config.silence,
        pulse=pulse or Pulse(),
        coordinator_lost=lost,
    )


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends all hosts if one of them fails inside of the block, so that none waits for it.

    Raises:
      UserError: Another host failed. The sentence names the host and says what it said.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        failure = error
    if jax.process_count() == 1:
        return
    said = "" if failure is None else str(failure) or type(failure).__name__
    sentences = _gather(said[: _ROOM // 16])  # a character takes up to 12 bytes
    if failure is not None and not isinstance(failure, UserError):
        raise failure
    failed = [number for number, sentence in enumerate(sentences) if sentence]
    if failed:
        raise UserError(f"host {failed[0]} cannot start: {sentences[failed[0]]}") from failure


def check_same_on_hosts(facts: Mapping[str, Any]) -> None:
    """Compares what must be the same on all hosts before a run starts; one that differs ends all of them.

    Args:
      facts: Values by name, as JSON knows them, maybe nested.

    Raises:
      ConfigError: The hosts differ; the sentence, the same on all of them, names one that does and how.
    """
    if jax.process_count() == 1:
        return
    flat = _flat(facts)
    if len(json.dumps(flat)) > _ROOM // 2:
        flat = {"everything": hashlib.sha256(json.dumps(flat).encode()).hexdigest()}
    rows = _gather([platform.node(), flat])
    sentence = difference_of_hosts([name for name, _ in rows], [row for _, row in rows])
    if sentence:
        raise ConfigError(sentence)


def rows_of_all(rows: np.ndarray) -> np.ndarray:
    """Returns the rows of all hosts, end to end; each host gives as many, of one shape and dtype."""
    return np.asarray(multihost_utils.process_allgather(rows, tiled=True))


def check_device_counts() -> None:
    """Checks that all hosts have as many devices each; JAX knows of all of them, so no host asks another.

    Raises:
      ConfigError: They have not; the sentence, the same on all of them, names one with more and one with fewer.
    """
    counts = collections.Counter(device.process_index for device in jax.devices())
    (most, many), (least, few) = counts.most_common(1)[0], counts.most_common()[-1]
    if many != few:
        raise ConfigError(
            f"host {most} has {many} {jax.devices()[0].platform} devices and host {least} has {few}; give each host of"
            " a run as many"
        )


def code_facts() -> dict[str, str]:
    """Returns the versions of this code and of JAX and a digest of its files, for `check_same_on_hosts`."""
    folder = pathlib.Path(__file__).resolve().parents[1]
    try:
        version = importlib.metadata.version("cvjax")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    files = digest_of_files(folder, folder.rglob("*.py"), times=False)
    return {"cvjax": version, "jax": jax.__version__, "source files": files}


def difference_of_hosts(names: Sequence[str], facts: Sequence[Mapping[str, str]]) -> str:
    """Says how a host differs from the most, in one sentence; an empty text if none does.

    Args:
      names: Name of each host's machine.
      facts: Values by name of each host.
    """
    kinds = collections.Counter(json.dumps(row, sort_keys=True) for row in map(dict, facts))
    if len(kinds) == 1:
        return ""
    texts = [json.dumps(dict(row), sort_keys=True) for row in facts]
    common = texts.index(kinds.most_common(1)[0][0])  # of equally many the kind of the first host
    odd = next(number for number, text in enumerate(texts) if text != texts[common])
    here, there = facts[odd], facts[common]
    keys = [key for key in {**there, **here} if here.get(key) != there.get(key)]
    shown = ", ".join(f"{key} {here.get(key, 'none')} and not {there.get(key, 'none')}" for key in keys[:_SHOWN])
    more = f" and {len(keys) - _SHOWN} more differences" if len(keys) > _SHOWN else ""
    return (
        f"the hosts of a run start alike, and host {odd} ({names[odd]}) differs from host {common} ({names[common]}):"
        f" it has {shown}{more}; give all hosts the same data, code and command"
    )


def _flat(facts: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Returns nested values as texts by name; long ones are cut off and end with their digest."""
    flat: dict[str, str] = {}
    for name, value in facts.items():
        place = f"{above}.{name}" if above else name
        if isinstance(value, Mapping):
            flat |= _flat(value, place)
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]
        flat[place] = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({digest})"
    return flat


def _gather(value: Any) -> list[Any]:
    """Returns the values of all hosts in order, as JSON holds them; together they fill at most `_ROOM` bytes."""
    row = np.frombuffer(json.dumps(value).encode().ljust(_ROOM), np.uint8)
    return [json.loads(bytes(part)) for part in np.asarray(multihost_utils.process_allgather(row))]
