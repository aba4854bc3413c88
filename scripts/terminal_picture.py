"""Draws the terminal of README.md: runs the server and the commands it shows, and writes docs/assets/terminal.svg.

    python -m scripts.terminal_picture

Needs port 8000 of this machine for a few seconds.
"""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

PICTURE: Final = Path(__file__).resolve().parents[1] / "docs/assets/terminal.svg"
COLUMNS: Final = 122
COMMANDS: Final = (
    "livesync doctor --sync-url http://127.0.0.1:8000",
    "livesync stores",
    "livesync events livesync-probe-doctor",
)

# What rich writes by default loads a font from another host; a terminal needs no more than the reader's own.
_FORMAT: Final = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg"
 xml:space="preserve">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def main() -> None:
    """Run everything in an empty folder, and draw what it printed."""
    programs = Path(sys.executable).parent
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": str(COLUMNS), "LC_ALL": "C.UTF-8"}
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [programs / "livesync", "serve"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout is not None
            banner = [server.stdout.readline().replace(f"{folder}/", "") for _ in range(5)]
            _show(console, "livesync serve", "".join(banner))
            for command in COMMANDS:
                done = subprocess.run(
                    command.split(), cwd=folder, env=environment, capture_output=True, text=True, check=True
                )
                _show(console, command, done.stdout.replace(folder, "."))
        finally:
            server.terminate()
            server.wait(timeout=20)
    PICTURE.write_text(
        console.export_svg(title="livesync", code_format=_FORMAT, unique_id="terminal"), encoding="utf-8"
    )


def _show(console: Console, command: str, printed: str) -> None:
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    console.print(Text(printed), no_wrap=True, crop=True)


if __name__ == "__main__":
    main()
