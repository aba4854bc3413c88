"""Streams of bytes to a server, which all protocols go through: over TCP, with TLS, or as a program opens them."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from livesync_trio.client.address import Address
from livesync_trio.client.failures import Offline
from livesync_trio.client.limits import CLIENT_CONNECT_LIMIT_S

Dial = Callable[[Address], Awaitable[trio.abc.Stream]]
"""Opens a stream of bytes to a server, encrypted where its address says so. May raise OSError."""

TOO_LATE: Final = f"it did not answer within {CLIENT_CONNECT_LIMIT_S:g} s"


async def dial(address: Address) -> trio.abc.Stream:
    """Connect over TCP, with TLS where the address says so."""
    if not address.secure:
        return await trio.open_tcp_stream(address.host, address.port)
    stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, https_compatible=True)
    await stream.do_handshake()
    return stream


@contextmanager
def told(address: Address, deadline: float) -> Iterator[None]:
    """Tell what goes wrong while a connection is opened. Raises Offline."""
    try:
        with trio.fail_at(deadline):
            yield
    except trio.TooSlowError:
        raise Offline(f"{address.place}: {TOO_LATE}.") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise Offline(f"{address.place}: {cause_of(error)}.") from error


def cause_of(error: BaseException) -> str:
    """Why it was not to be had, in a few words: of several addresses that were tried, the first one."""
    reason = error.__cause__ or error
    while isinstance(reason, BaseExceptionGroup):
        reason = reason.exceptions[0]
    return getattr(reason, "strerror", None) or str(reason)
