"""The rules say, for each equation of a jaxpr, what its results see of the image."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jax.extend.core import JaxprEqn

from cvjax.inspection import span
from cvjax.inspection.field import Constant, Field, Known, array_of, join
from cvjax.inspection.span import Span
from cvjax.ops.geometry import Geometry


def propagate(equation: JaxprEqn, inputs: Sequence[Known]) -> list[Known]:
    """Returns what the results of an equation see.

    An unknown operation that changes the shape is taken to mix everything that it reads.
    """
    constants = [known for known in inputs if isinstance(known, Constant)]
    if len(constants) == len(inputs):
        return [Constant.of(equation, constants, i) for i in range(len(equation.outvars))]
    if not any(isinstance(known, Field) for known in inputs):
        return [None] * len(equation.outvars)
    name = equation.primitive.name
    if name == "optimization_barrier":
        return list(inputs)
    if name in ("split", "unstack") and isinstance(inputs[0], Field):
        return {"split": _split, "unstack": _unstack}[name](equation, inputs[0])
    rule = _RULES.get(name, _reduction if name.startswith(("reduce_", "arg")) else _default)
    return [rule(equation, inputs)] * len(equation.outvars)


def _default(equation: JaxprEqn, inputs: Sequence[Known]) -> Field:
    shapes = [getattr(v.aval, "shape", ()) for v in (*equation.outvars, *equation.invars)]
    fields = [known for known in inputs if isinstance(known, Field)]
    whole = shapes[0]
    like = all(shape == () or len(shape) == len(whole) for shape in shapes)
    like = like and all(n in (1, m) for shape in shapes for n, m in zip(shape, whole))
    if not like or equation.primitive.name in _MIXING:
        return join([f.collapsed() for f in fields])
    return join([f.each(lambda s: s if s.dim is None else _repeated(s, whole[s.dim])) for f in fields])


def _repeated(s: Span, size: int) -> Span:
    return s if len(s.low) == size else s.taken(np.zeros(size, np.int64))


def _by_first(rule: Callable[[JaxprEqn, Span], Span]) -> Callable[[JaxprEqn, Sequence[Known]], Field]:
    """Makes a rule for operations on one array; other inputs (shapes, kernels) count with their whole fields."""

    def apply(equation: JaxprEqn, inputs: Sequence[Known]) -> Field:
        others = [known.collapsed() for known in inputs[1:] if isinstance(known, Field)]
        if not isinstance(inputs[0], Field):
            return join(others)
        changed = inputs[0].each(lambda s: s if s.dim is None else rule(equation, s))
        return join([changed, *others])

    return apply


def _convolution(equation: JaxprEqn, s: Span) -> Span:
    """Applies the rule of the convolution of `jax.lax`, in any layout."""
    p = equation.params
    (batch, channel, *places), kernel, (batch_out, _, *places_out) = p["dimension_numbers"]
    if s.dim == batch and p["batch_group_count"] == 1:
        return s.moved(batch_out)
    if s.dim in (batch, channel):
        return s.collapsed()
    i = places.index(s.dim)
    size = array_of(equation.invars[1]).shape[kernel[2 + i]]
    return s.windows(size, p["window_strides"][i], p["rhs_dilation"][i], p["padding"][i], p["lhs_dilation"][i]).moved(
        places_out[i]
    )


def _geometry(equation: JaxprEqn, s: Span) -> Span:
    """Applies the rule of convolution and pooling of `cvjax.ops`."""
    g: Geometry = equation.params["geometry"]
    if s.dim not in (1, 2):
        return s if s.dim == 0 or equation.primitive.name != "conv2d" else s.collapsed()
    i = s.dim - 1
    return s.windows(g.kernel_size[i], g.strides[i], g.kernel_dilation[i], g.padding[i], g.input_dilation[i])


def _window(equation: JaxprEqn, s: Span) -> Span:
    """Applies the rule of `jax.lax.reduce_window` and its variants."""
    p = equation.params
    names = ("window_dimensions", "window_strides", "window_dilation", "padding", "base_dilation")
    size, *rest = (p[name][s.dim] for name in names)
    return s.windows(size, *rest)


def _reduction(equation: JaxprEqn, inputs: Sequence[Known]) -> Field:
    axes = equation.params.get("axes", ())

    def reduce(s: Span) -> Span:
        return s.collapsed() if s.dim in axes else s.moved(s.axis - sum(axis < s.axis for axis in axes))

    fields = [known for known in inputs if isinstance(known, Field)]
    return join([f.each(lambda s: s if s.dim is None else reduce(s)) for f in fields])


def _pad(equation: JaxprEqn, s: Span) -> Span:
    before, after, between = equation.params["padding_config"][s.dim]
    return s.windows(1, padding=(before, after), spread=between + 1)


def _slice(equation: JaxprEqn, s: Span) -> Span:
    p = equation.params
    steps = p["strides"] or (1,) * (s.axis + 1)
    return s.taken(slice(p["start_indices"][s.axis], p["limit_indices"][s.axis], steps[s.axis]))


def _dynamic_slice(equation: JaxprEqn, s: Span) -> Span:
    whole = equation.params["slice_sizes"][s.dim] == array_of(equation.invars[0]).shape[s.axis]
    return s if whole else s.collapsed()


def _split(equation: JaxprEqn, field: Field) -> list[Known]:
    axis, ends = equation.params["axis"], np.cumsum(equation.params["sizes"])
    parts = [slice(end - size, end) for end, size in zip(ends, equation.params["sizes"])]
    return [field.each(lambda s, part=part: s.taken(part) if s.dim == axis else s) for part in parts]


def _unstack(equation: JaxprEqn, field: Field) -> list[Known]:
    axis = equation.params["axis"]

    def piece(s: Span, i: int) -> Span:
        if s.dim is None:
            return s
        return s.taken(slice(i, i + 1)).collapsed() if s.dim == axis else s.moved(s.dim - (axis < s.dim))

    return [field.each(partial(piece, i=i)) for i in range(len(equation.outvars))]


def _squeeze(equation: JaxprEqn, s: Span) -> Span:
    dims = equation.params["dimensions"]
    return s.collapsed() if s.dim in dims else s.moved(s.axis - sum(dim < s.axis for dim in dims))


def _broadcast(equation: JaxprEqn, s: Span) -> Span:
    dim = equation.params["broadcast_dimensions"][s.dim]
    return _repeated(s, equation.params["shape"][dim]).moved(dim)


def _reverse(equation: JaxprEqn, s: Span) -> Span:
    return s.taken(np.arange(len(s.low))[::-1]) if s.dim in equation.params["dimensions"] else s


def _concatenation(equation: JaxprEqn, inputs: Sequence[Known]) -> Field:
    dim = equation.params["dimension"]
    return _concatenated(inputs, [array_of(v).shape[dim] for v in equation.invars], dim)


def _stack(equation: JaxprEqn, inputs: Sequence[Known]) -> Field:
    axis = equation.params["axis"]

    def shift(s: Span) -> Span:
        return s if s.dim is None else s.moved(s.dim + (s.dim >= axis))

    shifted = [known.each(shift) if isinstance(known, Field) else None for known in inputs]
    return _concatenated(shifted, [1] * len(inputs), axis)


def _concatenated(inputs: Sequence[Known], sizes: Sequence[int], dim: int) -> Field:
    fields = [known if isinstance(known, Field) else None for known in inputs]
    rows, columns = (span.concatenate([f and f.spans[axis] for f in fields], sizes, dim) for axis in (0, 1))
    return Field(rows, columns)


def _gather(equation: JaxprEqn, inputs: Sequence[Known]) -> Field:
    """Applies the rule of a gather of whole slices along one dimension, as `jnp.take` with known indices does it.

    Any other gather mixes everything that it reads.
    """
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    field, indices = inputs[:2]
    if not isinstance(field, Field) or isinstance(indices, Field) or len(numbers.collapsed_slice_dims) != 1:
        return _default(equation, inputs)
    (dim,) = numbers.collapsed_slice_dims
    shape = array_of(equation.invars[0]).shape
    whole = all(size == n for i, (size, n) in enumerate(zip(sizes, shape)) if i != dim)
    new = [i for i in range(array_of(equation.outvars[0]).ndim) if i not in numbers.offset_dims]
    if tuple(numbers.start_index_map) != (dim,) or numbers.operand_batching_dims or len(new) != 1 or not whole:
        return _default(equation, inputs)
    kept = dict(zip((i for i in range(len(shape)) if i != dim), numbers.offset_dims))

    def take(s: Span) -> Span:
        if s.dim != dim:
            return s.moved(kept[s.axis])
        if not isinstance(indices, Constant):
            return s.collapsed()
        places = np.clip(indices.value[:, 0], 0, shape[dim] - 1)
        return Span(new[0], s.low[places], s.high[places], s.pace * shape[dim] / max(1, len(places)), s.gate)

    return field.each(lambda s: s if s.dim is None else take(s))


def _product(equation: JaxprEqn, inputs: Sequence[Known]) -> Field:
    """Applies the rule of matrix products.

    Where one factor is a known constant, as in resizing, its zeros see nothing.
    """
    contracted, batch = equation.params["dimension_numbers"]
    arrays = [array_of(v) for v in equation.invars]
    free = [[i for i in range(a.ndim) if i not in c and i not in b] for a, c, b in zip(arrays, contracted, batch)]
    first = (len(batch[0]), len(batch[0]) + len(free[0]))  # where the free dimensions of either begin in the result

    def result(side: int, other: Known, s: Span) -> Span:
        if s.dim is None:
            return s
        if s.dim in batch[side]:
            return s.moved(batch[side].index(s.dim))
        if s.dim in free[side]:
            return s.moved(first[side] + free[side].index(s.dim))
        there = 1 - side
        if not isinstance(other, Constant) or len(contracted[0]) > 1 or len(free[there]) != 1:
            return s.collapsed()
        order = (*batch[there], free[there][0], contracted[there][0])
        weights = np.abs(other.value.transpose(order)).reshape(-1, *(other.value.shape[i] for i in order[-2:]))
        return s.mixed(weights.max(axis=0)).moved(first[there])

    return join(
        [
            known.each(partial(result, side, inputs[1 - side]))
            for side, known in enumerate(inputs)
            if isinstance(known, Field)
        ]
    )


_MIXING = frozenset(
    {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "fft", "scan", "while", "cond", "cholesky"}
)
_RULES: dict[str, Callable[[JaxprEqn, Sequence[Known]], Field]] = {
    "conv2d": _by_first(_geometry),
    "channel_affine": _by_first(lambda _, s: s),
    "max_pool": _by_first(_geometry),
    "sum_pool": _by_first(_geometry),
    "mix_rows": _by_first(lambda e, s: s.mixed(np.abs(e.params["geometry"].matrix)) if s.dim == 1 else s),
    "conv_general_dilated": _by_first(_convolution),
    "dot_general": _product,
    "pad": _by_first(_pad),
    "slice": _by_first(_slice),
    "dynamic_slice": _by_first(_dynamic_slice),
    "gather": _gather,
    "concatenate": _concatenation,
    "stack": _stack,
    "transpose": _by_first(lambda e, s: s.moved(e.params["permutation"].index(s.dim))),
    "reshape": _by_first(lambda e, s: s.reshaped(array_of(e.invars[0]).shape, e.params["new_sizes"])),
    "squeeze": _by_first(_squeeze),
    "broadcast_in_dim": _by_first(_broadcast),
    "rev": _by_first(_reverse),
    **{f"reduce_window{kind}": _by_first(_window) for kind in ("", "_max", "_min", "_sum")},
}
