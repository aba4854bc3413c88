"""Without `[feed]` nothing of the feed is loaded; what is not offered is refused in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from livesync_trio.config import BadConfig, load

BASE = 'source = "postgresql://u@h/d"\ntables = ["public.t"]\n'


def test_nothing_is_loaded_that_is_not_asked_for() -> None:
    program = "import sys, livesync_trio.app; print([m for m in sys.modules if 'trio.feed' in m or 'sqlglot' in m])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("writes = true", "takes no writes"),
        ("polling = true", "does not poll"),
        ('slot = "Bad-Name"', "small letters"),
        ("keep_hours = 0.0", "length of time"),
        ('dialect = "newest"', "first"),
        ("images = false", "no such key"),
        ('[feed.access]\n"public.other" = true', "public.other"),
        ('[feed.access]\n"public.t" = 5', "neither a text nor true or false"),
    ],
)
def test_what_is_not_offered_is_refused_in_words(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "livesync.toml"
    file.write_text(f"[feed]\n{BASE}{line}\n")
    with pytest.raises(BadConfig) as refused:
        load({}, {"LIVESYNC_CONFIG": str(file)})
    assert words in str(refused.value)


def test_the_smallest_configuration(tmp_path: Path) -> None:
    file = tmp_path / "livesync.toml"
    file.write_text(f'[feed]\n{BASE}[feed.access]\n"public.t" = "owner = {{sub}}"\n')
    feed = load({}, {"LIVESYNC_CONFIG": str(file)}).feed
    assert feed is not None
    assert feed.tables == ("public.t",)
    assert dict(feed.access) == {"public.t": "owner = {sub}"}
    assert "postgresql" not in repr(feed)
