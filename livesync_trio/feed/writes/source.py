"""The connections over which clients' changes are written to the source, few and shared by all clients."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import psycopg
import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.feed.access import View
from livesync_trio.feed.source import connect
from livesync_trio.feed.writes.applying import Outcome, apply_writes
from livesync_trio.feed.writes.parsing import Write, WriteRefused
from livesync_trio.storage.postgresql.connection import Connection

FEED_WRITE_CONNECTIONS: Final = 4
"""Connections to the source for what clients write; who finds none waits."""

FEED_WRITE_LOOKS: Final = 20
FEED_WRITE_LOOK_PAUSE_S: Final = 0.25
"""How often, and after which pause, the source is asked what became of a commit whose answer was lost."""

_NOTHING: Final = "The source cannot be written to now, and nothing was changed. Send it again."
_UNCLEAR: Final = "The source was lost, and whether this was written is not known. Send it again: that does no harm."


class SourceWriter:
    """Writes to the source."""

    def __init__(self, url: str) -> None:
        """`url`: of the source, as the role that may write. Nothing is opened yet."""
        self._url = url
        self._limiter = trio.CapacityLimiter(FEED_WRITE_CONNECTIONS)
        self._idle: list[Connection] = []

    async def write(self, writes: Sequence[Write], view: View, before_commit: Callable[[Outcome], None]) -> Outcome:
        """Make changes in one transaction; goes on to its end when it is cancelled.

        Args:
            writes: the changes, in their order.
            view: what the client may see and write.
            before_commit: see `apply_writes`; called in the Trio thread.

        Raises:
            WriteRefused: none was made.
            StorageUnavailable: none was made, or it is not known; the message says which.
        """

        def tell(outcome: Outcome) -> None:
            trio.from_thread.run_sync(before_commit, outcome)

        with trio.CancelScope(shield=True):
            outcome, is_clear = await trio.to_thread.run_sync(self._write, writes, view, tell, limiter=self._limiter)
        if not is_clear:
            await self._look_for(outcome)
        return outcome

    def close(self) -> None:
        """Let go of the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _write(self, writes: Sequence[Write], view: View, tell: Callable[[Outcome], None]) -> tuple[Outcome, bool]:
        """Gives whether it is clear that it was committed, too."""
        about_to_commit: list[Outcome] = []

        def before_commit(outcome: Outcome) -> None:
            tell(outcome)
            about_to_commit.append(outcome)

        connection = self._connection()
        try:
            outcome = apply_writes(connection, writes, view, before_commit)
        except psycopg.Error as error:
            connection.close()
            if not about_to_commit:
                raise StorageUnavailable(_NOTHING) from error
            return about_to_commit[0], False
        except WriteRefused:
            self._idle.append(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return outcome, True

    def _connection(self) -> Connection:
        """One that answers, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            try:
                connection.execute("SELECT 1")
            except psycopg.Error:
                connection.close()
            else:
                return connection
        try:
            return connect(self._url)
        except psycopg.Error as error:
            raise StorageUnavailable(_NOTHING) from error

    async def _look_for(self, outcome: Outcome) -> None:
        """Find out what became of a commit whose answer was lost. Raises StorageUnavailable unless it is there."""
        for _ in range(FEED_WRITE_LOOKS):
            status = await trio.to_thread.run_sync(self._status, str(outcome.xid), limiter=self._limiter)
            if status == "committed":
                return
            if status == "aborted":
                raise StorageUnavailable(_NOTHING)
            await trio.sleep(FEED_WRITE_LOOK_PAUSE_S)
        raise StorageUnavailable(_UNCLEAR)

    def _status(self, xid: str) -> str | None:
        """What the source says of a transaction; None when it cannot be asked."""
        with suppress(psycopg.Error), connect(self._url) as connection:
            [(status,)] = connection.execute("SELECT pg_xact_status(%s::text::xid8)", (xid,)).fetchall()
            return None if status is None else str(status)
        return None
