"""Gives the devices of accelerators that this machine does not have, so that programs can be compiled for them."""

import importlib.util
import os
from typing import Any

from cvjax.errors import ConfigError

_ALONE = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
"""Tells TPU's library that there is no TPU here, which another process may hold, nor a server that knows of some."""


_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  memory_bandwidth: 3352320000000
  device_memory_size: 84942979072
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
}
platform_name: "CUDA"
runtime_version { major: 12 minor: 8 }
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What CUDA says of an H100 SXM, in the form that XLA's compiler for GPUs takes it (GpuTargetConfigProto)."""


def tpu_devices(topology: str) -> list[Any]:
    """Returns the devices of a TPU topology, for which TPU's own compiler then compiles.

    They run nothing. The process needs the package libtpu and no TPU.

    Args:
      topology: Name such as "v5e:4x4".

    Raises:
      ConfigError: The package libtpu is missing, or it does not know the topology.
    """
    try:
        importlib.import_module("libtpu")
    except ImportError as error:
        raise ConfigError(
            "TPU's compiler is not installed, which compiles without a TPU; install the extra: pip install 'cvjax[aot]'"
        ) from error
    for name, value in _ALONE.items():
        os.environ.setdefault(name, value)
    return _devices(topology, "tpu", topology_name=topology)


def h100_devices(count: int) -> list[Any]:
    """Returns H100s of one host, for which XLA's compiler for GPUs then compiles. They run nothing.

    The process needs JAX's plugin for CUDA, and neither a GPU nor CUDA's libraries.

    Args:
      count: Number of devices.

    Raises:
      ConfigError: The plugin is missing.
    """
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        raise ConfigError(
            "XLA's compiler for GPUs is not installed, which compiles without one; install the extra: pip install"
            " 'cvjax[cuda]'"
        )
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # the plugin misses libraries that only run programs
    return _devices(f"h100:{count}", "cuda", topology_name="", target_config=_H100, topology=f"1x1x{count}")


def _devices(name: str, platform: str, **options: Any) -> list[Any]:
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform=platform, **options).devices)
    except Exception as error:  # what the library raises differs from version to version
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"the compiler does not know the topology {name} ({why}); choose another shape") from error
