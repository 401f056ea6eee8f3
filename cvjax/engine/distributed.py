"""This module joins the processes of a pod into one run."""

import dataclasses
import os

import jax

from cvjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Says which processes make up the run. Every host starts the same command.

    Attributes:
      distributed: Let JAX find the cluster (TPU pods, SLURM, Open MPI, Kubernetes describe themselves).
      coordinator: Address `host:port` of process 0, where the cluster does not describe itself.
      num_processes: Number of processes, with `coordinator`.
      process_id: Number of this process, with `coordinator`.
    """

    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def initialize(config: ClusterConfig) -> None:
    """Connects this process to the others. Call it once in each process, before anything touches a device.

    Raises:
      ConfigError: Only some of the flags are given, or no cluster answers.
    """
    given = [value is not None for value in (config.coordinator, config.num_processes, config.process_id)]
    if not config.distributed and not any(given):
        return
    if any(given) and not all(given):
        raise ConfigError(
            "cluster.coordinator, cluster.num-processes and cluster.process-id go together; give all three, or none"
            " and --cluster.distributed to let JAX find the cluster"
        )
    if "cpu" in os.environ.get("JAX_PLATFORMS", ""):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        if all(given):
            jax.distributed.initialize(config.coordinator, config.num_processes, config.process_id)
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no cluster could be joined ({str(error).splitlines()[0]}); start the command on every host, or give"
            " --cluster.coordinator HOST:PORT --cluster.num-processes N --cluster.process-id I"
        ) from error
