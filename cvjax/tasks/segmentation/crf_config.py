"""Configures a dense CRF, also as a word of a command line; nothing here needs JAX."""

import dataclasses
from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

from cvjax.errors import ConfigError
from cvjax.ops.crf.kernels import DEEPLAB_V1, DEEPLAB_V2, CRFKernels


@dataclasses.dataclass(frozen=True)
class CRFConfig(CRFKernels):
    """Configures a dense CRF.

    Attributes: those of `CRFKernels`, and
      iterations: Number of steps of mean field inference; 0 leaves probabilities as they are.
    """

    iterations: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 0:
            raise ConfigError(f"iterations of a CRF are {self.iterations}; give 0 or more, 10 is the papers' number")


CRFS = {
    "v1": CRFConfig(**dataclasses.asdict(DEEPLAB_V1)),
    "v2": CRFConfig(**dataclasses.asdict(DEEPLAB_V2)),
    "off": CRFConfig(iterations=0),
}
"""CRFs by name: those of DeepLab v1 and v2, and none."""
CRF_SYNTAX = f"{'|'.join(CRFS)}|SMOOTH_WEIGHT,SMOOTH_SIGMA,WEIGHT,SIGMA,COLOR_SIGMA[,ITERATIONS]"


def parse_crf(text: str) -> CRFConfig:
    """Parses a CRF from a command line: a name of `CRFS`, or 5 or 6 numbers in the order of the fields.

    Raises:
      ConfigError: The text is neither.
    """
    if text in CRFS:
        return CRFS[text]
    try:
        values = [float(part) for part in text.split(",")]
        if len(values) not in (5, 6):
            raise ValueError(f"{len(values)} numbers")
        smooth_weight, smooth_sigma, weight, sigma, color_sigma, *more = values
        iterations = int(more[0]) if more else CRFConfig.iterations
        return CRFConfig(smooth_weight, smooth_sigma, weight, sigma, color_sigma, iterations)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no CRF ({error}); give {CRF_SYNTAX}, as v2 or 3,1,4,67,3") from error


def format_crf(crf: CRFConfig) -> str:
    """Returns the text from which `parse_crf` makes the same CRF."""
    return next((name for name, known in CRFS.items() if known == crf), None) or ",".join(
        f"{value:g}" for value in dataclasses.astuple(crf)
    )


CRFFlag = Annotated[
    CRFConfig | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar=CRF_SYNTAX,
        instance_from_str=lambda words: None if words[0] == "None" else parse_crf(words[0]),
        is_instance=lambda value: value is None or isinstance(value, CRFConfig),
        str_from_instance=lambda value: ["None" if value is None else format_crf(value)],
    ),
]
"""A dense CRF as one word of a command line: `v1`, `v2`, `off`, or its numbers separated by commas."""
