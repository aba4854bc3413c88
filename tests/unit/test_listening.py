"""Every address of the machine is both families; what is missing is said; what cannot be had is refused."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from livesync_trio import listening
from livesync_trio.errors import Kind, StartupError
from livesync_trio.listening import LISTEN_ATTEMPTS_MAX, listen, open_listeners


class Machine(trio.abc.HostnameResolver):
    """A machine on which some addresses cannot be bound. Wildcards are bound on loopback, where tests may listen."""

    def __init__(self) -> None:
        self.missing: tuple[str, ...] = ()
        self.taken: list[str] = []
        self.names: dict[str, list[str]] = {}
        self._open = trio.open_tcp_listeners

    async def open_tcp_listeners(self, port: int, *, host: str) -> Sequence[trio.SocketListener]:
        if host in self.missing:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        if host in self.taken:
            self.taken.remove(host)
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return await self._open(port, host={"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host))

    async def check_ipv6(self) -> None:
        if "::1" in self.missing:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    async def getaddrinfo(self, host: Any, port: Any, *how: Any) -> Any:
        addresses = self.names.get(host.decode() if isinstance(host, bytes) else host)
        if addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for address in addresses for entry in socket.getaddrinfo(address, port, *how)]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    it = Machine()
    monkeypatch.setattr(trio, "open_tcp_listeners", it.open_tcp_listeners)
    monkeypatch.setattr(listening, "_check_ipv6", it.check_ipv6)
    trio.socket.set_custom_hostname_resolver(it)  # ends with this test's run of Trio
    return it


async def test_ipv6_is_looked_for_where_it_must_be() -> None:
    await listening._check_ipv6()
    with trio.socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        await probe.bind(("::1", 0))


def addresses(listeners: list[trio.SocketListener]) -> list[str]:
    found = [listener.socket.getsockname()[:2] for listener in listeners]
    for listener in listeners:
        listener.socket.close()
    assert len({port for _, port in found}) == 1, "one port, whatever the family"
    return [host for host, _ in found]


async def test_every_address_is_both_families_on_one_port(machine: Machine) -> None:
    assert addresses(await open_listeners("::", 0)) == ["::1", "127.0.0.1"]
    assert addresses(await open_listeners("0:0::0", 0)) == ["::1", "127.0.0.1"]
    assert addresses(await open_listeners("0.0.0.0", 0)) == ["127.0.0.1"]


async def test_both_families_are_served() -> None:
    """Really, with clients: on the names of loopback, since a test listens nowhere else."""
    listeners = await open_listeners("::1", 0) + await open_listeners("127.0.0.1", 0)

    async def echo(stream: trio.SocketStream) -> None:
        await stream.send_all(await stream.receive_some())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, echo, listeners)
            for listener in listeners:
                async with await trio.open_tcp_stream(*listener.socket.getsockname()[:2]) as client:
                    await client.send_all(b"hello")
                    assert await client.receive_some() == b"hello"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("missing", "left"), [("::1", ["127.0.0.1"]), ("::", ["127.0.0.1"]), ("0.0.0.0", ["::1"])])
async def test_a_family_that_is_not_there_is_said_and_the_other_served(
    machine: Machine, missing: str, left: list[str]
) -> None:
    machine.missing = (missing,)
    with capture_logs() as lines:
        assert addresses(await open_listeners("::", 0)) == left
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("an address cannot be listened on", "warning")
    assert line["address"] == ("0.0.0.0" if missing == "0.0.0.0" else "::")


async def test_a_name_with_an_address_that_is_not_there_is_served_on_the_others(machine: Machine) -> None:
    machine.names["localhost"] = ["::1", "127.0.0.1"]
    machine.missing = ("::1",)
    with capture_logs() as lines:
        assert addresses(await open_listeners("localhost", 0)) == ["127.0.0.1"]
    assert [line["address"] for line in lines] == ["::1"]


async def test_half_of_it_is_not_taken_from_somebody_else(machine: Machine) -> None:
    machine.taken = ["0.0.0.0"]
    with pytest.raises(StartupError, match="Another program listens there") as error:
        await listen("::", 45_999, ":: (given by HOST), port 45999 (given by PORT)")
    assert error.value.kind is Kind.CANNOT_LISTEN
    assert ":: (given by HOST), port 45999 (given by PORT)" in str(error.value)
    addresses(await open_listeners("::1", 45_999))  # nothing was left open


async def test_a_free_port_is_looked_for_that_is_free_on_both(machine: Machine) -> None:
    machine.taken = ["0.0.0.0"]
    assert addresses(await open_listeners("::", 0)) == ["::1", "127.0.0.1"]
    machine.taken = ["0.0.0.0"] * LISTEN_ATTEMPTS_MAX
    with pytest.raises(OSError, match="in use"):
        await open_listeners("::", 0)


@pytest.mark.parametrize("host", ["x86_64-unknown", "a" * 64 + ".example"])
async def test_a_name_that_is_none_says_where_it_came_from(machine: Machine, host: str) -> None:
    with pytest.raises(StartupError, match="LIVESYNC_HOST") as error:
        await listen(host, 0, f"{host} (given by HOST), port 8000 (the default)")
    assert f"{host} (given by HOST)" in str(error.value)


async def test_no_address_at_all_is_refused(machine: Machine) -> None:
    machine.missing = ("::1", "0.0.0.0")
    with pytest.raises(StartupError, match="does not have that address"):
        await listen("::", 0, "::")
