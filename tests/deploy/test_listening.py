"""Unix sockets, sockets that systemd opens, and proxies that speak the PROXY protocol, with real server processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import pytest

from livesync_trio.systemd import inherited
from tests.cli.conftest import command, environment

LIMIT_S = 120.0


@contextmanager
def serving(
    directory: Path, *arguments: str, handed: socket.socket | None = None, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, ready or not. `handed`: what systemd would hand over as descriptor 3."""
    line = command("serve", "--database-url", f"sqlite:///{directory}/live.db", *arguments)
    descriptors: tuple[int, ...] = ()
    if handed is not None:
        descriptors = (handed.fileno(),)
        line = ["/bin/bash", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&{handed.fileno()}', *line]
    log = (directory / "log").open("ab")
    with closing(log):
        process = subprocess.Popen(
            line, cwd=directory, env=environment() | variables, pass_fds=descriptors, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def told_where(directory: Path, text: str, count: int = 1) -> None:
    """Wait for the banner, which a thread of its own writes."""
    deadline = time.monotonic() + LIMIT_S
    while (directory / "log").read_text().count(text) < count:
        assert time.monotonic() < deadline, (directory / "log").read_text()
        time.sleep(0.05)


def connected(address: str | tuple[str, int]) -> socket.socket:
    """A connection, as soon as somebody listens."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        client.settimeout(LIMIT_S)
        try:
            client.connect(address)
            return client
        except OSError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def answered(client: socket.socket, before: bytes = b"", target: str = "/health", more: str = "") -> tuple[int, bytes]:
    """Status and body of an answer, after which the connection is closed; (0, b"") when none came."""
    with closing(client):
        client.sendall(before + f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n".encode())
        received = b""
        try:
            while data := client.recv(65_536):
                received += data
        except ConnectionResetError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


def ended(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(LIMIT_S)


def test_it_listens_at_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "sync.sock")
    with serving(tmp_path, "--host", f"unix:{path}") as process:
        assert answered(connected(path))[0] == 200
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660
        told_where(tmp_path, f"listening on unix:{path}")
        asked = subprocess.run(
            command("health", "--host", f"unix:{path}"), env=environment(), capture_output=True, check=True
        )
        assert json.loads(asked.stdout)["status"] == "ok"
        (tmp_path / "second").mkdir()
        with serving(tmp_path / "second", "--host", f"unix:{path}") as second:
            assert second.wait(LIMIT_S) == 5
        assert answered(connected(path))[0] == 200
        process.kill()
        process.wait()
        assert Path(path).is_socket(), "what a killed server leaves behind"
    with serving(tmp_path, "--host", f"unix:{path}") as process:
        told_where(tmp_path, "listening on", count=2)
        assert answered(connected(path))[0] == 200
        assert ended(process) == 0


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "sync.sock"
    path.write_text("mine")
    with serving(tmp_path, "--host", f"unix:{path}") as process:
        assert process.wait(LIMIT_S) == 5
    assert path.read_text() == "mine"


@pytest.mark.parametrize("value", ["unix:relative", "unix:", "unix:/x/", "unix:/" + "x" * 200])
def test_what_is_no_path_is_told(tmp_path: Path, value: str) -> None:
    done = subprocess.run(
        command("config", "--host", value), cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"absolute path" in done.stderr


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_restart_with_a_socket_of_systemd_loses_no_connection_attempt(
    tmp_path: Path, family: socket.AddressFamily
) -> None:
    with closing(socket.socket(family)) as listening:
        listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "sync.sock"))
        listening.listen(64)
        address = listening.getsockname()
        with serving(tmp_path, handed=listening) as process:
            assert answered(connected(address))[0] == 200
            assert ended(process) == 0
        waiting = [connected(address) for _ in range(20)]  # while no server runs
        with serving(tmp_path, "--port", "1", handed=listening) as process:  # what is handed over counts
            assert [answered(client)[0] for client in waiting] == [200] * 20
            assert ended(process) == 0


def test_what_is_handed_over_is_judged_as_what_it_is(tmp_path: Path) -> None:
    """A socket that the network reaches needs tokens, although the settings name no such address."""
    with closing(socket.socket()) as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        with serving(tmp_path, handed=listening) as process:
            assert process.wait(LIMIT_S) == 2
        assert "refusing to listen" in (tmp_path / "log").read_text()


def test_what_does_not_listen_is_refused(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        with serving(tmp_path, handed=datagrams) as process:
            assert process.wait(LIMIT_S) == 5


def test_descriptors_of_another_process_are_left_alone() -> None:
    given = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "OTHER": "x"}
    assert inherited(given) == []
    assert given == {"OTHER": "x"}
    assert inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}) == [3, 4]
    assert inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == []


# --- the PROXY protocol ----------------------------------------------------------------------------------------------


@attrs.frozen
class Proxied:
    """Where it listens, and where it records who came."""

    address: tuple[str, int]
    audit: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """A server that trusts a proxy at 127.0.0.1 only, which speaks the PROXY protocol."""
    directory = tmp_path_factory.mktemp("proxied")
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        settings = {
            "LIVESYNC_TRUSTED_PROXIES": "127.0.0.1",
            "LIVESYNC_PROXY_PROTOCOL": "true",
            "LIVESYNC_AUDIT_LOG": str(directory / "audit.jsonl"),
            "AUTH_TOKEN": "a-token-for-these-tests",
        }
        with serving(directory, handed=listening, **settings):
            yield Proxied(listening.getsockname(), directory / "audit.jsonl")


def from_stranger(address: tuple[str, int]) -> socket.socket:
    """A connection from an address that is no proxy."""
    client = socket.socket()
    client.settimeout(LIMIT_S)
    client.bind(("127.0.0.2", 0))
    client.connect(address)
    return client


V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 443\r\n"


def test_a_trusted_proxy_names_the_client(site: Proxied) -> None:
    assert answered(connected(site.address), V1)[0] == 200
    assert answered(connected(site.address), b"PROXY UNKNOWN\r\n")[0] == 200


@pytest.mark.parametrize("before", [b"", b"PROXY TCP4 nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"])
def test_a_trusted_proxy_that_sends_no_header_is_not_served(site: Proxied, before: bytes) -> None:
    assert answered(connected(site.address), before)[0] == 0
    assert answered(connected(site.address), V1)[0] == 200


def test_nobody_else_may_send_one(site: Proxied) -> None:
    assert answered(from_stranger(site.address))[0] == 200
    assert answered(from_stranger(site.address), V1)[0] == 400


UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    ("before", "forwarded", "who"),
    [
        (V1, "", "203.0.113.7"),
        (V1, "X-Forwarded-For: 198.51.100.1\r\n", "203.0.113.7"),
        (b"PROXY UNKNOWN\r\n", "X-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"),
    ],
)
def test_the_client_that_is_named_is_the_one_that_counts(
    site: Proxied, before: bytes, forwarded: str, who: str
) -> None:
    """What it says itself of others is believed only if it is a trusted proxy, too."""
    store = f"s{who}{len(forwarded)}"
    assert answered(connected(site.address), before, f"/?storeId={store}&transport=ws", UPGRADE + forwarded)[0] == 401
    deadline = time.monotonic() + LIMIT_S
    while store not in site.audit.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    (act,) = [act for line in site.audit.read_text().splitlines() if (act := json.loads(line))["store"] == store]
    assert act["from"].partition(":")[0] == who
