"""The site is built without a warning, needs no other host, and its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs
import pytest

from scripts.docs_reference import first_sentence, references
from scripts.docs_site import on_page_content
from tests.docs.pages import ROOT

LIMIT_S = 120
LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}
"""Attributes whose targets a browser fetches by itself."""


def build(site: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Build it as `scripts/docs` does, but elsewhere."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(site)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@attrs.define
class Seen(HTMLParser):
    """What one file of the site refers to."""

    loaded: set[str] = attrs.field(factory=set, init=False)
    linked: set[str] = attrs.field(factory=set, init=False)
    ids: set[str] = attrs.field(factory=set, init=False)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif (tag, name) in LOADED and value:
                self.loaded.add(value)
            elif (tag, name) == ("a", "href") and value:
                self.linked.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built."""
    directory = tmp_path_factory.mktemp("docs") / "site"
    built = build(directory, ROOT / "mkdocs.yml")
    assert built.returncode == 0, built.stdout + built.stderr
    return directory


@pytest.fixture(scope="module")
def files(site: Path) -> dict[Path, Seen]:
    """What each file of the site refers to."""
    found = {}
    for path in site.rglob("*.html"):
        found[path] = Seen()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_every_page_is_there(site: Path, files: dict[Path, Seen]) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    pages = {page.parent / page.name.replace("README.html", "index.html") for page in sources}
    assert pages <= {path.relative_to(site) for path in files}
    for brought in ("SECURITY.html", "CHANGELOG.html", "examples/index.html", "deploy/Caddyfile.html"):
        assert site / brought in files


def test_a_reader_gets_everywhere_from_the_navigation(site: Path, files: dict[Path, Seen]) -> None:
    linked = {(site / link).resolve() for link in files[site / "index.html"].linked if "://" not in link}
    for path in (ROOT / "docs").rglob("*.md"):
        page = path.relative_to(ROOT / "docs").with_suffix(".html")
        assert site / page.parent / page.name.replace("README.html", "index.html") in linked


def test_nothing_is_fetched_from_another_host(site: Path, files: dict[Path, Seen]) -> None:
    foreign = {url for seen in files.values() for url in seen.loaded if urlsplit(url).netloc}
    assert foreign == set()
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert "@import" not in text
        assert "url(http" not in text
        assert "url(//" not in text


def test_what_pages_refer_to_is_there(site: Path, files: dict[Path, Seen]) -> None:
    dead = set()
    for path, seen in files.items():
        for url in seen.loaded | seen.linked:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = path.parent.joinpath(unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in files and anchor not in files[target].ids):
                dead.add(f"{path.relative_to(site)}: {url}")
    assert dead == set()


def test_pictures_are_shown(site: Path, files: dict[Path, Seen]) -> None:
    shown = {url for url in files[site / "performance.html"].loaded if url.endswith(".svg")}
    assert {f"performance/{path.name}" for path in (ROOT / "docs/performance").glob("*.svg")} == shown


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("[x](missing.md)", "missing.md"),
        ("[x](index.md#nowhere)", "no such anchor"),
        ("[x](../nowhere/file)", "nowhere/file"),
        ("[x](folder)", "folder"),
    ],
)
def test_a_link_that_leads_nowhere_stops_the_build(page: str, complaint: str, tmp_path: Path) -> None:
    failed = build(tmp_path / "site", small(tmp_path, page, "nav: [index.md]\n"))
    assert failed.returncode != 0
    assert complaint in failed.stderr


def test_a_page_that_is_not_in_the_navigation_stops_the_build(tmp_path: Path) -> None:
    config = small(tmp_path, "x", "nav: [index.md]\n")
    (tmp_path / "docs" / "left-out.md").write_text("# Left out\n")
    failed = build(tmp_path / "site", config)
    assert failed.returncode != 0
    assert "left-out.md" in failed.stderr


def test_names_in_tables_break_where_a_reader_would_break_them() -> None:
    row = "<td><code>LIVESYNC_LOG</code> a_b</td><p><code>c_d</code></p>"
    assert on_page_content(row) == "<td><code>LIVESYNC_<wbr>LOG</code> a_b</td><p><code>c_d</code></p>"


def test_what_pages_link_to_outside_comes_along(tmp_path: Path) -> None:
    config = small(tmp_path, "[a](../deploy/file.toml) and [b](../OTHER.md#part)\n", "nav: [index.md, OTHER.md]\n")
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "file.toml").write_text("key = 1 # <b>\n")
    (tmp_path / "OTHER.md").write_text(
        "# Other\n\n## Part\n\nBack to [the page](docs/index.md) or [the start](README.md)\n"
    )
    (tmp_path / "README.md").write_text("# Start\n")
    built = build(tmp_path / "site", config)
    assert built.returncode == 0, built.stderr
    index, other, listing = (
        (tmp_path / "site" / f"{name}.html").read_text() for name in ("index", "OTHER", "deploy/file.toml")
    )
    assert 'href="deploy/file.toml.html"' in index
    assert 'href="OTHER.html#part"' in index
    assert other.count('href="index.html"') >= 2
    assert "&lt;b&gt;" in listing


def small(directory: Path, page: str, nav: str) -> Path:
    """A repository of one page, with our configuration; returns the path of its own."""
    (directory / "docs" / "folder").mkdir(parents=True)
    (directory / "docs" / "index.md").write_text(f"# Page\n\n{page}\n")
    config = directory / "mkdocs.yml"
    config.write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: ['{ROOT / 'scripts/docs_site.py'}']\n{nav}"
    )
    return config


def test_every_operation_of_both_interfaces_has_its_place(site: Path, files: dict[Path, Seen]) -> None:
    for reference in references():
        ids = files[site / f"{reference.page}.html"].ids
        paths = reference.document["paths"]
        assert {operation["operationId"] for methods in paths.values() for operation in methods.values()} <= ids
        assert {f"schema-{name.lower()}" for name in reference.document["components"]["schemas"]} <= ids
        assert json.loads((site / f"{reference.page}.json").read_text(encoding="utf-8")) == reference.document


def test_llms_txt_leads_to_every_page_of_the_navigation(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# livesync\n\n> ")
    addresses = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", text, re.MULTILINE)
    assert {"index.html", "configuration.html", "decisions/index.html", "http-api-reference.html"} <= set(addresses)
    assert [one for one in addresses if not (site / one).is_file()] == []
    assert "(start.html): This quickstart takes you" in text


def test_the_first_sentence_is_prose() -> None:
    page = "# Title\n\n| a | b |\n|---|---|\n\n**You** can [link](a.md) it. And more.\n"
    assert first_sentence(page) == "You can link it."
    assert first_sentence("# Title\n\n```sh\nlivesync\n```\n") == ""
