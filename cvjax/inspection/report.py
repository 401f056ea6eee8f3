"""The report of an inspection holds what was found, as records and as a text for a person."""

import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from cvjax.files import json_text
from cvjax.visual.tables import quantity


@dataclass(frozen=True)
class LayerInfo:
    """Describes one layer.

    Attributes:
      name: Path of the module, such as "stage1_0/conv1". Pools and products outside of modules are named by their kind.
      kind: Kind of the layer, such as "Conv 3x3/2 dilation 2 groups 32". Stride, dilation and groups of 1 are left out.
      output_shape: Shape of the output without the batch.
      params: Number of trainable parameters; 0 where a module is called again.
      macs: Multiply-adds of convolutions and matrix products for one image. As in torchvision, timm and fvcore,
        normalization, activations, pools and resizing count nothing.
      activations: Number of elements that convolutions and matrix products put out for one image (2003.13678).
      receptive_field: (height, width) in pixels of the part of the image that one element of the output depends on.
        Padding counts as if the image went on. Only convolutions and windows count: global pooling beside them (the
        gates of squeeze-and-excitation, the image pooling of ASPP) is left out, and `gated` says that it is there.
        Deformable convolutions count as they start, with offsets of zero. Where the field differs from place to place,
        as after resizing, this is the largest. None means that the output does not depend on the image.
      stride: (down, right) pixels of the image from one element of the map to the next. None means that the output is
        no map.
      gated: Whether a map depends, through global pooling, on more than its receptive field.
      whole_image: Whether every element of the output depends on the whole image, gates included.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    activations: int
    receptive_field: tuple[int, int] | None
    stride: tuple[float, float] | None
    gated: bool
    whole_image: bool


@dataclass(frozen=True)
class Inspection:
    """Holds the result of `inspect_model`.

    Attributes:
      model: Name of the model.
      image_size: (height, width) of the image in pixels.
      params: Number of all parameters that `init` makes. Those used in training only (auxiliary heads) are included.
      layers: Layers in the order of inference.
      blocks: Modules that are made of layers, with the sums over their layers. They are in the order in which they end.
    """

    model: str
    image_size: tuple[int, int]
    params: int
    layers: tuple[LayerInfo, ...]
    blocks: tuple[LayerInfo, ...]

    @property
    def macs(self) -> int:
        """Returns the multiply-adds of one image's inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activations(self) -> int:
        """Returns the number of elements that convolutions and matrix products put out for one image."""
        return sum(layer.activations for layer in self.layers)

    @property
    def training_only_params(self) -> int:
        """Returns the number of parameters in layers that inference leaves out."""
        return self.params - sum(layer.params for layer in self.layers)

    def at_depth(self, depth: int | None) -> tuple[LayerInfo, ...]:
        """Returns the layers, with blocks in the place of layers that lie deeper than `depth` modules.

        A `depth` of None keeps all layers.
        """
        if depth is None:
            return self.layers
        blocks = {block.name: block for block in self.blocks}
        rows: dict[str, LayerInfo] = {}
        for i, layer in enumerate(self.layers):
            block = "/".join(layer.name.split("/")[:depth])
            if block in blocks:
                rows[block] = blocks[block]
            else:
                rows[f"{layer.name} {i}"] = layer
        return tuple(rows.values())

    def as_text(self, depth: int | None = None) -> str:
        """Returns a table of the layers (see `at_depth`) and a sentence of totals, with a newline at the end."""
        header = ("layer", "kind", "output", "params", "MACs", "field", "stride")
        rows = self.at_depth(depth)
        table = [header, *(_cells(row) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*table)]
        left = (True, True, False, False, False, False, False)
        lines = [
            "  ".join(c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(cells, widths, left)).rstrip()
            for cells in table
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        height, width = self.image_size
        lines += ["", f"{self.model} at {height}x{width}: {self.totals}"]
        if any(row.gated for row in rows):
            lines.append("+ and what global pooling lets in beside it")
        if self.training_only_params:
            lines.append(f"{quantity(self.training_only_params)} of the parameters are used in training only")
        return "\n".join(lines) + "\n"

    @property
    def totals(self) -> str:
        """Returns a sentence such as "25.6 M parameters, 4.09 G multiply-adds, 11.1 M activations"."""
        params, macs, activations = map(quantity, (self.params, self.macs, self.activations))
        return f"{params} parameters, {macs} multiply-adds, {activations} activations"

    def as_json(self) -> str:
        """Returns totals, layers and blocks under the names of the attributes, with a newline at the end."""
        totals = {
            "model": self.model,
            "image_size": self.image_size,
            "params": self.params,
            "training_only_params": self.training_only_params,
            "macs": self.macs,
            "activations": self.activations,
        }
        parts = {name: [asdict(info) for info in getattr(self, name)] for name in ("layers", "blocks")}
        return json_text(totals | parts, indent=2) + "\n"

    def save_png(self, path: str | pathlib.Path) -> None:
        """Draws parameters and activations along the depth, see `cvjax.visual.layers.plot_layers`.

        A bar stands for a convolution or a matrix product. The parameters of the normalization that follows count with
        it.

        Args:
          path: File to write.

        Raises:
          ConfigError: The file cannot be written.
        """
        from cvjax.visual.layers import plot_layers  # matplotlib takes its time

        shown: list[LayerInfo] = []
        waiting = 0
        for layer in self.layers:
            if layer.macs:
                shown.append(replace(layer, params=layer.params + waiting))
                waiting = 0
            elif shown:
                shown[-1] = replace(shown[-1], params=shown[-1].params + layer.params)
            else:
                waiting += layer.params
        height, width = self.image_size
        plot_layers(
            path,
            [layer.name for layer in shown],
            [layer.params for layer in shown],
            [layer.activations for layer in shown],
            title=f"{self.model} at {height}x{width}: {self.totals}",
        )


def with_sums(blocks: Iterable[LayerInfo], layers: Sequence[LayerInfo]) -> tuple[LayerInfo, ...]:
    """Returns the blocks with the parameters, multiply-adds and activations of the layers in them."""
    return tuple(
        replace(
            block,
            **{
                key: sum(getattr(layer, key) for layer in layers if layer.name.startswith(f"{block.name}/"))
                for key in ("params", "macs", "activations")
            },
        )
        for block in blocks
    )


def _cells(layer: LayerInfo) -> tuple[str, ...]:
    field = stride = "-"
    if layer.receptive_field is not None:
        field = _pair(layer.receptive_field)
    if layer.stride is not None:
        stride = _pair(layer.stride)
    elif layer.whole_image:
        field = "image"
    return (
        layer.name,
        layer.kind,
        "x".join(map(str, layer.output_shape)),
        quantity(layer.params) if layer.params else "-",
        quantity(layer.macs) if layer.macs else "-",
        field + "+" * layer.gated,
        stride,
    )


def _pair(values: tuple[float, float]) -> str:
    texts = [f"{value:.4g}" for value in values]
    return texts[0] if texts[0] == texts[1] else "x".join(texts)
