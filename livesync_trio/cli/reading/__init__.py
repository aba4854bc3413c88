"""Looking at stores: one `StoreReader`, of a database or of a running server.

Owns the questions; the commands print the answers. `database` reads a database beside whatever server uses it,
`server` asks the control plane of a running one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from livesync_trio.cli.databases import database_to_read
from livesync_trio.cli.reading.control_plane import ControlPlane
from livesync_trio.cli.reading.database import DatabaseReader
from livesync_trio.cli.reading.event import Event
from livesync_trio.cli.reading.server import ServerReader
from livesync_trio.config import load
from livesync_trio.model import StoreId
from livesync_trio.wire.choice import Choice


class StoreReader(Protocol):
    """Where stores can be looked at. Everything raises CommandError, also when there is no such store."""

    def stores(self, containing: str) -> Iterator[dict[str, Any]]:
        """Every store whose name has this text in it, in the order of their names."""

    def events(self, store_id: StoreId, after: int, choice: Choice) -> Iterator[Event]:
        """Wanted events of a store behind a number, oldest first."""

    def newest(self, store_id: StoreId, choice: Choice) -> Iterator[Event]:
        """Wanted events of a store, newest first."""

    def tail(self, store_id: StoreId, after: int | None) -> Iterator[Event]:
        """Events as they come, without end; from the head on when `after` is None."""

    def info(self) -> dict[str, Any]:
        """What it is."""


@contextmanager
def reading(url: str | None, flags: dict[str, Any]) -> Iterator[StoreReader]:
    """The running server at `url`, or the database that the flags name. Raises StartupError or CommandError."""
    config = load(flags, os.environ)
    if url is not None:
        plane = ControlPlane(url, config.admin_secret)
        with plane.understood():
            yield ServerReader(plane)
        return
    with database_to_read(config) as engine:
        reader = engine.reader()
        try:
            yield DatabaseReader(engine, reader)
        finally:
            reader.close()
