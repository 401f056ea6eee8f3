"""Counts the operations of convolutions and matrix products in a compiled program, and tells their kinds apart."""

import math
import re

from cvjax.inspection.hlo import Instruction, Program

FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT = (
    "convolution, forward",
    "convolution, gradient of input",
    "convolution, gradient of kernel",
)
PRODUCT = "matrix product"

_CUDNN = {
    "__cudnn$convForward": FORWARD,
    "__cudnn$convForwardGraph": FORWARD,
    "__cudnn$convBiasActivationForward": FORWARD,  # and adds a further operand
    "__cudnn$convBackwardInput": INPUT_GRADIENT,
    "__cudnn$convBackwardFilter": KERNEL_GRADIENT,
}
"""What a GPU's compiler calls convolutions: all three have the window and the labels of the forward one."""


def is_product(instruction: Instruction) -> bool:
    """Tells whether an instruction is a convolution or a matrix product."""
    return instruction.opcode in ("convolution", "dot") or _called(instruction) in _CUDNN


def kind_of(product: Instruction, op_name: str) -> str:
    """Returns the kind of a convolution or matrix product, which was traced from `op_name`."""
    if product.opcode == "custom-call":
        kind = _CUDNN[_called(product)]
        # Without strides the gradient of the input is a convolution of its own.
        return INPUT_GRADIENT if kind == FORWARD and "transpose(" in op_name else kind
    if product.opcode == "dot" or "size=" not in _attribute(product.attributes, "window"):
        return PRODUCT  # a TPU's compiler writes matrix products as convolutions without a window
    left, _, out = _labels(product)
    if "transpose(" not in op_name:
        return FORWARD
    # The gradient of a kernel has maps as its window, and gives a kernel; all others have it the other way round.
    sizes = re.search(r"size=([\dx]+)", _attribute(product.attributes, "window"))
    window = math.prod(map(int, sizes[1].split("x"))) if sizes else 1
    given = math.prod(size for size, label in zip(product.result.shape, out) if label.isdigit())
    if window == given:  # by the batch, which is summed over, and then stands where the features of a map stand
        return KERNEL_GRADIENT if left[0] == "f" or out[0] != "b" else INPUT_GRADIENT
    return KERNEL_GRADIENT if window > given else INPUT_GRADIENT


def flops_of(program: Program, computation: str, product: Instruction) -> int:
    """Returns the operations of a convolution or matrix product; products with padding's zeros do not count.

    Args:
      program: Program that it is part of.
      computation: Name of the computation that holds it.
      product: Convolution or matrix product.
    """
    body = program.by_name(computation)
    left, right = (body[name].result for name in product.operands[:2])
    result, called = product.result, _called(product)
    if product.opcode == "dot":
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", product.attributes)
        summed = 1
        for axis in found[1].split(",") if found else ():
            summed *= left.shape[int(axis)] if axis else 1
        return 2 * result.elements * summed
    if _CUDNN.get(called) == INPUT_GRADIENT:
        left, result = result, left
    elif _CUDNN.get(called) == KERNEL_GRADIENT:
        right, result = result, right
    sides, kernel, out = _labels(product)
    parts = [part.split("=") for part in _attribute(product.attributes, "window").split()]
    window = dict(parts)
    pairs = 1
    sizes = [int(size) for size in window.get("size", "").split("x") if size]
    for axis, size in enumerate(sizes):
        pairs *= _positions(
            inputs=left.shape[sides.index(str(axis))],
            outputs=result.shape[out.index(str(axis))],
            taps=size,
            stride=_at(window, "stride", axis),
            low=int(window["pad"].split("x")[axis].split("_")[0]) if "pad" in window else 0,
            spread=_at(window, "lhs_dilate", axis),
            dilation=_at(window, "rhs_dilate", axis),
        )
    groups = re.search(r"batch_group_count=(\d+)", product.attributes)
    batch = result.shape[out.index("b")]
    features = result.shape[out.index("f")]
    return 2 * pairs * batch * features * right.shape[kernel.index("i")] // (int(groups[1]) if groups else 1)


def _labels(convolution: Instruction) -> tuple[str, str, str]:
    found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", convolution.attributes)
    if found is None:
        raise ValueError(f"the convolution {convolution.name} has no dim_labels")
    return found[1], found[2], found[3]


def _called(instruction: Instruction) -> str:
    found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    return found[1] if found else ""


def _attribute(attributes: str, name: str) -> str:
    found = re.search(rf"{name}=\{{([^}}]*)\}}", attributes)
    return found[1] if found else ""


def _at(window: dict[str, str], name: str, axis: int) -> int:
    return int(window[name].split("x")[axis]) if name in window else 1


def _positions(*, inputs: int, outputs: int, taps: int, stride: int, low: int, spread: int, dilation: int) -> int:
    """Returns the number of pairs of an output and a tap that meet an element, not padding or what lies between."""
    count = 0
    for tap in range(taps):
        first = tap * dilation - low
        for output in range(outputs):
            place = first + output * stride
            count += 0 <= place <= (inputs - 1) * spread and place % spread == 0
    return count
