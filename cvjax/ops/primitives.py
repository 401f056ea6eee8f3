"""Makes primitives whose lowering is chosen when a program is compiled for a platform.

`jax.lax.platform_dependent` chooses as well, but JAX differentiates through it, so differentiation decides how the
gradient of a fast forward pass is computed. A primitive names its derivative itself. So each direction has a lowering
of its own, and programs exported for another platform hold that platform's.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from cvjax.ops.height import height_mesh
from cvjax.runtime.compiler import is_stored

Function = Callable[..., jax.Array]


def platform_primitive(
    name: str, *, xla: Function, cpu: Function, local_cpu: Function | None = None, split: Function | None = None
) -> Primitive:
    """Makes a primitive with one result, computed by `cpu` on CPU and by `xla` everywhere else.

    Where the height of maps is split over devices (`cvjax.ops.height`), `split` computes it on every platform: there
    an exchange of whole maps costs more than any lowering gains.

    Args:
      name: Name of the primitive in a jaxpr.
      xla: `(*arrays, geometry) -> array` in XLA's own operations; it also gives the result's shape and dtype.
      cpu: The same function, in operations that are fast on CPU.
      local_cpu: Function in place of `cpu` for programs that are compiled for a CPU of this process, that XLA need not
        split over devices, and that JAX does not store (`cvjax.runtime.compiler.unstored`). It may call libraries of
        this process, which exported programs, XLA's partitioner and its writer of programs do not know.
      split: Function in operations that XLA's partitioner splits by rows without collecting a map; `xla` by default.

    Returns:
      The primitive; bind it with `bind`. It has no derivatives and no batching rule yet.
    """
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="geometry"))

    def result(*avals: Any, geometry: Hashable) -> Any:
        # Traced, not computed by hand: so manual axes (shard_map) and explicit shardings follow XLA's own rules.
        return jax.make_jaxpr(partial(xla, geometry=geometry))(*avals).out_avals[0]

    primitive.def_abstract_eval(result)
    split = split or xla
    mlir.register_lowering(primitive, _rule(split, xla, xla))
    mlir.register_lowering(primitive, _rule(split, cpu, local_cpu or cpu), platform="cpu")
    return primitive


def _rule(split: Function, usual: Function, local: Function) -> Callable[..., Any]:
    by_rows, elsewhere, here = (mlir.lower_fun(f, multiple_results=False) for f in (split, usual, local))

    def rule(context: mlir.LoweringRuleContext, *operands: Any, **parameters: Any) -> Any:
        if height_mesh() is not None:  # JAX lowers each operation under the mesh that it was traced under
            return by_rows(context, *operands, **parameters)
        return (here if _is_local(context.module_context) else elsewhere)(context, *operands, **parameters)

    return rule


def _is_local(module: Any) -> bool:
    """Tells whether a program runs in this process only, on one device or with all that crosses devices written out.

    A program that is to be stored does not: XLA's attempt to write one that calls a library reads memory at random.
    """
    if module.lowering_parameters.for_export or is_stored():
        return False
    axes = module.axis_context
    if hasattr(axes, "num_devices"):  # jit
        return axes.num_devices == 1
    if hasattr(axes, "mesh"):  # shard_map, and with it pmap
        return set(axes.manual_axes) == set(axes.mesh.axis_names)
    return False


def bind(primitive: Primitive, *arrays: jax.Array, geometry: Hashable) -> jax.Array:
    """Applies a primitive of `platform_primitive`.

    Under `jax.shard_map` all arrays must vary over the same device axes. This function makes them do so, and thereby
    sums the gradient of a kernel that all devices share.
    """
    axes = [_varying_axes(a) for a in arrays]
    everywhere = frozenset().union(*axes)
    arrays = tuple(
        jax.lax.pcast(a, tuple(everywhere - own), to="varying") if everywhere - own else a
        for a, own in zip(arrays, axes)
    )
    return primitive.bind(*arrays, geometry=geometry)


def _varying_axes(a: jax.Array) -> frozenset:
    kind = jax.typeof(a)
    manual = getattr(kind, "manual_axis_type", None)  # jax before 0.10.2 has `vma` on the type itself
    return kind.vma if manual is None else manual.varying


def is_explicitly_sharded(*arrays: jax.Array) -> bool:
    """Tells whether shardings are part of the arrays' types (`jax.sharding.AxisType.Explicit`)."""
    return any(axis is not None for a in arrays for axis in jax.typeof(a).sharding.spec)


def transpose(linear: Function, shape: tuple[int, ...], ct: jax.Array) -> jax.Array:
    """Applies the transpose of a linear function to a cotangent; `shape` is that of the function's argument."""
    example = jax.typeof(jax.lax.full_like(ct, 0, shape=shape))  # has the manual axes of ct
    (result,) = jax.linear_transpose(linear, example)(ct)
    return result


def define_bilinear(
    primitive: Primitive,
    transpose_first: Function,
    transpose_second: Function,
) -> None:
    """Defines the derivatives of a primitive that is linear in each of its two arrays.

    Args:
      primitive: Primitive of `platform_primitive`.
      transpose_first: `(cotangent, second, geometry) -> cotangent of the first array`.
      transpose_second: `(cotangent, first, geometry) -> cotangent of the second array`.
    """
    ad.defbilinear(
        primitive,
        lambda ct, x, y, geometry: transpose_first(ct, y, geometry),
        lambda ct, x, y, geometry: transpose_second(ct, x, geometry),
    )


def define_batching(primitive: Primitive, rule: Callable[..., tuple[jax.Array, int]]) -> None:
    """Defines how `jax.vmap` maps a primitive.

    Args:
      primitive: Primitive of `platform_primitive`.
      rule: `(size, *arrays, mapped, geometry) -> (array, axis)`. The mapped axis of each array is in front where
        `mapped` says so, and absent otherwise.
    """

    def batched(arrays: Sequence[jax.Array], axes: Sequence[int | None], *, geometry: Hashable):
        size = next(a.shape[axis] for a, axis in zip(arrays, axes) if axis is not None)
        arrays = [a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(arrays, axes)]
        return rule(size, *arrays, mapped=[axis is not None for axis in axes], geometry=geometry)

    batching.primitive_batchers[primitive] = batched
