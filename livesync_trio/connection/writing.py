"""From one peer's outbox to its channel (decision 0005).

What the socket takes at once is written by the server's one flushing task (`peers`), for all peers that have something,
in one turn; only for a peer whose socket is full, or that is being closed, does a task of its own carry on. An idle
connection needs no task to write.
"""

import math

import trio

from livesync_trio.connection.channel import Channel, ChannelEnded
from livesync_trio.connection.outbox import Outbox, size_of
from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import SHED_AFTER_S, SHED_BYTES_PER_S
from livesync_trio.memory import Budget
from livesync_trio.telemetry import get_logger

_log = get_logger("connection")


class Writing:
    """The writing half of a connection."""

    __slots__ = ("_channel", "_number", "_outbox", "_sending", "due_s", "under_way")

    def __init__(self, channel: Channel, outbox: Outbox, sending: Budget, number: int) -> None:
        """`sending` is the server's budget; `number` names the connection in the log."""
        self._sending = sending
        self.due_s = math.inf
        """Until when the peer must have taken what is being written, should the server need the memory."""
        self._channel = channel
        self._outbox = outbox
        self._number = number
        self.under_way = False
        """Whether a task carries on; nobody else may write then."""

    def at_once(self) -> bool:
        """Write what the socket takes without waiting. False: `carry_on` is needed for the rest, or for the close.

        Raises:
            ChannelEnded: the peer has gone.
        """
        if self._outbox.closing is not None:
            return False
        messages = self._outbox.take()
        if self._channel.begin(messages):
            return not self._outbox.queued_bytes
        self._slow(sum(map(size_of, messages)))
        return False

    async def carry_on(self) -> None:
        """Write until nothing is left, however long the peer takes, and close if that is asked for.

        Returns when it is done; a peer that has gone or takes no bytes for the stall limit is left, with
        `Outbox.closing` set.
        """
        self.under_way = True
        outbox = self._outbox
        try:
            await self._channel.finish()
            outbox.written()
            while outbox.queued_bytes or self._channel.has_control:
                messages = outbox.take()
                if not self._channel.begin(messages):
                    self._expect(sum(map(size_of, messages)))
                    await self._channel.finish()
                outbox.written()
            if outbox.closing is not None:
                code = RULES[outbox.closing.kind].close_code or RULES[Kind.INTERNAL].close_code
                assert code is not None
                await self._channel.close(code, outbox.closing.reason)
        except ChannelEnded as ended:
            if ended.kind is not None:
                _log.warning("connection cut", connection=self._number, kind=str(ended.kind), reason=str(ended))
            outbox.close(Kind.STALLED)
        finally:
            self.under_way = False
            self.due_s = math.inf
            outbox.no_longer_slow()

    def _slow(self, unsent_bytes: int) -> None:
        self._expect(unsent_bytes)
        self._outbox.slow_from_now_on(self._sending, unsent_bytes)

    def _expect(self, unsent_bytes: int) -> None:
        self.due_s = trio.current_time() + SHED_AFTER_S + unsent_bytes / SHED_BYTES_PER_S
