"""MkDocs calls these while it builds the site: pages and links that leave docs/ hold on GitHub and on the site.

Readers on GitHub follow paths of the repository, the site has pages alone, and the project names no public address of
its sources that a link could lead to. So CONTRIBUTING.md, CHANGELOG.md and the benchmarks' reports become pages, links
to them lead there, and a link to any other file becomes the file's name.
"""

import pathlib
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Files of the repository, and the pages that they are.
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md", "README.md": "index.md"}
PAGES |= {f"benchmarks/results/{path.name}": f"benchmarks/{path.name}" for path in ROOT.glob("benchmarks/results/*.md")}
_HOMES = {page: home for home, page in PAGES.items() if page != "index.md"}
_CODE = re.compile(r"<code>([^<>]*-[^<>]*)</code>")
_FLAG = re.compile(r"(?<!\S)--?[\w.-]{1,36}(?!\S)")
_FIGURE = re.compile(r'<p>(<img [^>]*src="([^"]+)"[^>]*>)</p>')
_FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[((?:`[^`]*`|[^\[\]`])*)\]\(([^()\s#:]+)(#[^()\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that lie outside of docs/."""
    for page, home in _HOMES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / home)))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turns links into those of the site, and lets Markdown be read inside of `<details>`, as GitHub does."""
    home = _HOMES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    # Python-Markdown reads no Markdown in HTML unless the element asks for it.
    parts = _FENCE.split(markdown.replace("<details>", '<details markdown="1">'))
    parts[::2] = [_LINK.sub(lambda link: _link_of_the_site(link, home, page.file.src_uri), part) for part in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    """Keeps flags whole, and leads from each figure to itself, so that it can be enlarged on a phone."""
    # Browsers break lines behind hyphens, which leaves `--` at the end of one and the flag's name on the next.
    whole = r'<span class="flag">\g<0></span>'
    html = _CODE.sub(lambda code: f"<code>{_FLAG.sub(whole, code[1])}</code>", html)
    return _FIGURE.sub(r'<p><a href="\2">\1</a></p>', html)


def on_post_build(config: Any) -> None:
    """Writes the search's index as a script, too: a page that is opened from disk may read no JSON (see worker.js)."""
    folder = pathlib.Path(config.site_dir) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index};", encoding="utf-8")


def _link_of_the_site(link: re.Match[str], home: str, page: str) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    found = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
    goal = PAGES.get(found) or (found[len("docs/") :] if found.startswith("docs/") else None)
    if goal is not None:
        return f"[{text}]({posixpath.relpath(goal, posixpath.dirname(page) or '.')}{anchor})"
    if not (ROOT / found).exists():
        return link[0]  # MkDocs warns of it
    return text if posixpath.basename(found) in text else f"{text} (`{found}`)"
