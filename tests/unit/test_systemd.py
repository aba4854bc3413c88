"""What the service manager hears, on a real datagram socket; time is Trio's own, and jumps."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from livesync_trio.systemd import MANAGER_STATUS_EVERY_S, WATCHDOG_PINGS_PER_PERIOD, ServiceManager


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As it stands in `NOTIFY_SOCKET`."""
    return str(tmp_path / "notify") if request.param == "path" else f"@livesync-test-{secrets.token_hex(8)}"


@pytest.fixture
def inbox(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bound:
        bound.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        yield bound


def heard(inbox: socket.socket) -> list[list[str]]:
    """Everything told so far: the lines of each datagram."""
    messages = []
    while True:
        try:
            messages.append(inbox.recv(65536).decode().splitlines())
        except BlockingIOError:
            return messages


def test_ready_reloading_and_stopping(address: str, inbox: socket.socket) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": address})
    manager.ready()
    with manager.reloading():
        before, (reloading, when) = heard(inbox)
    manager.stopping()
    assert before == ["READY=1"]
    assert reloading == "RELOADING=1"
    assert when.removeprefix("MONOTONIC_USEC=").isdecimal()
    assert heard(inbox) == [["READY=1"], ["STOPPING=1", "STATUS=draining"]]


def test_a_reload_that_fails_ends_too(address: str, inbox: socket.socket) -> None:
    manager = ServiceManager(address)
    with pytest.raises(ZeroDivisionError), manager.reloading():
        raise ZeroDivisionError
    assert heard(inbox)[-1] == ["READY=1"]


async def test_signs_of_life_come_several_times_a_period(
    address: str, inbox: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "6000000"})
    with trio.move_on_after(12 - 0.001):
        await manager.watch(lambda: True, lambda: "fine")
    assert heard(inbox) == [["WATCHDOG=1", "STATUS=fine"]] * (2 * WATCHDOG_PINGS_PER_PERIOD)


async def test_without_a_watchdog_only_the_status_is_told_now_and_then(
    address: str, inbox: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": address})
    with trio.move_on_after(3 * MANAGER_STATUS_EVERY_S - 0.001):
        await manager.watch(lambda: True, lambda: "fine")
    assert [status for _, status in heard(inbox)] == ["STATUS=fine"] * 3


async def test_who_would_be_helped_by_a_restart_gives_no_sign_of_life(
    address: str, inbox: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    answers = iter([True, False, False, True])
    manager = ServiceManager(address, watchdog_s=3.0)
    with trio.move_on_after(3.999):
        await manager.watch(lambda: next(answers), lambda: "ok")
    messages = heard(inbox)
    assert [message[0] == "WATCHDOG=1" for message in messages] == [True, False, False, True]
    assert messages[1] == ["STATUS=ok; the database thread hangs or has ended"]


@pytest.mark.parametrize(
    ("pid", "watched"),
    [(os.getpid(), True), (os.getppid(), True), (1, False), ("", True)],
    ids=["ours", "our parent's", "another's", "not told"],
)
def test_the_watchdog_of_another_process_is_not_ours(pid: object, watched: bool) -> None:
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(pid)}
    assert ServiceManager.from_environment(environment).watchdog_s == (3.0 if watched else None)


def test_programs_we_start_cannot_speak_for_us() -> None:
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    ServiceManager.from_environment(environment)
    assert environment == {"PATH": "/bin"}


async def test_nobody_wants_to_know() -> None:
    manager = ServiceManager.from_environment({})
    manager.ready()
    with trio.fail_after(1):
        await manager.watch(lambda: True, lambda: "fine")


@pytest.mark.parametrize("address", ["/nobody/listens/here", "vsock:2:5000", "@livesync-test-nobody"])
def test_a_manager_that_cannot_be_told_disturbs_nothing(address: str) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": address})
    with manager.reloading():
        manager.ready()
    manager.stopping()


def test_a_start_may_take_as_long_as_a_migration(address: str, inbox: socket.socket) -> None:
    ServiceManager(address).starting(3_600.0)
    assert heard(inbox) == [["EXTEND_TIMEOUT_USEC=3600000000", "STATUS=opening the database"]]
