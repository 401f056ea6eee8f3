"""The documentation as a site: it builds without a warning, shows every page, and asks nobody else for anything."""

import html.parser
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
import recipes
import yaml
from documented import ROOT

DOCS = ROOT / "docs"
needs_the_generator = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="needs mkdocs: pip install -e '.[test,docs]'"
)


class _Requests(html.parser.HTMLParser):
    """Collects the addresses that a browser asks for when it shows a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "link", "img", "iframe", "source", "object", "video"):
            self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "srcset") and value]
        self.addresses += re.findall(r"url\(([^)]+)\)", dict(attrs).get("style") or "")


def _pictures():
    spec = importlib.util.spec_from_file_location("site_pictures", DOCS / "_site" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _named(nav):
    for entry in nav:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            yield from _named(value) if isinstance(value, list) else [value]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_in_the_navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = list(_named(config["nav"]))
    assert len(named) == len(set(named))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert written <= set(named)
    reports = {f"benchmarks/{path.name}" for path in (ROOT / "benchmarks" / "results").glob("*.md")}
    assert set(named) - written == reports | {"contributing.md", "changes.md"}


@needs_the_generator
def test_pages_ask_no_other_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        parser = _Requests()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses, page
        assert [address for address in parser.addresses if re.match(r"(\w+:)?//", address)] == [], page
    for sheet in site.rglob("*.css"):
        found = re.findall(r"url\([\"']?([^)]*)|@import\s+([^;]+)", sheet.read_text(encoding="utf-8"))
        asked = [address for pair in found for address in pair if "//" in address and not address.startswith("data:")]
        assert asked == [], sheet


@needs_the_generator
def test_links_lead_to_pages_of_the_site(site):
    """Links are written for GitHub; those to files outside of docs/ have pages, or are names, on the site."""
    first = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="contributing.html"' in first
    lab = (site / "lab.html").read_text(encoding="utf-8")
    assert 'href="benchmarks/nms_cpu.html"' in lab
    assert 'href="architecture.html"' in (site / "contributing.html").read_text(encoding="utf-8")
    for page in set(site.rglob("*.html")) - {site / "404.html"}:  # which only a server shows, from its own root
        for target in re.findall(r'<a[^>]* href="([^"#:]+)(?:#[^"]*)?"', page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page, target)


@needs_the_generator
def test_tables_that_are_folded_away_are_tables(site):
    lessons = (site / "lessons.html").read_text(encoding="utf-8")
    folded = re.findall(r"<details>(.*?)</details>", lessons, re.DOTALL)
    assert len(folded) == (DOCS / "lessons.md").read_text(encoding="utf-8").count("<details>") > 10
    assert all("<td" in part and "| ---" not in part for part in folded)


@needs_the_generator
def test_reference_has_arguments_types_and_defaults(site):
    verbs = (site / "api" / "cvjax.html").read_text(encoding="utf-8")
    assert 'id="cvjax.create_model"' in verbs
    layers = (site / "api" / "nn.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", layers)
    assert "SqueezeExcite(" in text  # a Flax module's signature are its fields
    assert re.search(r"kernel_size: int = 3", text)
    pooling = layers.split('id="cvjax.nn.avg_pool"')[1].split('id="cvjax.nn.global_avg_pool"')[0]
    names = re.findall(r"<tr[^>]*>\s*<td>\s*<code>(\w+)</code>", pooling)
    assert names[:5] == ["x", "window_shape", "strides", "padding", "ceil_mode"]  # the last four share a line


@needs_the_generator
def test_search_finds_pages_without_a_server(site):
    text = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("var __index = ").removesuffix(";"))
    assert any(entry["location"].startswith("lessons.html") for entry in index["docs"])
    assert 'src="assets/worker.js"' in (site / "index.html").read_text(encoding="utf-8")


def test_pictures_are_those_that_the_contract_of_the_rooms_draws():
    pictures = _pictures()
    for name, draw in pictures.FILES.items():
        assert (pictures.PICTURES / name).read_text(encoding="utf-8") == draw(), f"run docs/_site/pictures.py: {name}"
    rooms = [name for layer in pictures.layers() for name in layer]
    assert rooms.index("cvjax.engine") < rooms.index("cvjax.models")
    assert set(rooms) == set(pictures.ROOMS)
    for station in (*pictures.HOST, *pictures.DEVICES, pictures.KEPT):
        assert (ROOT / station.file).exists(), station


def test_recipes_are_those_of_the_experiments():
    experiments = {path.stem for path in pathlib.Path(ROOT / "experiments").glob("[a-z]*.py")}
    assert set(recipes.names()) == experiments
    assert recipes.PAGE.read_text(encoding="utf-8") == recipes.page(), "run tests/helpers/recipes.py"
    assert "| v1 | LargeFOV ([1412.7062](https://arxiv.org/abs/1412.7062))" in recipes.page()
