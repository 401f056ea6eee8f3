"""A set of files is known by what it holds."""

import os

from cvjax.data.identity import digest_of_files


def _digest(root, **options):
    return digest_of_files(root, [p for p in root.rglob("*") if p.is_file()], **{"times": True, **options})


def test_a_digest_follows_content_and_options_but_not_the_place(tmp_path):
    first = tmp_path / "a"
    (first / "deep").mkdir(parents=True)
    for name, text in (("one.txt", "one"), ("deep/two.txt", "two")):
        (first / name).write_text(text)
        os.utime(first / name, ns=(5, 5))
    before = _digest(first)
    assert len(before) == 16
    second = first.rename(tmp_path / "b")
    assert _digest(second) == before
    assert _digest(tmp_path / "b" / ".." / "b") == before
    assert _digest(second, void=[255]) != before

    (second / "one.txt").write_text("eno")  # as long as before
    os.utime(second / "one.txt", ns=(6, 6))
    assert _digest(second) != before
    assert _digest(second, times=False) == digest_of_files(second, ["deep/two.txt", "one.txt"], times=False)
    (second / "one.txt").write_text("longer")
    changed = _digest(second, times=False)
    (second / "one.txt").rename(second / "other.txt")
    assert _digest(second, times=False) != changed
