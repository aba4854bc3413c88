"""How a receiver is connected to: resolved, checked, and then connected to at the address that was checked.

Owns the connection below httpcore, which does HTTP and TLS on it. TLS verifies the name of the URL, whatever the
address.
"""

import socket
import typing
from collections.abc import Awaitable, Callable, Iterable

import httpcore
import trio

from livesync_trio.config.webhooks import names_this_machine
from livesync_trio.delivery.addresses import is_loopback, is_public
from livesync_trio.limits import WEBHOOKS_MAX

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
