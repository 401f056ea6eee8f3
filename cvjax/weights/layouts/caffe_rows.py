"""Lists the names that the layers of the authors' Caffe nets have, beside those of our modules.

A row is (pattern on our module path, Caffe's name); "bn|scale" names a BatchNorm in two layers, see
`cvjax.weights.layouts.caffe`.
"""

from collections.abc import Iterator

Rows = tuple[tuple[str, str], ...]


def under(prefix: str, rows: Rows) -> Rows:
    """Returns rows whose modules of ours lie in another one."""
    return tuple((rf"{prefix}/{ours}", theirs) for ours, theirs in rows)


VGG = ((r"(conv\d_\d)", r"\1"),)
VGG_DENSE = ((r"head/(fc\d)", r"\1"),)


def numbered(count: int) -> Rows:
    """Returns rows of convolutions that Caffe counts from 1, where we count from 0."""
    return tuple((rf"conv_{number}", rf"conv{number + 1}") for number in range(count))


_INCEPTION = {
    "branch1": "1x1",
    "branch2_0": "3x3_reduce",
    "branch2_1": "3x3",
    "branch3_0": "5x5_reduce",
    "branch3_1": "5x5",
    "branch4_1": "pool_proj",
}
GOOGLENET = (
    (r"conv1/conv", "conv1/7x7_s2"),
    (r"conv2/conv", "conv2/3x3_reduce"),
    (r"conv3/conv", "conv2/3x3"),
    *((rf"inception(\d\w)/{ours}/conv", rf"inception_\1/{theirs}") for ours, theirs in _INCEPTION.items()),
    (r"head", "loss3/classifier"),
    *(
        (rf"aux{n}/{ours}", f"loss{n}/{theirs}")
        for n in (1, 2)
        for ours, theirs in (("conv/conv", "conv"), ("fc1", "fc"), ("fc2", "classifier"))
    ),
)


def nin(last: tuple[str, str, str]) -> Rows:
    """Returns rows of NIN, whose layers have their number in the net, but for the names of the last three."""
    rows = []
    for stage in range(4 if last[0] != "conv3" else 3):
        names = (f"conv{stage + 1}", f"cccp{2 * stage + 1}", f"cccp{2 * stage + 2}")
        rows += [(rf"mlpconv_{stage}_{place}", name) for place, name in enumerate(names)]
    return (*rows[:-3], *((ours, theirs) for (ours, _), theirs in zip(rows[-3:], last)))


def densenet() -> Rows:
    """Returns rows of shicai's DenseNets."""
    return (
        (r"stem_conv", "conv1"),
        (r"stem_bn", "conv1/bn|conv1/scale"),
        *(
            row
            for block in range(1, 5)
            for row in (
                (rf"block{block}_layer(\d+)/conv(\d)", rf"conv{block + 1}_\1/x\2"),
                (rf"block{block}_layer(\d+)/norm(\d)", rf"conv{block + 1}_\1/x\2/bn|conv{block + 1}_\1/x\2/scale"),
                (rf"transition{block}/conv", f"conv{block + 1}_blk"),
                (rf"transition{block}/norm", f"conv{block + 1}_blk/bn|conv{block + 1}_blk/scale"),
            )
        ),
        (r"last_bn", "conv5_blk/bn|conv5_blk/scale"),
        (r"head", "fc6"),
    )


def _blocks(sizes: tuple[int, ...]) -> Iterator[tuple[int, int, str]]:
    """Yields (stage, block, MSRA's name of it): 2a, 2b, 2c, and in long stages 3a, 3b1, 3b2."""
    for stage, count in enumerate(sizes, start=1):
        long = stage in (2, 3) and sizes != (3, 4, 6, 3)
        for block in range(count):
            letter = f"b{block}" if long and block else "abcdef"[block]
            yield stage, block, f"{stage + 1}{letter}"


def msra(sizes: tuple[int, ...]) -> Rows:
    """Returns rows of MSRA's ResNet of so many blocks a stage, without its classifier."""
    rows = [(r"stem_conv_0", "conv1"), (r"stem_bn_0", "bn_conv1|scale_conv1")]
    for stage, block, name in _blocks(sizes):
        parts = {"1": "branch2a", "2": "branch2b", "3": "branch2c"}
        ours = rf"stage{stage}_{block}"
        for number, part in parts.items():
            rows += [
                (rf"{ours}/conv{number}", f"res{name}_{part}"),
                (rf"{ours}/bn{number}", f"bn{name}_{part}|scale{name}_{part}"),
            ]
        rows += [
            (rf"{ours}/downsample_conv", f"res{name}_branch1"),
            (rf"{ours}/downsample_bn", f"bn{name}_branch1|scale{name}_branch1"),
        ]
    return tuple(rows)


def senet(sizes: tuple[int, ...], stem: tuple[str, ...]) -> Rows:
    """Returns rows of Momenta's SENet of so many blocks a stage, with the convolutions of its stem."""
    rows = []
    for place, name in enumerate(stem):
        rows += [(rf"stem_conv_{place}", name), (rf"stem_bn_{place}", f"{name}/bn|{name}/bn/scale")]
    parts = {"conv1": "1x1_reduce", "conv2": "3x3", "conv3": "1x1_increase", "downsample_conv": "1x1_proj"}
    for stage, count in enumerate(sizes, start=1):
        for block in range(count):
            ours, theirs = rf"stage{stage}_{block}", f"conv{stage + 1}_{block + 1}"
            for part, name in parts.items():
                bn, layer = part.replace("conv", "bn"), f"{theirs}_{name}"
                rows += [(rf"{ours}/{part}", layer), (rf"{ours}/{bn}", f"{layer}/bn|{layer}/bn/scale")]
            rows += [
                (rf"{ours}/squeeze_excite/reduce", f"{theirs}_1x1_down"),
                (rf"{ours}/squeeze_excite/expand", f"{theirs}_1x1_up"),
            ]
    return (*rows, (r"head", "classifier"))
