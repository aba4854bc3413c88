"""LiveStore in a Python program: a local event log, tables made from it, commits that sync in the background.

For programs on Trio, `open_store`; for all others, `open_store_blocking`. Needs the extra `store`.
"""

try:
    import apsw as _apsw  # noqa: F401 -- to say what is missing
except ImportError as error:
    raise ImportError("a store needs apsw: pip install 'livesync-trio[store]'") from error

from livesync_trio.livestore.blocking import BlockingStore, open_store_blocking
from livesync_trio.livestore.events import Confirmed, Statement, Statements, SyncStatus, Unknown
from livesync_trio.livestore.faults import (
    BadEvent,
    BadQuery,
    BadSchema,
    EventFailed,
    LogReplaced,
    StoreClosed,
    StoreError,
    StoreInUse,
    StoreStopped,
    UnknownEvent,
    WrongFile,
)
from livesync_trio.livestore.schema import Context, Schema
from livesync_trio.livestore.store import Options, Store, open_store

__all__ = [
    "BadEvent",
    "BadQuery",
    "BadSchema",
    "BlockingStore",
    "Confirmed",
    "Context",
    "EventFailed",
    "LogReplaced",
    "Options",
    "Schema",
    "Statement",
    "Statements",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreInUse",
    "StoreStopped",
    "SyncStatus",
    "Unknown",
    "UnknownEvent",
    "WrongFile",
    "open_store",
    "open_store_blocking",
]
