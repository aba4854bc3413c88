"""Writing to a peer that may be slow, but not dead (design.md, law 4)."""

import trio

from livesync_trio.limits import WRITE_SLICE_BYTES


class PeerGone(Exception):
    """The bytes cannot be delivered. `stalled`: the peer is there, but took none for the stall limit."""

    def __init__(self, message: str, *, stalled: bool) -> None:
        super().__init__(message)
        self.stalled = stalled


async def send_patiently(stream: trio.abc.Stream, data: bytes, stall_limit_s: float) -> None:
    """Send all bytes, however long that takes, as long as the peer takes some within each stall limit.

    Raises:
        PeerGone: it closed, broke, or stalled. How much arrived is unknown.
    """
    view = memoryview(data)
    try:
        for start in range(0, len(view), WRITE_SLICE_BYTES):
            with trio.move_on_after(stall_limit_s) as patience:
                await stream.send_all(view[start : start + WRITE_SLICE_BYTES])
            if patience.cancelled_caught:
                raise PeerGone(f"took no bytes for {stall_limit_s:g} s", stalled=True)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise PeerGone("the peer has gone", stalled=False) from None
