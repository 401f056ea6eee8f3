"""What a person names, and what its results are called."""

import pathlib

import pytest

from cvjax.errors import ConfigError, DataError
from cvjax.storage import as_path
from cvjax.tasks.prediction.inputs import find_inputs, unique_names


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two folders of photographs with a video, results of an earlier prediction, and files that are none of these."""
    for name in (
        *("a/2.jpg", "a/10.png", "a/b/1.JPG", "a/b/clip.mp4", "a/notes.txt", "a/.hidden.jpg", "a/.cache/1.jpg"),
        *("c/1.jpg", "c/2.jpg", "a/out/2_overlay.png", "1.jpg"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*words: str, out: str = "a/out") -> list[tuple[str, str]]:
    return [(str(one.path), one.name) for one in find_inputs(words, as_path(out))]


def test_a_folder_gives_all_that_lies_below_in_alphabetical_order(tree):
    assert found("a") == [("a/10.png", "10"), ("a/2.jpg", "2"), ("a/b/1.JPG", "b/1"), ("a/b/clip.mp4", "b/clip")]
    assert [one.is_video for one in find_inputs(["a"], as_path("a/out"))] == [False, False, False, True]


def test_globs_and_lists(tree):
    assert found("c/*.jpg") == [("c/1.jpg", "1"), ("c/2.jpg", "2")]
    assert [path for path, _ in found("a/**/*.jpg")] == ["a/2.jpg"]
    (tree / "c" / "list.txt").write_text(
        "# two beside the list, and one of the working directory\n2.jpg\n\n1.jpg\na/2.jpg\n"
    )
    assert [str(pathlib.Path(path)) for path, _ in found("c/list.txt")] == ["c/2.jpg", "c/1.jpg", "a/2.jpg"]


def test_a_file_that_is_named_twice_counts_once(tree):
    assert found("c/2.jpg", "c", str(tree / "c" / "1.jpg")) == [("c/2.jpg", "2"), ("c/1.jpg", "1")]


def test_names_are_all_different(tree):
    names = [name for _, name in found("1.jpg", "c", "a")]
    assert names == [f"{tree.name}_1", "c_1", "c_2", "10", "a_2", "b/1", "b/clip"]
    paths = [
        pathlib.Path(path) for path in ("/x/a.jpg", "/x/A.jpg", "/x/a.png", "/y/a.jpg", "/y/x_a.jpg", "/x_y/a.jpg")
    ]
    names = unique_names(paths, [path.name for path in paths])
    assert len({name.casefold() for name in names}) == len(paths)
    assert unique_names([pathlib.Path("x/a.jpg"), pathlib.Path("x/a.png")], ["a.jpg", "a.png"]) == ["a_jpg", "a_png"]


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ([], ConfigError, "no image was given"),
        (["a/3.jpg"], DataError, r"there is no image a/3\.jpg"),
        (["d/*.jpg"], DataError, r"no file fits the pattern d/\*\.jpg"),
        (["a/.cache"], None, ""),
        (["a/notes.txt"], DataError, r"a/notes\.txt is a list without lines"),
        (["c/lost.txt"], DataError, r"there is no image 9\.jpg of the list in c"),
        (["a/out"], ConfigError, "would lie among the images of a/out"),
        (["empty"], DataError, "empty is a folder without images or videos"),
    ],
)
def test_what_cannot_be_found_is_a_sentence(tree, words, error, message):
    (tree / "empty").mkdir()
    (tree / "c" / "lost.txt").write_text("9.jpg\n")
    if error is None:
        assert found(*words) == [("a/.cache/1.jpg", "1")]
        return
    with pytest.raises(error, match=message):
        found(*words)
