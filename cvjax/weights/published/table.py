"""Says which file of weights gives which published accuracy."""

import fnmatch
from collections.abc import Iterator

from cvjax.models import list_models
from cvjax.weights.published.authors import authors_files
from cvjax.weights.published.files import PublishedFile, PublishedFiles
from cvjax.weights.published.names import DEFAULTS, HUB, PUBLISHED


def list_pretrained(pattern: str | None = None) -> PublishedFiles:
    """Lists the published weights that there are models for, with their published accuracy; prints as a table.

    Rows with a `name` are fetched by `load_pretrained(name)`, those marked as default also by the model's name. Other
    files have to be fetched by hand, and `cvjax.load_pretrained` takes their path.

    Args:
      pattern: Shell-style pattern of models' names, such as "deeplab*_resnet50"; None lists all.
    """
    known = [name for name in list_models() if pattern is None or fnmatch.fnmatchcase(name, pattern)]
    order = {model: place for place, model in enumerate(known)}
    rows = [row for row in (*_named(), *authors_files()) if row.model in order]
    return PublishedFiles(sorted(rows, key=lambda row: (order[row.model], not row.default, row.name is None)))


def _named() -> Iterator[PublishedFile]:
    for name, published in PUBLISHED.items():
        on_hub = published.source.startswith(HUB)
        whose = "torchvision" if "pytorch.org" in published.source else "timm"
        yield PublishedFile(
            published.model,
            layout=whose,
            whose=whose,
            file="model.safetensors" if on_hub else published.source.rpartition("/")[2],
            figure=published.figure,
            name=name,
            default=DEFAULTS[published.model] == name,
            address=published.source,
        )
