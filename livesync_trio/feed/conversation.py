"""What is said to one client of the feed, in its dialect, and the acknowledgements that are waited for."""

import time
from typing import Any

import trio

from livesync_trio.connection.outbox import Outbox
from livesync_trio.feed.messages import Dialect, encode, wire_name


class Speaker:
    """Makes the messages to one client: numbers them, and speaks its dialect."""

    def __init__(self, client_id: str, dialect: Dialect) -> None:
        self._client_id = client_id
        self.first = dialect == "first"
        self._number = 0

    def say(self, kind: str, now_ms: int, **fields: Any) -> bytes:
        """A message. `now_ms`: milliseconds since 1970."""
        self._number += 1
        head = {
            "type": kind,
            "messageId": f"srv_{now_ms}_{self._number}",
            "timestamp": now_ms,
            "clientId": self._client_id,
        }
        return encode({**head, **fields})

    def table_in_sequence(self, table: str) -> str:
        """A table's name where a client gives it back: the original puts it in quotes there."""
        return f'"{wire_name(table)}"'

    @property
    def catchup_kind(self) -> str:
        """The type of a chunk that waits for its acknowledgement."""
        return "srv_send_changes" if self.first else "srv_catchup_changes"

    @property
    def live_kind(self) -> str:
        """The type of live changes."""
        return "srv_send_changes" if self.first else "srv_live_changes"

    @property
    def completed_kind(self) -> str:
        """The type that ends a catch-up."""
        return "srv_sync_completed" if self.first else "srv_catchup_completed"


class NotAcknowledged(Exception):
    """A message was not acknowledged in time; says which."""


class Conversation:
    """One side of the conversation. No chunk has the number of another, so that no old acknowledgement fits it."""

    def __init__(self, outbox: Outbox, client_id: str, dialect: Dialect) -> None:
        """Nothing is said yet."""
        self.speaker = Speaker(client_id, dialect)
        self._outbox = outbox
        self._awaited: tuple[object, ...] | None = None  # the acknowledgement that counts now
        self._acknowledged = trio.Event()
        self._chunks: dict[str, int] = {}

    def say(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        self._outbox.put(self.speaker.say(kind, time.time_ns() // 1_000_000, **fields))

    async def room(self) -> None:
        """Wait until the client has taken most of what was sent."""
        await self._outbox.low()

    def next_chunk(self, of: str) -> int:
        """Number of the next chunk of its kind, from 1."""
        self._chunks[of] = self._chunks.get(of, 0) + 1
        return self._chunks[of]

    async def say_and_wait(self, limit_s: float, awaited: tuple[object, ...], kind: str, **fields: Any) -> None:
        """Send what must be acknowledged, and wait for that. Raises NotAcknowledged."""
        self._awaited, self._acknowledged = awaited, trio.Event()
        self.say(kind, **fields)
        with trio.move_on_after(limit_s):
            await self._acknowledged.wait()
            return
        raise NotAcknowledged(f"A message ({kind}) was not acknowledged within {limit_s:g} s.")

    def acknowledge(self, *what: object) -> None:
        """The client has acknowledged something; only what is waited for counts."""
        if what == self._awaited:
            self._awaited = None
            self._acknowledged.set()
