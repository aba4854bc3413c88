"""The pages of the documentation, and the commands they show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), ROOT / "examples/README.md")
]

COMMANDS = ("console", "sh")
"""Languages of blocks with commands: with prompts and output, or a script."""
OTHERS = ("caddy", "json", "python", "sql", "text", "toml", "ts", "yaml")
"""Those of blocks without."""

_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`((?:[A-Z_]+=\S+ )*livesync [^`\n]+)`(?!`)")


@attrs.frozen
class Block:
    """A fenced block."""

    page: str
    line: int
    """Of the page, where it begins."""
    language: str
    text: str


@attrs.frozen
class Command:
    """A command that a page shows."""

    page: str
    line: int
    """Of the page, where its block begins."""
    text: str
    """As typed, in one line, without its prompt and comment."""
    shown: str
    """What the page says it prints; empty: nothing."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page, in its order."""
    text = read(page)
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found["language"].strip(), found["text"])
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> list[Command]:
    """The commands of a block; none when its language is not one of `COMMANDS`."""
    if block.language not in COMMANDS:
        return []
    parts = _typed_and_printed(block.text) if block.language == "console" else _script(block.text)
    return [Command(block.page, block.line, typed, printed) for typed, printed in parts]


def outside_blocks(page: str) -> str:
    """The running text of a page."""
    return _FENCE.sub("", read(page))


def inline(page: str) -> list[str]:
    """What stands in the running text as a call of `livesync`, once each."""
    return list(dict.fromkeys(_INLINE.findall(outside_blocks(page))))


def _typed_and_printed(text: str) -> Iterator[tuple[str, str]]:
    typed, printed = None, ""
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            if typed is not None:
                yield typed, printed
            typed, printed = line.removeprefix("$ ").strip(), ""
        else:
            assert typed is not None, f"a block for `console` begins with a prompt: {line}"
            printed += line
    if typed is not None:
        yield typed, printed


def _script(text: str) -> Iterator[tuple[str, str]]:
    for line in text.replace("\\\n", " ").splitlines():
        typed = re.sub(r"(^|\s+)#\s.*", "", line).strip()
        if typed:
            yield re.sub(r"\s{2,}", " ", typed), ""
