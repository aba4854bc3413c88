"""Connections that a proxy passes on byte by byte: its PROXY header says for whom, before anything else."""

import ipaddress
import re
from typing import Final

import trio

from livesync_trio.telemetry import get_logger

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""How a header of version 2 begins."""

V2_MAX_BYTES: Final = 4_096
"""Longest body of a header of version 2 that is read. Proxies send a few hundred bytes: addresses, perhaps a name."""

_V1: Final = b"PROXY "
_V1_MAX_BYTES: Final = 107
"""Longest header of version 1, by its specification."""
_V2_FIXED: Final = 16
"""Bytes of a header of version 2 before its body."""

_LINE: Final = re.compile(rb"PROXY (?:(TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5})|UNKNOWN(?: [^\r\n]*)?)\r\n")

_LOCAL, _PROXIED = 0x20, 0x21
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_FAMILIES: Final[dict[int, tuple[int, type[_Address]]]] = {
    0x11: (4, ipaddress.IPv4Address),
    0x21: (16, ipaddress.IPv6Address),
}
"""Length of an address and what it is, for TCP over each family."""


_OF_V1: Final = {b"TCP4": 0x11, b"TCP6": 0x21}


class BadProxyHeader(ValueError):
    """The bytes are no header of the PROXY protocol."""


def missing(header: bytes) -> int:
    """How many bytes may be read without reading anything behind the header; 0: it is whole.

    Args:
        header: what has been read so far.

    Raises:
        BadProxyHeader: this is none.
    """
    begin = header[: len(SIGNATURE)]
    if begin == SIGNATURE[: len(begin)]:
        if len(header) < _V2_FIXED:
            return _V2_FIXED - len(header) if len(header) >= len(SIGNATURE) else len(SIGNATURE) - len(header)
        length = int.from_bytes(header[14:16])
        if length > V2_MAX_BYTES:
            raise BadProxyHeader(f"its body of {length} bytes is too long")
        return _V2_FIXED + length - len(header)
    if header[: len(_V1)] != _V1[: len(header)]:
        raise BadProxyHeader("it begins with something else")
    if header.endswith(b"\r\n"):
        return 0
    if len(header) >= _V1_MAX_BYTES:
        raise BadProxyHeader("its line is too long")
    if len(header) < len(SIGNATURE):
        return len(SIGNATURE) - len(header)
    return 1 if header.endswith(b"\r") or len(header) == _V1_MAX_BYTES - 1 else 2


def source(header: bytes) -> str | None:
    """Whom the proxy asks for, as `host:port` or `[host]:port`; None when it asks for itself, or does not say.

    Args:
        header: a whole one, for which `missing` is 0.

    Raises:
        BadProxyHeader: it cannot be understood.
    """
    return _source_of_v2(header) if header.startswith(SIGNATURE) else _source_of_v1(header)


def _source_of_v1(header: bytes) -> str | None:
    found = _LINE.fullmatch(header)
    if found is None:
        raise BadProxyHeader("its line cannot be understood")
    if found[1] is None:
        return None
    try:
        _, kind = _FAMILIES[_OF_V1[found[1]]]
        host, _ = kind(found[2].decode("ascii")), kind(found[3].decode("ascii"))
    except ValueError as error:
        raise BadProxyHeader(str(error)) from None
    return _told(host, int(found[4]))


def _source_of_v2(header: bytes) -> str | None:
    command, family = header[12], header[13]
    if command == _LOCAL:
        return None
    if command != _PROXIED:
        raise BadProxyHeader(f"its command is {command:#x}")
    if family not in _FAMILIES:
        return None  # a Unix socket, or something that is not TCP
    size, kind = _FAMILIES[family]
    body = header[_V2_FIXED:]
    if len(body) < 2 * size + 4:
        raise BadProxyHeader("its addresses are cut off")
    return _told(kind(body[:size]), int.from_bytes(body[2 * size : 2 * size + 2]))


def _told(host: _Address, port: int) -> str:
    if port > 0xFFFF:
        raise BadProxyHeader(f"there is no port {port}")
    return f"{host}:{port}" if host.version == 4 else f"[{host}]:{port}"


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
