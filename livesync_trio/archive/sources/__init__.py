"""Where logs come from: one module for each kind of source, and what all of them give.

A source tells its stores, and the events of each, as often as they are asked for. `opening` finds the source that an
operator names.
"""

from collections.abc import Iterator
from typing import Protocol

import attrs

from livesync_trio.archive.entries import Entry
from livesync_trio.model import BackendId, StoreId


@attrs.frozen
class SourceStore:
    """A log that could come in.

    Attributes:
        place: where the source keeps it: a table, a line of a file.
        store_id: the store's name, as far as the source tells.
        backend_id: its identity, None where the source has none.
        head: number of the last event its server has promised to clients; None where the source does not say.
        events: how many there are, for a progress bar; None where only walking through them would tell.
        problems: why it cannot come in, in words.
        notes: what the operator should know.
    """

    place: str
    store_id: StoreId
    backend_id: BackendId | None = None
    head: int | None = None
    events: int | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Something that holds logs."""

    def describe(self) -> str:
        """What it is, for the operator; without secrets."""

    def stores(self) -> list[SourceStore]:
        """Its stores.

        Raises:
            CommandError: it cannot be read, or is not what it should be.
        """

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        """Events of one store in the order of their numbers, from the first. May be asked again and again.

        Raises:
            Broken: an event is none.
            CommandError: it cannot be read any more.
        """

    def close(self) -> None:
        """Release it."""
