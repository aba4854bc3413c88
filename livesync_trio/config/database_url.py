"""What `DATABASE_URL` may say. Parses text; never touches the file system."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote

_SQLITE: Final = "sqlite"
_POSTGRESQL: Final = frozenset({"postgresql", "postgres"})


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
        raise ValueError("PostgreSQL is not supported by this version yet")
    if scheme != _SQLITE or not separator:
        raise ValueError("it is not a sqlite URL")
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
