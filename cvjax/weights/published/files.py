"""Describes the files of weights that people published, and shows many as a table."""

import dataclasses

from cvjax.models.info import Figure

_FORMATS = {
    ".caffemodel": "Caffe",
    ".gz": "TensorFlow",
    ".safetensors": "safetensors",
    ".weights": "darknet",
    ".pth": "PyTorch",
    ".th": "PyTorch",
}


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """Describes a file of published weights.

    Attributes:
      model: Name of the model that they are of, one of `cvjax.list_models()`.
      layout: Name of the layout that they are in, see `cvjax.weights.to_torch`.
      whose: Who published it.
      file: Name of the file, or of the archive that holds it.
      figure: Accuracy that its publisher or the paper states; None where none was found.
      name: Name that `load_pretrained` takes; None for a file that has to be fetched by hand, whose path it takes.
      default: Whether the name of the model alone stands for these.
      address: Where it is fetched from.
    """

    model: str
    layout: str
    whose: str
    file: str
    figure: Figure | None = None
    name: str | None = None
    default: bool = False
    address: str | None = None

    @property
    def format(self) -> str:
        """Returns the name of the file's format."""
        ending = self.file[self.file.rfind(".") :]
        return _FORMATS.get(ending, "Caffe")  # the first releases from Caffe have no ending


class PublishedFiles(tuple[PublishedFile, ...]):
    """Holds rows of files, which print as a table."""

    def __str__(self) -> str:
        """Returns a table with a line for each file; a star marks the default of a model."""
        head = ("  name, or file to fetch by hand", "model", "whose", "format", "published")
        lines: list[tuple[str, ...]] = [head]
        for row in self:
            mark = "* " if row.default else "  "
            figure = "" if row.figure is None else str(row.figure)
            lines.append((f"{mark}{row.name or row.file}", row.model, row.whose, row.format, figure))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    __repr__ = __str__
