"""What a connection to a server is, whichever protocol it speaks: for as long as it lasts.

Owns the contract between what keeps a client connected (`link`), what asks (`pulling`, `backend`), and the two kinds of
connection (`socket`, `http`).
"""

from typing import Protocol

from livesync_trio.errors import Refusal
from livesync_trio.wire.answers import Done, Pages


class LostError(Exception):
    """The connection is gone. `sent`: whether the request may have reached the server."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Stream(Protocol):
    """The answer to one pull, on one connection."""

    async def receive(self) -> Pages | Done | None:
        """What comes next; None when no more will come and the pull is to be asked for again.

        May be cancelled: nothing is lost by it.
        """

    async def aclose(self) -> None:
        """Give it up; what is under way is dropped."""


class Connection(Protocol):
    """One way to the server, until it is lost."""

    knows_identity: bool
    """Whether this protocol has identities of stores."""
    answers_end: bool
    """Whether the end of a history is told; in 0.3 every pull goes on."""

    async def run(self) -> str:
        """Keep it alive until it is lost; gives why, in words.

        Raises:
            Refused: the server does not let this client in any more.
        """

    @property
    def is_lost(self) -> bool:
        """Whether it is of no use any more."""

    @property
    def was_useful(self) -> bool:
        """Whether the server has said anything."""

    def pull(self, after: int, backend_id: str | None, *, live: bool) -> Stream:
        """Ask for what comes after an event."""

    async def push(self, events: list[bytes], backend_id: str | None) -> Refusal | None:
        """Ask for a batch to be appended; gives why it was refused, None when it is durable.

        Raises:
            LostError: there was no answer.
        """

    async def ping(self) -> None:
        """Wait for a sign of life. Raises LostError when there was none in time; then the connection is given up."""
