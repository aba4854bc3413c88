"""What MkDocs is told beside mkdocs.yml: files outside `docs/` that pages link to come along.

The pages are read in the repository, too, where `../deploy/Caddyfile` is a file and `README.md` the entrance. On the
site such a file becomes a page: Markdown as it is, everything else as a listing. `mkdocs.yml` names this file
under `hooks`. Pages that are made of something else come from `docs_reference`.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

from scripts.docs_reference import llms_txt, references

_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:|/|#)([^)#\s]+)")
"""The target of a link to a file, without its anchor."""

_CELL: Final = re.compile(r"<td.*?</td>", re.DOTALL)
_CODE: Final = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
_JOINT: Final = re.compile(r"(?<=\w[_,/])(?=\w)")
"""Where a long name in a narrow column may go on in the next line."""

_LISTING: Final = "---\nsearch: {{exclude: true}}\n---\n# {path}\n\n~~~~~~~~{language}\n{text}\n~~~~~~~~\n"
_LANGUAGES: Final = {".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".mjs": "javascript"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Bring in the files that pages link to, and those that these link to.

    Args:
        files: what lies in `docs/`; gets the others.
        config: MkDocs' own.

    Returns:
        The same files.
    """
    docs = Path(config.docs_dir)
    ahead = [Path(str(file.abs_src_path)) for file in files.documentation_pages()]
    seen = set(ahead)
    while ahead:
        page = ahead.pop()
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            linked = Path(os.path.normpath(page.parent / target))
            outside = not linked.is_relative_to(docs) and linked.is_relative_to(docs.parent)
            if not outside or linked in seen or not linked.is_file() or linked == docs.parent / "README.md":
                continue
            seen.add(linked)
            files.append(_brought(linked, docs.parent, config))
            if linked.suffix == ".md":
                ahead.append(linked)
    for reference in references():
        if files.get_file_from_path(reference.guide) is None:
            continue
        files.append(File.generated(config, f"{reference.page}.md", content=reference.markdown()))
        text = json.dumps(reference.document, indent=2, ensure_ascii=False)
        files.append(File.generated(config, f"{reference.page}.json", content=text))
    return files


_navigation: list[Navigation] = []
"""That of the build under way."""


def on_nav(nav: Navigation, **_: object) -> Navigation:
    """Remember what is where, for llms.txt."""
    _navigation[:] = [nav]
    return nav


def on_post_build(*, config: MkDocsConfig) -> None:
    """Write llms.txt: every page of the navigation with its first sentence."""
    groups = []
    for item in _navigation[0].items:
        pages = list(_pages(item))
        if pages:
            told = [(str(page.title), page.url, page.markdown or "") for page in pages]
            groups.append((str(item.title), told))
    text = llms_txt(config.site_name, config.site_description or "", groups)
    (Path(config.site_dir) / "llms.txt").write_text(text, encoding="utf-8")


def _pages(item: object) -> Iterator[Page]:
    if isinstance(item, Page):
        yield item
    elif isinstance(item, Section):
        for child in item.children:
            yield from _pages(child)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Let the links of a page lead to where their files are on the site.

    Args:
        markdown: its text.
        page: whose it is.
        config: MkDocs' own.
        _: what else MkDocs tells.

    Returns:
        The text; links to what is not on the site are left as they are, and MkDocs warns of them.
    """
    docs = Path(config.docs_dir)
    source = _of_site(page.file.src_uri, docs)
    return _LINK.sub(_relinked(source, PurePosixPath(page.file.src_uri), docs), markdown)


def on_page_content(html: str, **_: object) -> str:
    """Let names in tables break where a reader would break them.

    Args:
        html: a page.
        _: what else MkDocs tells.

    Returns:
        The page, with `<wbr>` in the code of its table cells.
    """
    return _CELL.sub(lambda cell: _CODE.sub(lambda code: _JOINT.sub("<wbr>", code[0]), cell[0]), html)


def _of_site(src_uri: str, docs: Path) -> Path:
    """Which file of the repository a page of the site was made from."""
    inside = docs / src_uri
    return inside if inside.exists() else docs.parent / src_uri


def _relinked(source: Path, here: PurePosixPath, docs: Path) -> Callable[[re.Match[str]], str]:
    def relink(link: re.Match[str]) -> str:
        linked = Path(os.path.normpath(source.parent / link[0]))
        if not linked.is_file() or not linked.is_relative_to(docs.parent):
            return link[0]
        return os.path.relpath(_place(linked, docs), here.parent)

    return relink


def _place(linked: Path, docs: Path) -> str:
    """Where a file of the repository is on the site."""
    if linked.is_relative_to(docs):
        return linked.relative_to(docs).as_posix()
    path = linked.relative_to(docs.parent).as_posix()
    if path == "README.md":
        return "index.md"
    return path if linked.suffix == ".md" else f"{path}.md"


def _brought(linked: Path, root: Path, config: MkDocsConfig) -> File:
    path = linked.relative_to(root).as_posix()
    text = linked.read_text(encoding="utf-8")
    if linked.suffix == ".md":
        return File.generated(config, path, content=text)
    listing = _LISTING.format(path=path, language=_LANGUAGES.get(linked.suffix, "text"), text=text)
    return File.generated(config, f"{path}.md", content=listing, inclusion=InclusionLevel.NOT_IN_NAV)
