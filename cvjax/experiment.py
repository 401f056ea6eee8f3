"""What every recipe in `experiments/` is written with, in one place.

    from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse

A recipe is a docstring and presets as values; its last line is `main(parse, PRESETS, __doc__)`.
"""

from cvjax.cli.commandline import parse
from cvjax.engine.distributed import ClusterConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.started import main
from cvjax.models.config import ModelConfig

__all__ = ["ClusterConfig", "ModelConfig", "OptimizerConfig", "main", "parse"]
