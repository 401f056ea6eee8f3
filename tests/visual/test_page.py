import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from cvjax.visual.page import Card, Page, cells


class _Reader(HTMLParser):
    """Collects the tags with their attributes, and the text outside of the style sheet, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", [""]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_data(self, data):
        if self._open[-1] != "style":
            self.text += data

    def handle_endtag(self, tag):
        self._open.append("")


def _page() -> Page:
    page = Page("Runs", "Two of them.")
    page.heading("Numbers")
    page.table(["run", "mIoU", "steps"], [["a", 0.61239, 1200], ["b", None, 4000]])
    page.heading("Pictures")
    page.legend({"cat": (255, 0, 16)})
    page.figure(np.full((20, 30, 3), 7, np.uint8), "a plot")
    page.sheet([Card(np.full((960, 1440, 3), 200, np.uint8), '<b>&".jpg', ("no <script>",))])
    return page


def test_a_page_asks_for_nothing_but_what_it_holds():
    found = _Reader(_page().html())
    addresses = [
        value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href") and value
    ]
    assert len(addresses) == 4
    assert all(address.startswith(("data:image/", "#section-")) for address in addresses)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in found.tags}
    assert "url(" not in _page().html()
    policies = [attributes.get("content") for tag, attributes in found.tags if tag == "meta"]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in policies


def test_points_of_a_column_stand_below_each_other():
    assert cells([82.6, 46.0, None, 137.0]) == ["82.6", "46.0", "", "137.0"]
    assert cells([1.02, 1.1, 3, float("nan")]) == ["1.02", "1.10", "3", "nan"]
    assert cells([0.00123, 12.5]) == ["0.00123", "12.5"]  # not 12.50000
    assert cells([2.0, 123456.0]) == ["2", "1.235e+05"]


def test_text_is_shown_as_it_is():
    found = _Reader(_page().html())
    assert '<b>&".jpg' in found.text
    assert "no <script>" in found.text


def test_links_lead_to_the_sections():
    found = _Reader(_page().html())
    links = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    assert links == [f"#{attributes['id']}" for tag, attributes in found.tags if tag == "h2"] != []


def test_numbers_are_shortened_and_what_is_missing_is_empty():
    cells = re.findall(r"<td[^>]*>(.*?)</td>", _page().html())
    assert cells == ["a", "0.6124", "1,200", "b", "", "4,000"]


def test_a_plot_is_held_exactly_and_a_photograph_as_a_thumbnail():
    found = _Reader(_page().html())
    sources = [attributes["src"] or "" for tag, attributes in found.tags if tag == "img"]
    plot, photo = (np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))) for source in sources)
    np.testing.assert_array_equal(plot, np.full((20, 30, 3), 7, np.uint8))
    assert photo.shape == (320, 480, 3)
    assert np.abs(photo.astype(int) - 200).max() <= 2


def test_a_page_is_written_into_a_new_folder(tmp_path):
    _page().write(tmp_path / "new" / "index.html")
    assert (tmp_path / "new" / "index.html").read_text(encoding="utf-8") == _page().html()
