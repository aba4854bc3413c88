"""The WAL and its index: that they are found again under their names.

Owns those names. An acknowledged event is in the WAL until a checkpoint; when somebody removes that file from its
directory, SQLite goes on writing to what nobody will ever find. So each of the two has a spare name (a hard link,
hidden, so that `rm livesync.db-*` does not meet it): a file that lost its name is given it back, as if nothing had
been. Where that cannot be had, `Lost` says so before anything is acknowledged.
"""

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from livesync_trio.errors import StorageUnavailable
from livesync_trio.storage.sqlite.quick_files import Identity, beginning_of, identity_of
from livesync_trio.storage.sqlite.wal import MAGIC, holds_more_than

_logger: Final = logging.getLogger("livesync.storage")

WAL: Final = "-wal"
INDEX: Final = "-shm"


class Lost(StorageUnavailable):
    """The WAL has no name any more; what is in it can still be moved into the database file."""


class Foreign(StorageUnavailable):
    """The WAL is not what was written: nothing of it may be used any more, and nobody may take it for whole."""


class NamedFile:
    """A file, and the name under which it should be found."""

    def __init__(self, path: Path) -> None:
        """It is any file so far."""
        self.path = path
        self.identity: Identity | None = None
        self.found = identity_of(str(path))
        """Device and inode of what is there now; raises OSError as `stat`. Asked with every commit."""

    def remember(self) -> None:
        """From now on it is this file, not whatever may be at its path. Raises OSError when it is not there."""
        self.identity = self.found()

    def is_there(self) -> bool:
        """Whether it is found under its name."""
        try:
            return self.found() == self.identity
        except OSError:
            return False


class _Side(NamedFile):
    def __init__(self, database: Path, suffix: str) -> None:
        super().__init__(database.with_name(database.name + suffix))
        self.spare = database.with_name(f".{database.name}{suffix}")


class SideFiles:
    """The two files beside one database file."""

    def __init__(self, database: Path) -> None:
        """Nothing is looked at yet."""
        self._database = database
        self._wal, self._index = _Side(database, WAL), _Side(database, INDEX)
        self._content: int | None = None  # descriptor of the WAL, while it is held
        self._beginning: Callable[[], bytes] = bytes  # reads the first bytes of it
        self._begun = False  # whether SQLite has written in it; before, it may be what a power cut left

    @property
    def index(self) -> Path:
        """Where the index of the WAL is."""
        return self._index.path

    # --- from start to end ------------------------------------------------------------------------------------------

    def settle(self) -> str | None:
        """Look at what a server that did not end well has left; called before SQLite opens the database.

        Returns:
            Why the database must not be opened; None when it may.

        Raises:
            OSError: something cannot be looked at.
        """
        self._index.spare.unlink(missing_ok=True)  # it is made anew; only the WAL holds what is nowhere else
        wal, spare = self._wal.path, self._wal.spare
        if not spare.exists() or (wal.exists() and wal.samefile(spare)):
            return None
        is_new = not wal.exists() and not self._database.stat().st_size  # whoever removed the old one begins anew
        same = wal.exists() and wal.read_bytes() == spare.read_bytes()  # the whole directory was copied
        if not is_new and not same and holds_more_than(spare, self._database):
            return (
                f"{wal.name} was removed or replaced while it was in use; {spare.name} is the same file and holds what "
                f"was acknowledged last. Rename that to {wal.name}; only if the database was written to, or replaced "
                f"by a backup, since: delete it"
            )
        spare.unlink()
        return None

    def hold(self) -> None:
        """Remember the files that SQLite has just opened, and give each a spare name where the file system can.

        Raises:
            OSError: they are not there.
        """
        for side in (self._wal, self._index):
            side.remember()
            if side.spare.exists() and not side.spare.samefile(side.path):
                side.spare.unlink()
            with suppress(OSError):  # no hard links here, or it is there already
                os.link(side.path, side.spare)
        self._content = os.open(self._wal.path, os.O_RDONLY | os.O_CLOEXEC)
        self._beginning = beginning_of(self._content, len(MAGIC[0]))

    def let_go(self) -> None:
        """Forget them, and take the spare names away."""
        if self._content is not None:
            os.close(self._content)
            self._content = None
            self._begun = False
            for side in (self._wal, self._index):
                side.identity = None
                with suppress(OSError):
                    side.spare.unlink(missing_ok=True)

    # --- in between -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """See that the WAL is what will be found; give it its name back if need be. A few microseconds.

        Raises:
            Lost: that could not be done.
            Foreign: another file is in its place, or it was overwritten.
        """
        if self._content is None:
            return
        if not self._wal.is_there():
            self._put_back(self._wal)
        begins = self._beginning()
        if begins in MAGIC:
            self._begun = True
        elif self._begun and begins:
            raise Foreign(
                f"{self._wal.path} was overwritten or cut off while in use, and with it what was acknowledged since "
                "the last checkpoint: restart the server, and see whether a backup is needed."
            )

    def check_index(self) -> None:
        """The same for the index, on which no event depends: at worst, it is without its name until the end."""
        if self._content is not None and not self._index.is_there():
            with suppress(Lost):
                self._put_back(self._index)

    def _put_back(self, side: _Side) -> None:
        in_the_way = side.path.exists()
        if in_the_way and side is self._wal and side.path.stat().st_size:
            raise Foreign(
                f"{side.path} was replaced while in use, by another program that writes: stop the server, "
                "and leave one of the two files."
            )
        try:
            self._link(side, in_the_way=in_the_way)
        except OSError as error:
            if side.is_there():
                return  # another thread was faster
            raise Lost(f"{side.path} was removed, and cannot be put back ({error.strerror})") from error
        _logger.error("%s was removed while in use. It has been put back, and nothing was lost.", side.path)

    def _link(self, side: _Side, *, in_the_way: bool) -> None:
        if identity_of(str(side.spare))() != side.identity:
            raise FileNotFoundError(errno.ENOENT, "the spare name leads elsewhere")
        if in_the_way:  # what a program made that opened the database in the meantime
            between = side.spare.with_name(side.spare.name + "~")
            between.unlink(missing_ok=True)
            os.link(side.spare, between)
            between.replace(side.path)
        else:
            os.link(side.spare, side.path)
        directory = os.open(self._database.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
