"""A connection between the SQLite engine and its file, on which a test sees and breaks what it likes."""

import sqlite3
from collections.abc import Callable
from typing import Any, ClassVar


class Watched(sqlite3.Connection):
    """A connection on which a test sees every statement and decides what becomes of it."""

    before: ClassVar[Callable[[str, Any], None]] = lambda statement, parameters: None
    after: ClassVar[Callable[[str, Any], None]] = lambda statement, parameters: None
    statements: ClassVar[list[str]] = []

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        Watched.statements.append(statement.strip())
        Watched.before(statement, parameters)
        cursor = super().execute(statement, parameters)
        Watched.after(statement, parameters)
        return cursor


def error(code: int, message: str = "of the test") -> sqlite3.OperationalError:
    failure = sqlite3.OperationalError(message)
    failure.sqlite_errorcode = code
    return failure
