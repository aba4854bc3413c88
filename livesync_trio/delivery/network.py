"""How a receiver is connected to: resolved, checked, and then connected to at the address that was checked.

Owns the connection below httpcore, which does HTTP and TLS on it (TLS verifies the name of the URL, whatever the
address), and the decision where a webhook may lead: to the public internet, unless an operator allows a host by name.
That is decided about the very address to which the connection then goes, each time one is opened, so that a name that
resolves to something else a moment later leads nowhere.
"""

import ipaddress
import socket
import typing
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import httpcore
import trio

from livesync_trio.config.webhooks import names_this_machine
from livesync_trio.limits import WEBHOOKS_MAX

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, in whatever disguise it comes."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return _is_public(inner)
        if address.teredo is not None:
            return False
    return _is_public(address)


def _is_public(address: Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def is_loopback(text: str) -> bool:
    """Whether an address is this machine."""
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host. Raises OSError when there are none."""


class Refused(httpcore.ConnectError):
    """The host leads to an address to which nothing may be sent."""


class SystemResolver:
    """Asks the system, in threads of its own: names that nobody answers for must not take those of others."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(WEBHOOKS_MAX)

    async def __call__(self, host: str, port: int) -> list[str]:
        """See `Resolve`."""
        found = await trio.to_thread.run_sync(_addresses, host, port, limiter=self._threads, abandon_on_cancel=True)
        return list(dict.fromkeys(found))


def _addresses(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to where they may lead (`addresses`)."""

    def __init__(self, resolve: Resolve, allowed_hosts: Iterable[str] = ()) -> None:
        """`allowed_hosts` may have any address."""
        self._resolve = resolve
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[typing.Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers, among those that may be connected to.

        Raises:
            Refused: there is no such address.
            httpcore.ConnectError, httpcore.ConnectTimeout: as httpcore's own.
        """
        host = host.strip("[]")
        failure: Exception = httpcore.ConnectError("the host has no address")
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            addresses = await self._permitted(host, port)
            each_s = (
                None if timeout is None else timeout / len(addresses)
            )  # one that does not answer leaves others time
            for address in addresses:
                try:
                    return await self._trio.connect_tcp(address, port, each_s, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    failure = error
            raise failure
        raise httpcore.ConnectTimeout("it took too long to connect")

    async def _permitted(self, host: str, port: int) -> list[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the host cannot be found: {error}") from error
        if host.lower() in self._allowed_hosts:
            return addresses
        may = is_loopback if names_this_machine(host) else is_public
        permitted = list(filter(may, addresses))
        if not permitted:
            raise Refused("the host leads to an address that is not public; the server's operator can allow it by name")
        return permitted

    async def connect_unix_socket(self, *_: typing.Any, **__: typing.Any) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise Refused("not to a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await trio.sleep(seconds)
