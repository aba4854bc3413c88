"""Keys of `[feed]` that are given in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from livesync_trio.config import BadConfig, load

SOURCE = "postgresql://u:secret@h/d"


def test_a_feed_without_a_file() -> None:
    feed = load({}, {"LIVESYNC_FEED_SOURCE": SOURCE, "LIVESYNC_FEED_TABLES": "public.a, public.b"}).feed
    assert feed is not None
    assert feed.source.reveal() == SOURCE
    assert feed.tables == ("public.a", "public.b")


def test_the_environment_overrides_the_file_key_by_key(tmp_path: Path) -> None:
    secret = tmp_path / "source"
    secret.write_text(f"{SOURCE}2\n")
    file = tmp_path / "livesync.toml"
    file.write_text(
        f'[feed]\nsource = "{SOURCE}"\ntables = ["public.t"]\nkeep_hours = 5\n[feed.access]\n"public.t" = true\n'
    )
    given = {
        "LIVESYNC_CONFIG": str(file),
        "LIVESYNC_FEED_SOURCE_FILE": str(secret),
        "LIVESYNC_FEED_KEEP_BYTES": "1000",
        "LIVESYNC_FEED_DIALECT": "First",
        "LIVESYNC_FEED_SLOT": "",
    }
    config = load({}, given)
    feed = config.feed
    assert feed is not None
    assert feed.source.reveal() == f"{SOURCE}2"
    assert (feed.keep_hours, feed.keep_bytes, feed.dialect, feed.slot) == (5.0, 1000, "first", "livesync_feed")
    assert dict(feed.access) == {"public.t": True}
    assert config.remarks == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"LIVESYNC_FEED_TABLES": "public.t"}, "feed.source in the environment: it is missing"),
        ({"LIVESYNC_FEED_KEEP_HOURS": "long"}, "LIVESYNC_FEED_KEEP_HOURS: 'long' is not a number"),
        ({"LIVESYNC_FEED_DIALECT": "newest", "LIVESYNC_FEED_SOURCE": SOURCE, "LIVESYNC_FEED_TABLES": "public.t"}, "LIVESYNC_FEED_DIALECT: 'newest'"),  # noqa: E501
        ({"LIVESYNC_FEED_SOURCE_FILE": "none", "LIVESYNC_FEED_TABLES": "public.t"}, "LIVESYNC_FEED_SOURCE_FILE: the file cannot be read"),  # noqa: E501
        ({"LIVESYNC_FEED_SOURCE": SOURCE, "LIVESYNC_FEED_SOURCE_FILE": "none", "LIVESYNC_FEED_TABLES": "public.t"}, "source is given too"),  # noqa: E501
    ],
    ids=["missing", "number", "choice", "file", "both"],
)  # fmt: skip
def test_mistakes_name_the_variable(given: dict[str, str], words: str) -> None:
    with pytest.raises(BadConfig) as refused:
        load({}, given)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value).replace("with the secret", "")


def test_a_variable_that_is_misspelt_is_told() -> None:
    assert any("LIVESYNC_FEED_SORCE" in remark for remark in load({}, {"LIVESYNC_FEED_SORCE": SOURCE}).remarks)
