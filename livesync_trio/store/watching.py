"""Looks whether the database threads hang, and whether what could not be read can be read again.

Owns the lines about it, each said once. Changes nothing: a thread that hangs can be helped by nobody in this process.
"""

from typing import Final

import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.store.persistence import Writer
from livesync_trio.store.readers import PROBE_STORE, ThreadReaders
from livesync_trio.telemetry import get_logger

STORAGE_SLOW_S: Final = 10.0
"""A transaction under way for longer than this is told of in /health and the log. PostgreSQL has given up by then."""

STORAGE_WATCH_S: Final = 1.0
"""How often it is looked whether database threads hang, and whether what could not be read can be read again."""

_log = get_logger("store")


def hangs(writer: Writer) -> bool:
    """Whether a transaction takes so long that nobody should wait for it."""
    return not writer.alive or writer.turn_age_s >= STORAGE_SLOW_S


async def watch(writer: Writer, readers: ThreadReaders) -> None:
    """Look until cancelled."""
    hung, readable = False, True
    while True:
        await trio.sleep(STORAGE_WATCH_S)
        if hung != hangs(writer):
            hung = not hung
            if hung:
                _log.error("a database thread hangs", seconds=round(writer.turn_age_s))
            else:
                _log.info("the database thread goes on")
        if not readers.healthy:
            if readable:
                readable = False
                _log.error("storage cannot be read")
            try:
                await readers.ask(lambda handle: handle.state(PROBE_STORE))
            except StorageUnavailable:
                continue
        if not readable and readers.healthy:
            readable = True
            _log.info("storage can be read again")
