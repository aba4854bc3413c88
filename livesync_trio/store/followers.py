"""Who follows a store: live pulls at the durable head, and the one place where a publication is handed to them.

Owned by an actor. Synchronous throughout: between the first and the last follower nothing else runs.
"""

from typing import Protocol

from livesync_trio.model import LogState, Publication
from livesync_trio.telemetry import get_logger

_log = get_logger("store")


class Follower(Protocol):
    """A live pull as the actor sees it. None of these may wait."""

    def offer(self, publication: Publication) -> bool:
        """Take a durable batch. False: no room; the follower is dropped and reads on from the log by itself."""

    def dropped(self) -> None:
        """The store no longer offers anything (its actor ended, or the gap is too large): read on from the log."""

    def replaced(self, state: LogState) -> None:
        """The store was reset: there is another log now, of which the follower has seen nothing."""

    def gone(self) -> None:
        """There is no such store any more."""


class Followers:
    """The followers of one store, in the order in which they were taken on."""

    def __init__(self) -> None:
        self.members: dict[Follower, None] = {}
        """They, as keys; only looked at from outside."""

    def __len__(self) -> int:
        return len(self.members)

    def add(self, follower: Follower) -> None:
        """Take on a follower that stands exactly at the durable head."""
        self.members[follower] = None

    def discard(self, follower: Follower) -> None:
        """Forget a follower, if it is one. Leaving needs no order, so it does not pass the mailbox."""
        self.members.pop(follower, None)

    def publish(self, publication: Publication) -> int:
        """Hand a durable batch to everybody. A follower that fails is dropped; the others do not notice.

        Returns:
            How many followers had no room and were sent back to the log.
        """
        sent_back = 0
        for follower in tuple(self.members):
            try:
                taken = follower.offer(publication)
            except Exception as error:
                _log.error("follower failed", exc_info=error)
                self.members.pop(follower, None)
                follower.dropped()
                continue
            if not taken:
                self.members.pop(follower, None)
                sent_back += 1
        return sent_back

    def drop_all(self) -> None:
        """Send everybody back to the log."""
        members, self.members = self.members, {}
        for follower in members:
            follower.dropped()

    def replace_all(self, state: LogState) -> None:
        """Tell everybody that the log is another one now, and forget them."""
        members, self.members = self.members, {}
        for follower in members:
            follower.replaced(state)

    def end_all(self) -> None:
        """Tell everybody that the store is gone, and forget them."""
        members, self.members = self.members, {}
        for follower in members:
            follower.gone()
