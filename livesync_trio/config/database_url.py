"""What `DATABASE_URL` may say. Parses text; never touches the file system."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

_SQLITE: Final = "sqlite"
_POSTGRESQL: Final = frozenset({"postgresql", "postgres"})


def is_postgresql(database_url: str) -> bool:
    """Whether a URL names a PostgreSQL database; what it says beyond that, libpq decides when it is opened."""
    scheme, separator, _ = database_url.partition("://")
    return bool(separator) and scheme in _POSTGRESQL


def check_database_url(database_url: str) -> None:
    """Check that a URL names a database.

    Raises:
        ValueError: it does not. The message never repeats the URL, which may hold a password.
    """
    if is_postgresql(database_url):
        _check_authority(database_url)
    else:
        sqlite_path(database_url)


def check_postgresql_url(database_url: str | None) -> None:
    """Check that a URL, if there is one, names a PostgreSQL database.

    Raises:
        ValueError: it does not.
    """
    if database_url is not None:
        if not is_postgresql(database_url):
            raise ValueError("it is not a postgresql URL")
        _check_authority(database_url)


def _check_authority(database_url: str) -> None:
    """Refuse what libpq would cut in the wrong place: it would name parts of a password as host, port or database."""
    place = database_url.partition("://")[2].partition("?")[0]
    authority = place.partition("/")[0]
    user, _, host = authority.rpartition("@")
    if "@" in user or "@" in place.removeprefix(authority):
        raise ValueError("it has more than one @, or a / before it: in a password write %40 for @, %2F for /")
    if not re.fullmatch(r"([^:\[\]]*|\[[^\[\]]*\])(:\d*)?(,([^:\[\]]*|\[[^\[\]]*\])(:\d*)?)*", host):
        raise ValueError(
            "it has no host and port where they belong: in a password write %3F for ?, %2F for /, %40 for @"
        )
    if re.search(r"%(?![0-9A-Fa-f]{2})", database_url):
        raise ValueError("it has a % without two hexadecimal digits behind it: write %25 for %")
    if re.search(r"[\s\x00-\x1f\x7f]", database_url):
        raise ValueError("it has white space or a control character in it: write %20 for a space")


def sqlite_path(database_url: str) -> Path:
    """The file a `sqlite:` URL names.

    Args:
        database_url: `sqlite:///relative.db`, `sqlite:////absolute/path.db`; `%xx` stands for a byte of the name.

    Returns:
        The path as given: a relative one is relative to the working directory.

    Raises:
        ValueError: not such a URL. The message never repeats the URL, which may hold a password.
    """
    scheme, separator, rest = database_url.partition(":")
    if scheme in _POSTGRESQL and separator:
        raise ValueError("a postgresql URL has two slashes before the host")
    if scheme != _SQLITE or not separator:
        raise ValueError("it is not a sqlite URL, nor a postgresql one")
    if not rest.startswith("///"):
        raise ValueError("a sqlite URL has three slashes before a relative path and four before an absolute one")
    name = unquote(rest.removeprefix("///"))
    if "?" in rest or "#" in rest:
        raise ValueError("a sqlite URL takes no parameters; write ? as %3F and # as %23 in a file name")
    if name == ":memory:":
        raise ValueError("a database in memory would lose what clients were told is durable")
    if not name or name.endswith("/"):
        raise ValueError("it names no file")
    if "\0" in name:
        raise ValueError("a file name cannot contain U+0000")
    return Path(name)
