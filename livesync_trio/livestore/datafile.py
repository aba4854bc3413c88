"""The file of a store: one SQLite database with log, tables and position, so that one transaction covers all three.

Owns who may open it, its settings, and the store's own tables. A side file `<file>.lock` is locked with `flock`, which
the kernel lets go of however the process ends; it is never deleted, since two processes could then each hold one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import apsw

from livesync_trio.livestore.events import Bindings
from livesync_trio.livestore.faults import BadQuery, StoreInUse, WrongFile
from livesync_trio.livestore.statements import Statements

Durability = Literal["process", "power"]
"""What a commit survives when it returns: the death of the process, or a power cut as well (a wait for the disk)."""

MEMORY: Final = ":memory:"
_VERSION: Final = 1
_PRIVATE: Final = 0o600

_TABLES: Final = """
CREATE TABLE livesync_log (
    seq_num INTEGER PRIMARY KEY,
    parent_seq_num INTEGER NOT NULL,
    name TEXT NOT NULL,
    args TEXT NOT NULL,
    client_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    changes BLOB
) STRICT;
CREATE TABLE livesync_store (
    version INTEGER NOT NULL,
    store_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    backend_id TEXT,
    upstream_head INTEGER NOT NULL,
    schema_hash TEXT
) STRICT;
"""


class DataFile:
    """An open file; a context manager. Used by one thread at a time."""

    def __init__(self, path: str | Path, store_id: str, client_id: str, durability: Durability) -> None:
        """Open or make it.

        Args:
            path: the file, or `:memory:`.
            store_id: the store that it holds, or is to hold.
            client_id: what this client is to be called if the file is new.
            durability: what a commit survives.

        Raises:
            StoreInUse: somebody has it open.
            WrongFile: it is not the file of this store, or cannot be opened.
        """
        with ExitStack() as opening:
            if str(path) != MEMORY:
                path = Path(path).resolve()
                opening.enter_context(_locked(path))
            try:
                self.connection = apsw.Connection(str(path))
                opening.callback(self.connection.close)
                self._set_up("FULL" if durability == "power" else "NORMAL")
                self._make_tables(store_id, client_id)
            except apsw.Error as error:
                raise WrongFile(f"{path} cannot be opened as a store: {error}") from error
            self.store_id, self.client_id = self.row("SELECT store_id, client_id FROM livesync_store")
            if self.store_id != store_id:
                raise WrongFile(f"{path} holds {self.store_id!r}, not {store_id!r}: give each store a file of its own.")
            self.statements = Statements(self.connection)
            self._open = opening.pop_all()

    def __enter__(self) -> "DataFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def row(self, sql: str, bindings: Bindings = ()) -> tuple[Any, ...]:
        """The only row of a question of the store's own."""
        [row] = self.rows(sql, bindings)
        return row

    def rows(self, sql: str, bindings: Bindings = ()) -> list[tuple[Any, ...]]:
        """All rows of a question of the store's own."""
        rows: list[tuple[Any, ...]] = self.connection.execute(sql, bindings).fetchall()
        return rows

    def query(self, sql: str, bindings: Bindings = ()) -> list[dict[str, Any]]:
        """Rows of a question of the program. Raises BadQuery."""
        names = self.statements.query(sql).columns
        try:
            rows = self.connection.execute(sql, bindings).fetchall()
        except (apsw.Error, TypeError) as error:
            raise BadQuery(f"{sql!r}: {error}") from error
        return [dict(zip(names, row, strict=True)) for row in rows]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, also when the process is killed."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def _set_up(self, synchronous: str) -> None:
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")
        self.connection.execute("PRAGMA foreign_keys = ON")

    def _make_tables(self, store_id: str, client_id: str) -> None:
        with self.transaction():
            if not self.connection.table_exists("main", "livesync_store"):
                if self.row("SELECT count(*) FROM sqlite_schema")[0]:
                    raise WrongFile("the file is a database of something else: give the store a file of its own.")
                self.connection.execute(_TABLES)
                self.connection.execute(
                    "INSERT INTO livesync_store VALUES (?, ?, ?, NULL, 0, NULL)", (_VERSION, store_id, client_id)
                )
        version = self.row("SELECT version FROM livesync_store")[0]
        if version > _VERSION:
            raise WrongFile(f"the file was written by a newer version of livesync-trio (format {version}).")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which ends with the process."""
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    except OSError as error:
        raise WrongFile(f"{lock} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreInUse(f"{path} is open already: one store at a time has a file.") from error
        yield
    finally:
        os.close(descriptor)
