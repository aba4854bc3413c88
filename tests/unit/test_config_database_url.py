from pathlib import Path

import pytest

from livesync_trio.config import is_postgresql, sqlite_path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///livesync.db", "livesync.db"),
        ("sqlite:////var/lib/livesync/events.db", "/var/lib/livesync/events.db"),
        ("sqlite:///../up.db", "../up.db"),
        ("sqlite:///a%20b%3F.db", "a b?.db"),
        ("sqlite:///ümlaut.db", "ümlaut.db"),
    ],
)
def test_a_path_relative_or_absolute(url: str, path: str) -> None:
    assert sqlite_path(url) == Path(path)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://livesync.db", "three slashes"),
        ("sqlite:livesync.db", "three slashes"),
        ("sqlite:///", "no file"),
        ("sqlite:////srv/", "no file"),
        ("sqlite:///:memory:", "memory"),
        ("sqlite:///a.db?mode=ro", "parameters"),
        ("sqlite:///a%00.db", "U\\+0000"),
        ("livesync.db", "not a sqlite URL"),
        ("sqlite", "not a sqlite URL"),
        ("mysql://u:canary@h/d", "not a sqlite URL"),
        ("postgresql:u:canary@h/d", "two slashes"),
    ],
)
def test_what_is_refused_and_why_without_repeating_it(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        sqlite_path(url)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "postgresql"),
    [
        ("postgresql://u:canary@h/d", True),
        ("postgres://h", True),
        ("postgresql:///d?host=/run/postgresql", True),
        ("postgresql:/d", False),
        ("postgresqls://h/d", False),
        ("sqlite:///postgresql://h", False),
    ],
)
def test_which_urls_name_postgresql(url: str, postgresql: bool) -> None:
    assert is_postgresql(url) is postgresql
