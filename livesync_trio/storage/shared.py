"""The part of the storage contract for a database that several servers use: how they hear of each other's writes.

What is said and heard is a hint. The truth is in the database, which whoever hears looks at (decision 0004).
"""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import attrs

from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Engine


class News(Protocol):
    """A handle that tells other servers what has changed, and looks what they have. Used by one thread at a time."""

    def tell(self, store_ids: Iterable[StoreId] | None) -> None:
        """Tell the other servers that the logs of these stores have changed, None: that any may have.

        Said once it is durable.

        Raises:
            StorageUnavailable: nobody was told; try again later.
        """

    def alone(self, session: int) -> bool:
        """Whether what is told here is heard by nobody but that `Listener.session`; False where that is not known.

        Raises:
            StorageUnavailable: try again later.
        """

    def states(self, store_ids: Iterable[StoreId]) -> dict[StoreId, LogState]:
        """States of those of the stores that exist.

        Raises:
            StorageUnavailable: try again later.
        """

    def close(self) -> None:
        """Release the handle."""


@attrs.frozen
class Heard:
    """What a listener has heard.

    Attributes:
        stores: those that were told of; None for "look at all of them".
        arrived: another server has begun to listen.
    """

    stores: set[StoreId] | None
    arrived: bool = False


class Listener(Protocol):
    """A handle that hears what other servers tell from the moment it was made. Used by one thread at a time.

    What it hears is a hint: it may come twice, late, or not at all. From before it hears anything it is seen by
    `News.alone`, and once it hears, the others hear that it has arrived.
    """

    session: int
    """Tells it from others. Made by the database."""

    def fileno(self) -> int:
        """Descriptor that becomes readable when there is something to hear, or nothing will ever be heard again.

        Raises:
            StorageUnavailable: the handle is of no more use; things may have been missed.
        """

    def hear_nowait(self) -> Heard:
        """What was told since it was last asked. Never waits.

        Raises:
            StorageUnavailable: the handle is of no more use; things may have been missed.
        """

    def check(self) -> None:
        """Find out whether the other end is still there.

        Raises:
            StorageUnavailable: it is not; as above.
        """

    def close(self) -> None:
        """Release the handle."""


@runtime_checkable
class SharedEngine(Engine, Protocol):
    """A database that several servers use at once, and whose schema an operator may bring up to date."""

    def news(self) -> News:
        """A new handle; may be called from any thread."""

    def listener(self) -> Listener:
        """A new handle, listening; may be called from any thread.

        Raises:
            StorageUnavailable: cannot listen now; try again later.
        """

    def pending(self) -> tuple[list[str], list[str]]:
        """Steps of the schema that the database has not seen, in words.

        Returns:
            Those without which this version does not serve, and those that may wait.

        Raises:
            StartupError, StorageUnavailable: as `open`.
        """

    def script(self) -> str:
        """These steps as SQL, for an operator. Raises as `open`."""

    def migrate(self, *, finish: bool) -> None:
        """Apply them. `finish`: also those that no older server could bear. Raises as `open`."""
