"""Connections that a proxy passes on byte by byte: its PROXY header says for whom, before anything else."""

import trio

from livesync_trio.telemetry import get_logger
from livesync_trio.wire.proxy_header import BadProxyHeader, missing, source

_log = get_logger("transport")


async def client(stream: trio.abc.Stream, proxy: str, limit_s: float) -> str | None:
    """Read the header that a trusted proxy sends, and nothing behind it.

    Args:
        stream: a connection from which nothing was read yet.
        proxy: address of its other end.
        limit_s: how long the header is waited for.

    Returns:
        Whom it asks for, or itself; None: it sends no such header, or none in time.
    """
    header = bytearray()
    try:
        with trio.fail_after(limit_s):
            while more := missing(bytes(header)):
                received = await stream.receive_some(more)
                if not received:
                    return None
                header += received
        return source(bytes(header)) or proxy
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return None
    except (trio.TooSlowError, BadProxyHeader) as error:
        _log.warning(
            "a proxy sends no PROXY header; LIVESYNC_PROXY_PROTOCOL asks for one", peer=proxy, reason=str(error)
        )
        return None
