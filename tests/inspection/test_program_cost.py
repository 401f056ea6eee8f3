"""What a compiled program costs: against values counted by hand, and against XLA's own count."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cvjax.inspection import products, program_cost
from cvjax.inspection.hlo import ArrayType, parse_program, parse_types
from cvjax.inspection.program_cost import Collective, Cost, block_of, cost_of

# A small step as a TPU's compiler writes it down. S(1) is memory on the core.
PROGRAM = pathlib.Path(__file__).with_name("step.hlo").read_text()
MAP_IN, MAP_OUT, KERNEL = 2 * 8 * 8 * 4 * 2, 2 * 8 * 8 * 16 * 2, 3 * 3 * 4 * 16 * 2


def test_counts_by_hand():
    cost = cost_of(parse_program(PROGRAM))
    # 22 of the 24 pairs of an output and a tap lie inside, along each axis.
    flops = 2 * 22 * 22 * 2 * 4 * 16
    forward = cost.kinds[products.FORWARD]
    # The kernel is read from the main memory into the core, and read again there: the copy serves the convolution.
    assert forward == Cost(flops, 2 * KERNEL + KERNEL + MAP_IN + 16 * 4 + MAP_OUT, KERNEL + MAP_IN + MAP_OUT)
    assert cost.kinds[products.KERNEL_GRADIENT] == Cost(flops, *2 * [MAP_IN + MAP_OUT + KERNEL])
    # Of the hundred rows four are read. The scalar lies in tiles of 128.
    assert cost.kinds[program_cost.UPDATE] == Cost(0, 4 + 2 * 4 * 16 * 4, 128 * 4 + 2 * 4 * 16 * 4)
    looped = 3 * 2 * 64 * 4
    copied = 64  # the last instruction copies the sum of all chips from the core to the main memory
    exchanged = Cost(0, 2 * 64 + 2 * KERNEL + looped + 2 * copied, 2 * KERNEL + looped + copied)
    assert cost.kinds[program_cost.COLLECTIVE] == exchanged
    assert cost.total == sum(cost.kinds.values(), Cost())
    assert cost.blocks["stage1_0"] == forward + cost.kinds[products.KERNEL_GRADIENT]


def test_exchanges_by_hand():
    assert cost_of(parse_program(PROGRAM)).collectives == (
        Collective("all-reduce", 64, 4, "jit(train_step)/jvp(Net)/bn1/reduce_sum"),
        Collective("all-reduce", KERNEL, 8, ""),
        Collective("all-gather", 256, 2, "", times=3),
    )


FUSED = """
HloModule jit_train_step

%all-reduce-scatter.1 (a: f32[16,4]) -> f32[2,4] {
  %a = f32[16,4]{1,0} parameter(0)
  %sum = f32[16,4]{1,0} all-reduce(%a), channel_id=1, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  ROOT %own = f32[2,4]{1,0} dynamic-slice(%sum), dynamic_slice_sizes={2,4}
}

%begun (b: bf16[1,4]) -> bf16[8,4] {
  %b = bf16[1,4]{1,0} parameter(0)
  ROOT %g = bf16[8,4]{1,0} all-gather(%b), channel_id=2, replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
}

%ended (c: bf16[1,4]) -> bf16[8,4] {
  %c = bf16[1,4]{1,0} parameter(0)
  ROOT %h = bf16[8,4]{1,0} all-gather(%c), channel_id=2, replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
}

ENTRY %main (x: f32[16,4], y: bf16[1,4]) -> f32[2,4] {
  %x = f32[16,4]{1,0} parameter(0)
  %y = bf16[1,4]{1,0} parameter(1)
  %s = bf16[8,4]{1,0} fusion(%y), kind=kCustom, calls=%begun
  %d = bf16[8,4]{1,0} fusion(%y), kind=kCustom, calls=%ended
  ROOT %f = f32[2,4]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_fused_exchanges_count_once():
    assert cost_of(parse_program(FUSED)).collectives == (
        Collective("all-gather", 8 * 4 * 2, 8, ""),
        Collective("reduce-scatter", 16 * 4 * 4, 8, ""),
    )


CUDNN = """
HloModule jit_train_step

ENTRY %main (x: bf16[2,9,9,4], k: bf16[16,3,3,4], ct: bf16[2,5,5,16]) -> bf16[2,5,5,16] {
  %x = bf16[2,9,9,4]{3,2,1,0} parameter(0)
  %k = bf16[16,3,3,4]{3,2,1,0} parameter(1)
  %ct = bf16[2,5,5,16]{3,2,1,0} parameter(2)
  %b = bf16[16]{0} parameter(3)
  %f = (bf16[2,5,5,16]{3,2,1,0}, u8[7]{0}) custom-call(%x, %k), WHERE, custom_call_target="__cudnn$convForward"
  %i = (bf16[2,9,9,4]{3,2,1,0}, u8[0]{0}) custom-call(%ct, %k), WHERE, custom_call_target="__cudnn$convBackwardInput"
  %w = (bf16[16,3,3,4]{3,2,1,0}, u8[0]{0}) custom-call(%x, %ct), WHERE, custom_call_target="__cudnn$convBackwardFilter"
  %s = (bf16[2,5,5,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k, %b, %ct), WHERE, \
custom_call_target="__cudnn$convBiasActivationForward", metadata={op_name="jit(f)/transpose(jvp(Net))/conv1/conv"}
  ROOT %y = bf16[2,5,5,16]{3,2,1,0} get-tuple-element(%f), index=0
}
""".replace("WHERE", "window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f")


def test_calls_of_cudnn_by_hand():
    kinds = cost_of(parse_program(CUDNN)).kinds
    # Of the 15 pairs of an output and a tap along an axis, the first and the last one meet padding.
    flops, x, k, y = 2 * 13 * 13 * 2 * 4 * 16, 2 * 9 * 9 * 4 * 2, 3 * 3 * 4 * 16 * 2, 2 * 5 * 5 * 16 * 2
    assert kinds[products.FORWARD] == Cost(flops, x + k + y + 7, x + k + y + 7)
    gradient = Cost(flops, x + k + y, x + k + y)
    assert kinds[products.KERNEL_GRADIENT] == gradient
    # One of them is written as a convolution that adds the gradient of a shortcut.
    assert kinds[products.INPUT_GRADIENT] == gradient + gradient + Cost(0, y + 32, y + 32)


def test_tiles_pad_the_innermost_dimensions():
    (array,) = parse_types("bf16[128,28,28,64]{3,0,2,1:T(8,128)(2,1)S(1)}")
    assert array == ArrayType("bf16", (128, 28, 28, 64), (3, 0, 2, 1), (8, 128), 1)
    assert (array.bytes, array.stored_bytes) == (128 * 28 * 28 * 64 * 2, 128 * 28 * 28 * 128 * 2)
    (batch_inside,) = parse_types("bf16[128,28,28,64]{0,3,2,1:T(8,128)(2,1)}")
    assert batch_inside.stored_bytes == batch_inside.bytes
    assert [a.bytes for a in parse_types("(pred[7]{0}, (s4[3]{0}, f32[]{:T(128)}), token[])")] == [7, 2, 4, 0]


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no HLO program"):
        parse_program("%computation () -> f32[] {\n}\n")


def test_blocks_are_modules_and_not_methods():
    assert block_of("jit(train_step)/jvp(ResNet)/ResNet.features/ResNet._through/stage2_3/conv1/dot") == "stage2_3"
    assert block_of("jit(f)/transpose(jvp(DeepLab))/backbone/backbone.features/stage1_0/bn1/sub") == "backbone/stage1_0"
    assert block_of("jit(train_step)/jvp()/reduce_sum") == ""
    assert block_of("jit(train_step)/add") == ""


CONVOLUTIONS = [
    {"window_strides": (1, 1), "padding": ((1, 1), (1, 1))},
    {"window_strides": (2, 2), "padding": ((3, 2), (0, 1))},
    {"window_strides": (1, 2), "padding": ((4, 4), (2, 2)), "rhs_dilation": (4, 2)},
    {"window_strides": (1, 1), "padding": ((2, 1), (1, 2)), "lhs_dilation": (2, 2)},
    {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "feature_group_count": 2},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("gradient", [None, 0, 1])
def test_operations_are_those_that_xla_counts(options, gradient):
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)

    inside = 8 // options.get("feature_group_count", 1)
    x, kernel = jnp.ones((2, 9, 11, 8)), jnp.ones((3, 3, inside, 6))
    function, arrays = convolve, (x, kernel)
    if gradient is not None:
        out, given = jnp.ones(jax.eval_shape(convolve, x, kernel).shape), arrays[gradient]

        def function(ct: jax.Array, other: jax.Array) -> jax.Array:
            both = (lambda a: convolve(a, other)) if gradient == 0 else (lambda a: convolve(other, a))
            return jax.linear_transpose(both, given)(ct)[0]

        arrays = out, arrays[1 - gradient]
    compiled = jax.jit(function).lower(*arrays).compile()
    counted = cost_of(parse_program(compiled.as_text())).total.flops
    assert counted > 0
    np.testing.assert_allclose(counted, compiled.cost_analysis()["flops"], rtol=0.01)


def test_exchanges_of_a_real_program():
    mesh = jax.make_mesh((8,), ("x",))
    rows, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=rows)
    compiled = jax.jit(lambda x: (x.sum(0), x), out_shardings=(whole, whole)).lower(x).compile()
    found = cost_of(parse_program(compiled.as_text())).collectives
    assert {(one.kind, one.bytes, one.group) for one in found} == {
        ("all-reduce", 32 * 4, 8),
        ("all-gather", 16 * 32 * 4, 8),
    }


def test_gradients_of_one_image_are_told_apart():
    """With a batch of one the compiler exchanges the batch with other dimensions, so labels alone tell nothing."""
    program = """
HloModule jit_train_step

ENTRY %main (ct: bf16[9,9,1,16], k: bf16[3,3,4,16], x: bf16[9,9,1,4]) -> bf16[9,9,1,4] {
  %ct = bf16[9,9,1,16]{3,2,1,0} parameter(0)
  %k = bf16[3,3,4,16]{3,2,1,0} parameter(1)
  %x = bf16[9,9,1,4]{3,2,1,0} parameter(2)
  %w = bf16[3,3,4,16]{3,2,1,0} convolution(%x, %ct), window={size=9x9 pad=1_1x1_1}, dim_labels=01fb_01io->01bf, NAME
  ROOT %i = bf16[9,9,1,4]{3,2,1,0} convolution(%ct, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=01bf_01oi->01bf, NAME
}
""".replace("NAME", 'metadata={op_name="jit(train_step)/transpose(jvp(Net))/conv1/conv"}')
    kinds = cost_of(parse_program(program)).kinds
    flops = 2 * 25 * 25 * 4 * 16  # of the 27 pairs along an axis, two meet padding
    assert {name: cost.flops for name, cost in kinds.items()} == {
        products.KERNEL_GRADIENT: flops,
        products.INPUT_GRADIENT: flops,
    }
