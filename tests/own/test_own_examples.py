"""The formats that docs/guide.md lists for masks and labels: each example, written as it stands there, is read."""

import pathlib
import re

import numpy as np
import pytest
from own_pictures import colored, indexed, write_parquet
from tiny_sets import encoded, photo, write_tree

from cvjax.data.decode import decode_example
from cvjax.datasets.own import open_own

_GUIDE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "guide.md"
_SECTION = _GUIDE.read_text().partition("### Masks and labels in other formats\n")[2].partition("\n- ")[0]
_LINES = [line for line in _SECTION.splitlines() if line.startswith("| ")][2:]  # below the head and its rule
ROWS = [[cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")] for line in _LINES]
MASK = np.repeat(np.repeat(np.array([[0, 1], [1, 0]], np.uint8), 15, 0), 20, 1)


def written(root: pathlib.Path, files: list[str], line: str) -> str:
    """Writes an example with a second class or image beside the line that the guide shows; returns its target."""
    lines = {
        "road": "sky\nroad",
        "road,128,64,128": "name,r,g,b\nsky,128,128,128\nroad,128,64,128",
        "128 64 128 road": "128 128 128 sky\n128 64 128 road",
        "road:128,64,128::": "sky:128,128,128::\nroad:128,64,128::",
        "1.jpg,cat": "1.jpg,cat\n2.jpg,dog",
    }
    is_masks, is_indexed = line not in ("1.jpg,cat", ""), "class_names.txt" in files
    for number, name in enumerate(files):
        path = pathlib.PurePosixPath(name)
        if path.suffix == ".jpg":
            data = encoded(photo(number), "JPEG")
        elif path.suffix == ".png":
            table = np.zeros(256, np.uint8)
            table[:2] = 0, 3  # the colors of sky and road
            data = indexed(MASK) if is_indexed else encoded(colored(table[MASK]), "PNG")
        elif path.suffix == ".parquet":
            rows = [{"image": {"bytes": encoded(photo(n), "PNG"), "path": None}, "label": n} for n in range(2)]
            write_parquet(
                root / path.parent,
                "train",
                rows,
                {
                    "image": {"_type": "Image"},
                    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
                },
            )
            continue
        else:
            data = b"1" if path.parent.name == "Segmentation" else lines[line].encode()
        write_tree(root, {name: data})
    return "mask" if is_masks else "label"


@pytest.mark.parametrize(("what", "files", "line"), ROWS, ids=[row[0] for row in ROWS])
def test_an_example_of_the_guide_is_read(what, files, line, tmp_path):
    target = written(tmp_path, re.findall(r"`([^`]+)`", files), line.strip("`"))
    source = open_own(tmp_path, "train", target)
    if target == "mask":
        assert source.class_names == ("sky", "road")
        np.testing.assert_array_equal(decode_example(source[0], 2)["mask"], MASK)
    else:
        assert source.class_names == ("cat", "dog")
        assert [source[index]["label"] for index in range(2)] == [0, 1]
