"""What the feed does not offer is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from livesync_trio.config import BadConfig, load

BASE = 'source = "postgresql://u@h/d"\ntables = ["public.t"]\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("writes = true", "not a table"),
        ('[feed.writes]\n"public.other" = true', "public.other"),
        ('[feed.access]\n"public.t" = false\n[feed.writes]\n"public.t" = true', "lets nobody see"),
        ('writer = "mysql://h/d"', "postgresql"),
        ("compact_hours = 200.0", "less than keep_hours"),
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
