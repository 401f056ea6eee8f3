"""Gives the devices of accelerators that this machine does not have, so that programs can be compiled for them."""

import os
from typing import Any

from cvjax.errors import ConfigError

_ALONE = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
"""Tells TPU's library that there is no TPU here, nor a server that knows of some."""


def tpu_devices(topology: str) -> list[Any]:
    """Returns the devices of a TPU topology, for which TPU's own compiler then compiles.

    They run nothing. The process needs the package libtpu and no TPU.

    Args:
      topology: Name such as "v5e:4x4".

    Raises:
      ConfigError: The package libtpu is missing, or it does not know the topology.
    """
    try:
        import libtpu  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "TPU's compiler is not installed, which compiles without a TPU; install the extra: pip install 'cvjax[aot]'"
        ) from error
    from jax.experimental import topologies

    for name, value in _ALONE.items():
        os.environ.setdefault(name, value)
    try:
        return list(topologies.get_topology_desc(topology_name=topology, platform="tpu").devices)
    except Exception as error:  # what the library raises differs from version to version
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(
            f"TPU's compiler does not know the topology {topology} ({why}); choose another shape"
        ) from error
