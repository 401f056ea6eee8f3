"""Annotations as many tools write them: encodings, namespaces, folders' names, sizes, odd numbers."""

import shutil

import numpy as np
import pytest
from PIL import ExifTags, Image
from tiny_sets import box_xml, encoded, photo, write_tree

from cvjax.data.dataset import image_sizes
from cvjax.datasets.registry import open_dataset
from cvjax.datasets.voc.xml import parse_xml
from cvjax.errors import DataError

BODY = (
    "<annotation><filename>other.png</filename><object><name>{name}</name>"
    "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>11</xmax><ymax>14</ymax></bndbox></object></annotation>"
)
CORNERS = (1, 2, 11, 14)  # of BODY, half-open


def opened(folder, split="all", **options):
    return open_dataset("xml_folder_detection", split, target="boxes", manual_dir=folder, **options)


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        (None, "utf-8", "Fußgänger"),
        ("utf-8", "utf-8-sig", "猫"),
        ("UTF-16", "utf-16", "猫"),
        ("utf-16", "utf-16-le", "猫"),  # without a byte order mark
        ("utf-8", "utf-16", "猫"),  # the mark is right, not the declaration
        ("utf-16", "utf-8", "猫"),  # as .NET writes text that it keeps as UTF-16
        ("gb2312", "gb2312", "猫"),
        ("GB2312", "gb18030", "镕"),  # not in the set that is declared
        ("gbk", "gbk", "猫"),
        ("big5", "big5", "貓"),
        ("Shift_JIS", "shift_jis", "猫"),
        ("euc-kr", "euc-kr", "고양이"),
        ("iso-8859-1", "latin-1", "Fußgänger"),
        ("windows-1251", "cp1251", "кошка"),
        ("koi8-r", "koi8-r", "кошка"),
    ],
)
def test_text_is_read_in_the_encoding_that_it_names(declared, codec, name):
    head = "" if declared is None else f'<?xml version="1.0" encoding="{declared}"?>\n'
    said = parse_xml((head + BODY.format(name=name)).encode(codec), "a.xml")
    assert [thing.name for thing in said.objects] == [name]
    assert said.objects[0].box == CORNERS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b'<?xml version="1.0"?>\n<annotation>\n<object>\n</annotation>', r"line 4 cannot be read as XML \(mismatched"),
        (b"<annotation>\n<name>\xe8</name></annotation>", "line 2 is no text in utf-8; save it as UTF-8, or name"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "the encoding klingon, which is unknown"),
        (b'<?xml version="1.0" encoding="hex"?><annotation/>', "the encoding hex, which is unknown"),
        (b"<annotations><image/></annotations>", "begins with <annotations> and not with <annotation>; export it as"),
        (
            b"<annotation><size><width>8</width><height>x</height></size></annotation>",
            "size of its image is 'x' by '8'",
        ),
        (b"<annotation><size><width>8</width><height>-8</height></size></annotation>", "'-8' by '8'"),
        (
            BODY.format(name="cat").replace("<bndbox>", "<difficult>maybe</difficult><bndbox>").encode(),
            "object 1 is 'maybe' as difficult; write 0 or 1",
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(data, message):
    with pytest.raises(DataError, match=rf"^a\.xml: .*{message}"):
        parse_xml(data, "a.xml")


def test_namespaces_flags_and_numbers():
    text = BODY.format(name="cat").replace("<annotation>", '<annotation xmlns="http://some.where/voc">')
    assert [thing.box for thing in parse_xml(text.encode(), "a.xml").objects] == [CORNERS]
    prefixed = text.replace("xmlns=", "xmlns:v=").replace("</", "<!").replace("<", "<v:").replace("<v:!", "</v:")
    assert [thing.box for thing in parse_xml(prefixed.encode(), "a.xml").objects] == [CORNERS]
    for word, flag in (("", False), ("0", False), ("Unspecified", False), ("1", True), ("True", True)):
        said = BODY.format(name="cat").replace("<bndbox>", f"<difficult>{word}</difficult><bndbox>")
        assert parse_xml(said.encode(), "a.xml").objects[0].difficult is flag
    assert parse_xml(BODY.format(name="cat").encode(), "a.xml").objects[0].difficult is False
    floats = BODY.format(name="cat").replace(">2<", "> 2.5 <").replace(">14<", ">1.4e1<")
    assert parse_xml(floats.encode(), "a.xml").objects[0].box == (1.5, 2, 11, 14)
    for size, wanted in (((0, 0), None), ((30, 40), (30, 40)), (("30.0", ""), (30, 0))):
        assert parse_xml(box_xml([], size=size), "a.xml").size == wanted


def test_boxes_beyond_the_border_are_cut_off_and_others_are_bad(tmp_path):
    def folder(box):
        tree = {"a.jpg": encoded(photo(0), "JPEG"), "a.xml": box_xml([("cat", *box), ("cat", 1, 1, 4, 5)])}
        return write_tree(tmp_path / "x", tree)

    for box, wanted in (((0, 0, 41, 31), (0, 0, 40, 30)), ((-5, -4, 9, 8), (0, 0, 9, 8))):
        np.testing.assert_array_equal(opened(folder(box))[0]["boxes"], [wanted, (0, 0, 4, 5)])
    for box, what in (
        ((9, 2, 3, 8), "empty or inverted"),
        ((3, 8, 9, 2), "empty or inverted"),
        ((3, 3, 3, 3), "empty or inverted"),
        ((50, 3, 60, 9), "outside its image"),
        ((-9, -9, -2, -2), "outside its image"),
    ):
        shown = ", ".join(map(str, box))
        with pytest.raises(DataError, match=rf"x/a\.xml: box 1 of 2, cat at \({shown}\), is {what}"):
            opened(folder(box))
        record = opened(folder(box), on_bad_boxes="drop")[0]
        assert (record["boxes"].tolist(), record["dropped_boxes"]) == ([[0, 0, 4, 5]], 1)


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("JPEGImages", "Annotations"),
        ("images", "annotations"),
        ("imgs", "annots"),
        ("img", "labels"),
        ("Images", "xml"),
        ("IMAGES", "XML"),
        ("image", "annotations/xmls"),
        (".", "xmls"),
        ("imgs", "."),
    ],
)
@pytest.mark.parametrize("split", [".", "train"])
def test_folders_beside_each_other_under_their_usual_names(images, annotations, split, tmp_path):
    tree = {f"{images}/{n}.JPG": encoded(photo(n), "JPEG") for n in range(3)}
    tree |= {f"{annotations}/{n}.XML": BODY.format(name="cat").encode() for n in range(3)}
    folder = write_tree(tmp_path / "mine" / split, tree)
    if "annotations" in annotations:
        (folder / "labels").mkdir()  # those of another tool do not count
        (folder / "labels" / "0.txt").write_text("0 0.5 0.5 0.1 0.1")
    source = opened(tmp_path / "mine")
    assert ([record["id"] for record in source], source.class_names) == (["0", "1", "2"], ("cat",))
    np.testing.assert_array_equal(source[2]["boxes"], [CORNERS])


def test_a_size_that_is_not_the_files_is_refused_before_a_record_is_read(tmp_path):
    tree = {f"{n}.jpg": encoded(photo(n), "JPEG") for n in range(3)} | {
        f"{n}.xml": box_xml([("cat", 1, 1, 9, 9)], size=size) for n, size in enumerate([(30, 40), (0, 0), (60, 80)])
    }
    folder = write_tree(tmp_path / "resized", tree)
    with pytest.raises(
        DataError, match=r"resized/2\.xml: .* stated as 60x80 \(height x width\) .* 2\.jpg has 30x40; put"
    ):
        opened(folder)
    (folder / "2.xml").write_bytes(BODY.format(name="cat").encode())  # states none
    assert image_sizes(opened(folder)) == [(30, 40)] * 3
    (folder / "1.jpg").write_bytes(b"torn")
    source = opened(folder)  # the loader says what is wrong with this one
    with pytest.raises(DataError, match=r"1\.jpg: not an image"):
        source[1]
    assert image_sizes(source) == [(30, 40), None, (30, 40)]


def test_sizes_of_a_turned_photograph(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the stored pixels are 30x40, and a viewer shows 40x30
    picture = encoded(photo(0), "JPEG", exif=exif)
    # In the stored pixels (5, 2) to (11, 14); turned to the right, y becomes 30 - y on the x axis.
    cases = {
        "shown": ((16, 5, 28, 11), (40, 30)),
        "stored": ((5, 2, 11, 14), (30, 40)),
        "none": ((16, 5, 28, 11), (0, 0)),
    }
    for name, (box, size) in cases.items():
        xml = box_xml([("cat", box[0] + 1, box[1] + 1, *box[2:])], size=size)
        source = opened(write_tree(tmp_path / name, {"a.jpg": picture, "a.xml": xml}))
        np.testing.assert_array_equal(source[0]["boxes"], [(16, 5, 28, 11)])
        assert image_sizes(source) == [(40, 30)]


def test_the_inputs_that_went_wrong(shared_dir, tmp_path):
    cases = shared_dir / "cases"
    with pytest.raises(DataError, match=r"s0\.xml: .* 128x160 .* s0\.jpg has 64x80"):
        opened(cases / "d1_resized", "train")
    record = opened(cases / "d3_gb2312", "train")[0]
    np.testing.assert_array_equal(record["boxes"], [(10, 10, 30, 30)])
    record = opened(cases / "d2_exif", "train")[0]
    np.testing.assert_array_equal(record["boxes"], [(34, 50, 54, 75)])
    turned = shutil.copytree(cases / "d2_exif", tmp_path / "turned")
    xml = turned / "train" / "a.xml"
    stored = xml.read_text().replace("<width>64</width><height>80</height>", "<width>80</width><height>64</height>")
    # The same box in the stored pixels, 80x64: x is the viewer's y, and y what is left of 64 behind the viewer's x.
    for tag, old, new in (("xmin", 35, 51), ("ymin", 51, 11), ("xmax", 54, 75), ("ymax", 75, 30)):
        stored = stored.replace(f"<{tag}>{old}</{tag}>", f"<{tag}>{new}</{tag}>")
    xml.chmod(0o644)
    xml.parent.chmod(0o755)
    xml.write_text(stored)
    np.testing.assert_array_equal(opened(turned, "train")[0]["boxes"], [(34, 50, 54, 75)])
